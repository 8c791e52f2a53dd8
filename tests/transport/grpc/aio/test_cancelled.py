"""Asyncio calls that are cancelled, by whomever: the stock channel and ours are asked the same, over one server."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from svcmesh import Mesh
from svcmesh.core.info import info
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import in_flight, ping, service_over

Servers = tuple[GrpcServer, GrpcServer]
Channels = Callable[[], tuple[Any, Any]]
HANG = (("x-hang", "1"),)
EACH_IN_TURN = (("x-delay", "0.05"),)
CANCELLED_THERE = (("x-fail", "CANCELLED:-1"), ("x-before", "0.03"))


class Through(grpc.aio.UnaryUnaryClientInterceptor):
    """An interceptor that does nothing."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details, request)


@pytest.fixture
def service(grpc_servers: Servers) -> Iterator[Service]:
    with service_over([grpc_servers[0].address]) as found:
        yield found


@pytest.fixture
def channels(grpc_servers: Servers, service: Service) -> Channels:
    """A function for the channels: what a fixture yields lives longer than a test may leave a stock channel behind."""
    return lambda: (grpc.aio.insecure_channel(grpc_servers[0].address), service.grpc_aio_channel())


async def two() -> AsyncIterator[Any]:
    yield ping("one")
    await asyncio.Event().wait()


def asked(call: Any) -> Any:
    """Return a call of which more than its response was asked, so that ours has made what answers such questions."""
    call.time_remaining()
    return call


async def rest(call: Any) -> None:
    async for _ in call:
        pass


async def rest_read(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
        pass


async def later(call: Any) -> None:
    await anext(aiter(call))
    await rest(call)


async def later_read(call: Any) -> None:
    await call.read()
    await rest_read(call)


async def whole(call: Any) -> Any:
    return await call


KINDS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Awaitable[Any]]]] = {
    "unary": (lambda stub: stub.Unary(ping(), metadata=HANG), whole),
    "unary, asked before": (lambda stub: asked(stub.Unary(ping(), metadata=HANG)), whole),
    "client stream": (lambda stub: stub.ClientStream(two()), whole),
    "written stream": (lambda stub: stub.ClientStream(), whole),
    "server stream": (lambda stub: stub.ServerStream(ping(count=100), metadata=HANG), rest),
    "server stream, read": (lambda stub: stub.ServerStream(ping(count=100), metadata=HANG), rest_read),
    "server stream, later": (lambda stub: stub.ServerStream(ping(count=100), metadata=EACH_IN_TURN), later),
    "server stream, read later": (lambda stub: stub.ServerStream(ping(count=100), metadata=EACH_IN_TURN), later_read),
    "both streams": (lambda stub: stub.BidiStream(two(), metadata=HANG), rest),
}


async def end_of(awaitable: Awaitable[Any]) -> str:
    """Return what waiting comes to: the name of what is raised."""
    try:
        await awaitable
    except BaseException as error:  # noqa: BLE001 - CancelledError is one
        return type(error).__name__
    return "result"


async def cancelled_while_awaited(call: Any, wait: Callable[[Any], Awaitable[Any]]) -> list[Any]:
    """Return all that is told of a call whose awaiting task is cancelled after a moment."""
    in_callback: list[bool] = []
    call.add_done_callback(lambda _: in_callback.append(call.cancelled()))
    ends = [await end_of(asyncio.wait_for(wait(call), 0.1))]
    told = [await call.code(), await call.details(), call.cancelled(), call.done(), call.cancel(), in_callback]
    return [*ends, *told, await end_of(whole(call)) if hasattr(call, "__await__") else None]


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_who_awaits_cancels_the_call(channels: Channels, kind: str) -> None:
    """It says so afterwards, in its callbacks too, and awaiting it again is cancelled again."""
    make, wait = KINDS[kind]
    told = []
    for channel in channels():
        async with channel:
            told.append(await cancelled_while_awaited(make(pb_grpc.ProbeStub(channel)), wait))
    stock, mesh = told

    assert mesh == stock
    assert mesh[:2] == ["TimeoutError", grpc.StatusCode.CANCELLED]
    assert mesh[3] is True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropped", [False, True])
async def test_a_call_whose_task_is_cancelled_before_it_begins_is_counted_until_somebody_looks(
    grpc_servers: Servers, kind: str, dropped: bool
) -> None:
    """As by a shutdown that cancels all tasks. gRPC learns nothing of it, and its calls wait for ever."""
    with Mesh({"probe": [grpc_servers[0].address]}) as mesh:
        async with mesh.service("probe").grpc_aio_channel() as channel:
            others = asyncio.all_tasks()
            call: Any = KINDS[kind][0](pb_grpc.ProbeStub(channel))
            for task in asyncio.all_tasks() - others:
                task.cancel()
            await asyncio.sleep(0.02)
            assert in_flight(mesh.service("probe")) == 1

            call = None if dropped else call
            gc.collect()
            [service] = mesh.state()["services"].values()

            assert (service["in_flight"], service["endpoints"][0]["started"]) == (0, 1)
            if call is not None:
                assert (call.done(), call.cancelled(), await call.code()) == (True, True, grpc.StatusCode.CANCELLED)


