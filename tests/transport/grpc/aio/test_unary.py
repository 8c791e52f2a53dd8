"""Unary asyncio calls: what is made for a plain success, and that nobody can tell what was not made."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import pytest

from svcmesh import ConfigError
from svcmesh.service import Service
from svcmesh.transport.grpc.aio.flow import AioFlow
from svcmesh.transport.grpc.aio.unary import _End
from svcmesh.transport.grpc.channels import EndpointChannel
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import in_flight, ping, service_over, started

Servers = tuple[GrpcServer, GrpcServer]


@pytest.fixture
async def service(grpc_servers: Servers) -> AsyncIterator[Service]:
    with service_over([server.address for server in grpc_servers]) as found:
        yield found


@pytest.fixture
async def stub(service: Service) -> AsyncIterator[pb_grpc.ProbeStub]:
    async with service.grpc_aio_channel() as channel:
        yield pb_grpc.ProbeStub(channel)


def courses() -> int:
    return sum(isinstance(found, AioFlow) for found in gc.get_objects())


async def test_a_plain_success_has_no_course(stub: pb_grpc.ProbeStub) -> None:
    """Neither while it runs nor at its end; a question other than for the response makes one."""
    gc.collect()
    before = courses()
    call = stub.Unary(ping("a"))
    assert courses() == before
    assert (await call).text == (await call).text == "a"
    assert courses() == before
    assert call.done()
    assert courses() == before + 1


async def test_everything_is_known_of_a_success_afterwards(stub: pb_grpc.ProbeStub) -> None:
    """Each question gets the stock call's answer, although nobody had asked before the end."""
    call = stub.Unary(ping("a"), timeout=5)
    await call
    seen: list[Any] = []
    call.add_done_callback(seen.append)

    assert seen == [call]
    assert call.done()
    assert not call.cancelled()
    assert not call.cancel()
    assert 0 < call.time_remaining() <= 5
    assert await call.code() is grpc.StatusCode.OK
    assert not await call.details()
    assert dict([*await call.trailing_metadata()])["x-server"] in {"a", "b"}
    assert isinstance(await call.initial_metadata(), grpc.aio.Metadata)
    await call.wait_for_connection()
    assert "over" in str(call)


async def test_a_call_that_is_asked_while_it_runs_ends_as_any_other(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """It is counted once, and its callbacks come."""
    call = stub.Unary(ping("a"))
    ends = asyncio.get_running_loop().create_future()
    call.add_done_callback(ends.set_result)
    assert not call.done()

    assert (await call).text == "a"
    assert await asyncio.wait_for(ends, 5) is call
    assert (started(service), in_flight(service)) == (1, 0)


async def test_a_success_is_no_cycle(stub: pb_grpc.ProbeStub) -> None:
    """It goes as soon as its caller drops it, without the collector."""
    gc.disable()
    try:
        call = stub.Unary(ping())
        await call
        gone = weakref.ref(call)
        del call
        assert gone() is None
    finally:
        gc.enable()


async def test_a_call_that_nobody_holds_goes_on(service: Service) -> None:
    """Closing with grace waits for it."""
    channel = service.grpc_aio_channel()
    pb_grpc.ProbeStub(channel).Unary(ping(), metadata=[("x-delay", "0.1")])
    gc.collect()
    assert in_flight(service) == 1
    await channel.close(grace=5)

    assert sum(member.succeeded for member in service.view.cluster.members.values()) == 1
    assert in_flight(service) == 0


async def test_metadata_from_an_iterator_are_sent(stub: pb_grpc.ProbeStub) -> None:
    """They are read once, when the call is made."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Unary(ping(), metadata=iter([("x-fail", "NOT_FOUND:-1"), ("x-id", "iterated")]))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_call_that_is_used_wrongly_raises_at_once(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """What the stock call refuses is refused by the same error, and nothing stays in flight."""
    with pytest.raises(grpc.aio.UsageError):
        stub.Unary(ping(), credentials=grpc.access_token_call_credentials("secret"))
    assert in_flight(service) == 0


async def test_no_loop_means_no_call(stub: pb_grpc.ProbeStub) -> None:
    """As of the stock channel: a call belongs to a running loop. Trio's is none, which is said."""

    def outside() -> None:
        with pytest.raises(RuntimeError):
            stub.Unary(ping())
        for call in (stub.Unary, stub.ServerStream, stub.Read, stub.Put):
            with pytest.raises(ConfigError, match="asyncio"):
                call(ping())
        for call in (stub.ClientStream, stub.BidiStream):
            with pytest.raises(ConfigError, match="asyncio"):
                call()

    await asyncio.to_thread(outside)


class PublicCall:
    """A stock call of which only what is public can be seen: another grpcio may name its inner call otherwise."""

    def __init__(self, stock: Any) -> None:
        self.stock = stock

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.stock, name)

    def __await__(self) -> Any:
        return self.stock.__await__()


@pytest.mark.parametrize("code", [grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND])
async def test_the_end_is_learnt_in_public_where_the_private_way_is_gone(
    code: grpc.StatusCode, service: Service, stub: pb_grpc.ProbeStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is counted all the same."""
    bound = EndpointChannel.bound

    def veiled(channel: EndpointChannel, method: Any) -> Any:
        return lambda *args, **kwargs: PublicCall(bound(channel, method)(*args, **kwargs))

    monkeypatch.setattr(EndpointChannel, "bound", veiled)
    fails = [] if code is grpc.StatusCode.OK else [("x-fail", f"{code.name}:-1")]
    call = stub.Unary(ping(), metadata=fails)
    assert await call.code() is code
    call = stub.Unary(ping(), metadata=fails)
    with suppress(grpc.aio.AioRpcError):
        await call
    assert in_flight(service) == 0
    assert await call.code() is code


def test_an_end_that_is_told_twice_counts_once() -> None:
    """Older grpcio does so when a call is cancelled."""

    class Call:
        def ended(self) -> None:
            seen.append(self)

    seen: list[Any] = []
    call: Any = Call()
    end = _End(call)
    end()
    end()
    assert seen == [call]
