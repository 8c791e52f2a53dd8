"""Beginning calls below gRPC's call objects: where that is done, and that nobody can tell where it is not."""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from svcmesh import info
from svcmesh.service import Service
from svcmesh.transport.grpc.aio import lean as module
from svcmesh.transport.grpc.aio.lean import lean
from svcmesh.transport.grpc.aio.unary import PlainCall
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import in_flight, ping, service_over, soon, started

Servers = tuple[GrpcServer, GrpcServer]


@pytest.fixture
async def service(grpc_servers: Servers) -> AsyncIterator[Service]:
    with service_over([server.address for server in grpc_servers]) as found:
        yield found


class Unusual(BaseException):
    """None that gRPC expects."""


class Sees(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details, request)


async def known(*interceptors: Any) -> bool:
    """Whether calls of a stock channel with these interceptors are begun below its call objects."""
    async with grpc.aio.insecure_channel("ipv4:127.0.0.1:1", interceptors=interceptors) as channel:
        return lean(channel.unary_unary("/a.B/C"), None) is not None


async def test_the_grpcio_that_is_installed_is_known() -> None:
    """A newer one that makes its calls otherwise is to be read and `PARTS` to follow, or calls get dearer."""
    assert await known()


async def test_another_grpcio_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have the same names with another meaning: its parts tell."""
    monkeypatch.setattr(module, "PARTS", [*module.PARTS, "colour"])
    assert not await known()


@pytest.mark.parametrize("name", ["_calls", "_channels", "_common", "_cygrpc"])
async def test_a_grpcio_without_these_modules_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their names are private."""
    monkeypatch.setattr(module, name, None)
    assert not await known()


async def test_instrumentation_sees_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is an interceptor of the channel, or was put in the place of gRPC's own method."""
    assert not await known(Sees())
    multicallable: Any = module._channels.UnaryUnaryMultiCallable
    original = multicallable.__call__

    @functools.wraps(original)
    def seen(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    monkeypatch.setattr(multicallable, "__call__", seen)
    assert not await known()


@pytest.mark.parametrize("leanly", [True, False])
async def test_nobody_can_tell_which_way_a_call_began(
    leanly: bool, service: Service, grpc_servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A success, a failure, one that is repeated and one that is cancelled end alike, and are counted alike."""
    if not leanly:
        monkeypatch.setattr(module, "PARTS", [])
    async with service.grpc_aio_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        call = stub.Unary(ping("a"), metadata=grpc.aio.Metadata(("x-a", "1")), timeout=20)
        assert isinstance(call, PlainCall) is leanly
        assert (await call).text == "a"
        assert await call.code() is grpc.StatusCode.OK

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Unary(ping(), metadata=[("x-fail", "NOT_FOUND:-1")])
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert started(service) == 2

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Read(ping(), metadata=[("x-fail", "UNAVAILABLE:-1")])
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert started(service) == 5

        hanging = stub.Unary(ping(), metadata=[("x-hang", "1")])
        assert in_flight(service) == 1
        assert hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert await hanging.code() is grpc.StatusCode.CANCELLED
        assert await hanging.details() == "Locally cancelled by application!"
        assert in_flight(service) == 0


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="tasks begin at once from Python 3.12 on")
@pytest.mark.parametrize("metadata", [[], [("a", 5)]])
def test_a_loop_whose_tasks_begin_at_once_changes_nothing(grpc_servers: Servers, metadata: Any) -> None:
    """Also where gRPC refuses the arguments before anything has to be waited for."""

    async def main(service: Service) -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        async with service.grpc_aio_channel() as channel:
            call = pb_grpc.ProbeStub(channel).Unary(ping("a"), metadata=metadata)
            if metadata:
                with pytest.raises(TypeError, match="Expected str"):
                    await call
            else:
                assert (await call).text == "a"

    with service_over([grpc_servers[0].address]) as service:
        asyncio.run(main(service))


async def test_what_is_sent_again_is_what_was_sent(grpc_servers: Servers) -> None:
    """Although the caller has changed the message meanwhile."""
    with service_over([grpc_servers[0].address]) as service:
        async with service.grpc_aio_channel() as channel:
            message = ping("as it was")
            call = pb_grpc.ProbeStub(channel).Read(
                message, metadata=[("x-fail", "UNAVAILABLE:1"), ("x-pushback", "10")]
            )
            await soon(lambda: started(service) == 1 and in_flight(service) == 0, "the first attempt did not end")
            message.text = "changed"
            assert (await call).text == "as it was"


async def test_closing_an_endpoint_s_channel_cancels_the_calls_that_grpc_has_no_object_of(service: Service) -> None:
    """Those of the same channel, on this loop; they are counted as cancelled."""
    channel = service.grpc_aio_channel()
    stub = pb_grpc.ProbeStub(channel)
    calls = [stub.Unary(ping(), metadata=[("x-hang", "1")]) for _ in range(4)]
    await asyncio.sleep(0)
    closing, other = calls[0].channel, [call for call in calls if call.channel is not calls[0].channel]
    assert len(other) == 2

    await closing.aclose()
    assert in_flight(service) == 2
    assert all(not call.done() for call in other)
    with pytest.raises(asyncio.CancelledError):
        await calls[0]
    await channel.close()


@pytest.mark.parametrize("error", [asyncio.CancelledError, Unusual])
async def test_a_serializer_that_raises_what_grpc_does_not_expect_leaves_nothing_in_flight(
    error: type[BaseException], service: Service
) -> None:
    """Whoever awaits gets it, as of a stock call."""

    def fail(_: Any) -> bytes:
        raise error("mine")

    async with service.grpc_aio_channel() as channel:
        call = channel.unary_unary("/svcmesh.test.Probe/Unary", fail, None)(ping())
        with pytest.raises(error):
            await call
        assert in_flight(service) == 0


async def test_a_failure_is_raised_anew_each_time(service: Service) -> None:
    """As by a stock call: no traceback grows, and no call that failed waits for the collector."""
    gc.disable()
    try:
        async with service.grpc_aio_channel() as channel:
            call = pb_grpc.ProbeStub(channel).Unary(ping(), metadata=[("x-fail", "ABORTED:-1")])
            told = []
            for _ in range(3):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                told.append((id(caught.value), caught.value.code(), caught.value.details(), info(caught.value)))
                del caught
            assert len({told_one[1:3] for told_one in told}) == 1
            assert told[0][3] is not None
            gone = weakref.ref(call)
            del call
            await asyncio.sleep(0)
            assert gone() is None
    finally:
        gc.enable()


async def test_arguments_that_grpc_refuses_are_counted_once(service: Service) -> None:
    """The error is gRPC's own, each time the call is awaited."""
    async with service.grpc_aio_channel() as channel:
        call = pb_grpc.ProbeStub(channel).Unary(ping(), metadata=[("a", 5)])
        for _ in range(2):
            with pytest.raises(TypeError, match="Expected str"):
                await call
        assert in_flight(service) == 0
        assert started(service) == 1