async def test_nobody_need_ask_for_the_end_of_a_cancelled_call(channels: Channels) -> None:
    """Without callbacks, which have it made what knows the end, it is the same."""
    for channel in channels():
        async with channel:
            stub = pb_grpc.ProbeStub(channel)
            call = stub.Unary(ping(), metadata=HANG)
            assert await end_of(asyncio.wait_for(call, 0.05)) == "TimeoutError"
            assert call.cancelled()
            assert await end_of(whole(call)) == "CancelledError"


async def test_cancelling_who_awaits_an_intercepted_call(grpc_servers: Servers, service: Service) -> None:
    """It is gRPC's own object, over ours."""
    told = []
    for channel in (
        grpc.aio.insecure_channel(grpc_servers[0].address, interceptors=[Through()]),
        service.grpc_aio_channel(interceptors=[Through()]),
    ):
        async with channel:
            call = pb_grpc.ProbeStub(channel).Unary(ping(), metadata=HANG)
            told.append([await end_of(asyncio.wait_for(call, 0.1)), call.cancelled(), await end_of(whole(call))])

    assert told[1] == told[0] == ["TimeoutError", True, "CancelledError"]


@pytest.mark.parametrize("kind", ["one response", "streamed responses"])
async def test_requests_that_raise_cancel_the_call(channels: Channels, kind: str) -> None:
    """Each time, whatever comes first."""

    async def raising() -> AsyncIterator[Any]:
        yield ping("one")
        raise KeyError("no more")

    for channel in channels():
        async with channel:
            stub = pb_grpc.ProbeStub(channel)
            for _ in range(20):
                one = kind == "one response"
                call = stub.ClientStream(raising()) if one else stub.BidiStream(raising())
                assert await end_of(whole(call) if one else rest(call)) == "CancelledError"
                assert call.cancelled()
                assert await call.code() is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("kind", ["unary", "server stream"])
async def test_a_server_may_cancel_too(channels: Channels, kind: str) -> None:
    """That is an error, with a story of its own, and the call says that it was cancelled."""
    stories = []
    for channel in channels():
        async with channel:
            stub = pb_grpc.ProbeStub(channel)
            method, wait = (stub.Unary, whole) if kind == "unary" else (stub.ServerStream, rest)
            call = method(ping(), metadata=CANCELLED_THERE)
            assert await end_of(wait(call)) == "AioRpcError"
            assert call.cancelled()
            assert await call.code() is grpc.StatusCode.CANCELLED
            stories.append(info(call))
    assert stories[0] is None
    assert stories[1] is not None


async def test_calls_that_end_otherwise_were_not_cancelled(channels: Channels) -> None:
    """By a deadline, say, or well."""
    for channel in channels():
        async with channel:
            stub = pb_grpc.ProbeStub(channel)
            late, fine = stub.Unary(ping(), metadata=HANG, timeout=0.1), stub.Unary(ping())
            assert await end_of(whole(late)) == "AioRpcError"
            assert await end_of(whole(fine)) == "result"
            assert (late.cancelled(), fine.cancelled()) == (False, False)


@pytest.mark.parametrize("serializer", [None, bytearray])
async def test_what_cannot_be_written_does_not_end_the_call(channels: Channels, serializer: Any) -> None:
    """`write` raises, and what is written after it arrives; the same with a serializer that makes no bytes."""
    told = []
    for channel in channels():
        async with channel:
            call = channel.stream_unary("/svcmesh.test.Probe/ClientStream", request_serializer=serializer)(timeout=30)
            with pytest.raises(TypeError) as caught:
                await call.write(b"one" if serializer else "one")
            assert not call.done()
            await call.done_writing()
            await call
            told.append((str(caught.value), await call.code()))

    assert told[0] == told[1]
    assert told[1][1] is grpc.StatusCode.OK


async def test_a_message_whose_serializer_raises_is_written_empty(
    channels: Channels, caplog: pytest.LogCaptureFixture
) -> None:
    """As gRPC does it, which logs the exception."""

    def raising(_: Any) -> bytes:
        raise KeyError("not mine")

    for channel in channels():
        async with channel:
            call = channel.stream_unary("/svcmesh.test.Probe/ClientStream", request_serializer=raising)(timeout=30)
            await call.write("one")
            await call.done_writing()
            await call
            assert await call.code() is grpc.StatusCode.OK
    assert caplog.text.count("Exception serializing message!") == 2
    caplog.clear()  # its tracebacks hold the channels
