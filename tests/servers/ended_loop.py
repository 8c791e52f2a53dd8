"""A process whose loops are closed with gRPC calls open that nobody cancels; prints what its mesh makes of each.

gRPC keeps its poller thread for such a call, so that this is nothing for the process of the tests. Each line is
``{"case": …, "in_flight": […], "told": …, "done": …, "error": …}``: in flight before and after, and as the mesh's state
says before anything else has settled it; whether a call that was kept says that it is over; what was raised by the way.
``below``: a policy in a stock channel's interceptors.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import grpc.aio

from svcmesh import Mesh, Policy, Retry
from svcmesh.grpc import aio_client_interceptors
from svcmesh.transport.grpc.aio import flow
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.transport.grpc.kit import in_flight, ping, soon, started

HANGING: dict[str, Any] = {"metadata": (("x-hang", "1"),)}


async def unary(stub: Any) -> Any:
    return stub.Unary(ping(), **HANGING)


async def awaited(stub: Any) -> Any:
    async def wait() -> Any:
        return await stub.Unary(ping(), **HANGING)

    return asyncio.ensure_future(wait())


async def watched(stub: Any) -> Any:
    call = stub.Unary(ping(), **HANGING)
    call.add_done_callback(print)
    return call


async def repeated(stub: Any) -> Any:
    """A call whose second attempt, which the machine has open, hangs."""
    return stub.Unary(ping(), metadata=(("x-id", uuid4().hex), ("x-fail", "UNAVAILABLE:1"), ("x-hang-after", "1")))


async def server_stream(stub: Any) -> Any:
    call = stub.ServerStream(ping(count=10**6))
    await call.read()
    return call


async def client_stream(stub: Any) -> Any:
    call = stub.ClientStream()
    await call.write(ping())
    return call


async def written(stub: Any) -> Any:
    call = stub.BidiStream()
    await call.write(ping())
    await call.read()
    return call


async def unsettled(stub: Any) -> Any:
    """A call that has failed, while it is not clear yet whether with the server's own status."""
    ids = (("x-id", uuid4().hex), ("x-fail", "INVALID_ARGUMENT:1"))
    flow.PROVISIONAL = "asked to fail: 1"  # the server's words, in the place of gRPC's for that
    flow.PROVISIONAL_LOOKS = 10**6
    call = stub.ClientStream(metadata=ids)
    await call.done_writing()
    await soon(lambda: call._course._later is not None, "it has not failed")
    return call


async def iterated(stub: Any) -> Any:
    async def requests() -> AsyncIterator[Any]:
        yield ping()
        await asyncio.sleep(600)

    call = stub.BidiStream(requests())
    await call.read()
    return call


class Passing(grpc.aio.UnaryUnaryClientInterceptor):
    """Does nothing."""

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details, request)


Begin = Callable[[Any], Awaitable[Any]]
CASES: dict[str, tuple[Begin, list[Any], int]] = {
    "unary": (unary, [], 1),
    "awaited": (awaited, [], 1),
    "watched": (watched, [], 1),
    "repeated": (repeated, [], 2),
    "server_stream": (server_stream, [], 1),
    "client_stream": (client_stream, [], 1),
    "written": (written, [], 1),
    "iterated": (iterated, [], 1),
    "unsettled": (unsettled, [], 1),
    "intercepted": (unary, [Passing()], 1),
}
"""How it begins, the channel's interceptors, and how many attempts have started by then."""


POLICY = Policy(idempotent=True, retry=Retry(max_attempts=2))


def leave(counted: Any, channel: Callable[[], Any], begin: Begin, attempts: int) -> Any:
    """Begin a call on a loop and close that; return the call. What has a view counts the attempts."""

    async def begun() -> Any:
        call = await begin(pb_grpc.ProbeStub(channel()))
        await soon(lambda: started(counted) == attempts, "nothing has begun")
        return call

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(begun())
    finally:
        loop.close()


async def go_on(channel: Any) -> None:
    await pb_grpc.ProbeStub(channel).Unary(ping())


def look(address: str, case: str, *, kept: bool, closes: bool) -> dict[str, Any]:
    """Run one case; what then comes is another call, or the channel's end."""
    begin, interceptors, attempts = CASES[case]
    with Mesh({"probe": [address]}, policy=POLICY) as mesh:
        service = mesh.service("probe")
        service.wait_ready(60)
        channel: Any = service.grpc_aio_channel(interceptors=interceptors)
        call = leave(service, lambda: channel, begin, attempts)
        done = call.done if kept else None
        del call
        gc.collect()
        before, error, told = in_flight(service), None, None
        if kept and not closes:
            told = mesh.state()["services"]["probe"]["in_flight"]
        try:
            asyncio.run(channel.close() if closes else go_on(channel))
            after = in_flight(service)
            asyncio.run(channel.close())
        except Exception as raised:  # noqa: BLE001 - shown by the test
            after, error = in_flight(service), repr(raised)
        return {
            "case": f"{case}, {'kept' if kept else 'dropped'}, then {'close' if closes else 'call'}",
            "in_flight": [before, after],
            "told": told,
            "pins": len(channel._dialer.pins),
            "attempts": started(service) - attempts,
            "done": None if done is None or case in {"awaited", "intercepted"} else done(),
            "error": error,
        }


def look_below(address: str, case: str, *, kept: bool) -> dict[str, Any]:
    """Run one case on stock channels with a policy in their interceptors; what then comes is another loop's call."""
    begin, _, attempts = CASES[case]
    interceptors = aio_client_interceptors(POLICY)
    counted: Any = SimpleNamespace(view=interceptors[0]._view)

    channels: list[Any] = []

    def opened() -> Any:
        channels.append(grpc.aio.insecure_channel(address, interceptors=interceptors))
        return channels[-1]

    call = leave(counted, opened, begin, attempts)
    if not kept:
        del call
    gc.collect()
    before = in_flight(counted)

    async def on_another_loop() -> None:
        async with opened() as channel:
            await go_on(channel)

    asyncio.run(on_another_loop())
    after = in_flight(counted)
    ending = "kept" if kept else "dropped"
    return {"case": f"{case}, {ending}", "in_flight": [before, after], "attempts": started(counted) - attempts}


if __name__ == "__main__":
    logging.disable()  # asyncio logs the tasks that are lost
    for name in CASES:
        for held in (True, False):
            if sys.argv[2:] != ["below"]:
                for ending in (True, False):
                    print(json.dumps(look(sys.argv[1], name, kept=held, closes=ending)), flush=True)
            elif name not in {"unsettled", "intercepted"}:  # both look into a mesh channel
                print(json.dumps(look_below(sys.argv[1], name, kept=held)), flush=True)
