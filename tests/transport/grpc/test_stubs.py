"""Stubs of every make: by compilers of now and of two years ago, with serializers of the caller's own, or no stub."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2 as pb
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import in_flight, ping, service_over

Servers = tuple[GrpcServer, GrpcServer]
OLD = "tests.servers.svcmesh_test_1_68_pb2_grpc"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


@pytest.fixture
def service(grpc_servers: Servers) -> Iterator[Service]:
    with service_over([server.address for server in grpc_servers]) as found:
        yield found


def pings() -> Iterator[Any]:
    return iter([ping("one"), ping("two")])


def test_stubs_of_two_years_ago_call_through_our_channel(service: Service) -> None:
    """All four kinds; their check of versions, which looks at grpcio alone, passes."""
    with service.grpc_channel() as channel:
        stub = importlib.import_module(OLD).ProbeStub(channel)
        assert stub.Unary(ping("one")).text == "one"
        assert [pong.number for pong in stub.ServerStream(ping("one", 2))] == [0, 1]
        assert stub.ClientStream(pings()).text == "one,two"
        assert [pong.text for pong in stub.BidiStream(pings())] == ["one", "two"]


async def test_stubs_of_two_years_ago_call_through_our_asyncio_channel(service: Service) -> None:
    """All four kinds."""
    async with service.grpc_aio_channel() as channel:
        stub = importlib.import_module(OLD).ProbeStub(channel)
        assert (await stub.Unary(ping("one"))).text == "one"
        assert [pong.number async for pong in stub.ServerStream(ping("one", 2))] == [0, 1]
        assert (await stub.ClientStream(pings())).text == "one,two"
        assert [pong.text async for pong in stub.BidiStream(pings())] == ["one", "two"]


def test_code_of_a_newer_compiler_is_refused_by_grpc_and_not_by_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check compares versions when the generated module is imported; no channel is asked."""
    monkeypatch.delitem(sys.modules, OLD, raising=False)
    monkeypatch.setattr(grpc, "__version__", "1.67.0")
    with pytest.raises(RuntimeError, match=r"depends on grpcio>=1\.68\.1"):
        importlib.import_module(OLD)


@pytest.mark.parametrize("kind", KINDS)
def test_only_generated_stubs_find_handles(grpc_servers: Servers, service: Service, kind: str) -> None:
    """Where gRPC's own code looks for them: at callables, and stubs without a channel at the channel."""
    with grpc.insecure_channel(grpc_servers[0].address) as stock, service.grpc_channel() as ours:
        for channel in (stock, ours):
            make: Any = getattr(channel, kind)
            assert make("/a.B/C")._registered_call_handle is None
            assert make("/a.B/C", _registered_method=True)._registered_call_handle
            asked: Any = channel
            assert make("/a.B/C", None, None, asked._get_registered_call_handle("/a.B/C"))._registered_call_handle


async def test_the_asyncio_channel_tells_its_loop(service: Service) -> None:
    """Tools log it; ours serves whatever loop asks."""
    channel: Any
    async with service.grpc_aio_channel() as channel:
        assert channel._loop is asyncio.get_running_loop()
        assert await asyncio.to_thread(lambda: channel._loop) is None


# -- serializers -------------------------------------------------------------------------------------------------------


def from_json(text: str) -> bytes:
    """Make the server's message of the caller's own notation."""
    return pb.Ping(**json.loads(text)).SerializeToString()


def to_json(raw: bytes) -> str:
    """Make the caller's own notation of the server's message."""
    return json.dumps({"text": pb.Pong.FromString(raw).text})


def test_serializers_of_the_callers_own(service: Service) -> None:
    """Any functions to and from bytes, for single messages and streams."""
    one, two = '{"text": "one"}', '{"text": "two"}'
    with service.grpc_channel() as channel:
        unary = channel.unary_unary("/svcmesh.test.Probe/Unary", from_json, to_json)
        bidi = channel.stream_stream("/svcmesh.test.Probe/BidiStream", from_json, to_json)
        assert unary(one) == one
        assert unary.future(one).result() == one
        assert list(bidi(iter([one, two]))) == [one, two]


async def test_serializers_of_the_callers_own_on_asyncio(service: Service) -> None:
    """As above."""
    one, two = '{"text": "one"}', '{"text": "two"}'
    async with service.grpc_aio_channel() as channel:
        assert await channel.unary_unary("/svcmesh.test.Probe/Unary", from_json, to_json)(one) == one
        bidi = channel.stream_stream("/svcmesh.test.Probe/BidiStream", from_json, to_json)
        assert [message async for message in bidi(iter([one, two]))] == [one, two]


def broken(_: Any) -> Any:
    """Neither make bytes nor read them."""
    raise ZeroDivisionError


def told(call: Any) -> Any:
    """Return what a caller sees of a failure."""
    try:
        return call()
    except grpc.RpcError as error:
        known: Any = error
        return type(error).__name__, known.code(), known.details()


@pytest.mark.parametrize("serializers", [(broken, None), (None, broken)], ids=["request", "response"])
def test_serializers_that_raise_end_calls_as_the_stock_channel_does(
    grpc_servers: Servers, service: Service, serializers: Any
) -> None:
    """Same code and words for every way of calling, and nothing stays in flight."""
    with grpc.insecure_channel(grpc_servers[0].address) as stock, service.grpc_channel() as ours:
        for style in ("__call__", "with_call", "future"):
            seen = []
            for channel in (stock, ours):
                unary = channel.unary_unary("/svcmesh.test.Probe/Unary", *serializers)
                call: Any = getattr(unary, style)
                seen.append(told(lambda call=call: getattr(call(b""), "result", lambda: "?")()))  # type: ignore[misc]
            assert seen[0] == seen[1]
            assert seen[0][1] is grpc.StatusCode.INTERNAL
    assert in_flight(service) == 0


# -- the generic API ---------------------------------------------------------------------------------------------------


def test_the_generic_api_of_all_kinds(service: Service) -> None:
    """Bytes in, bytes out; the path may be bytes, too."""
    one = ping("one", 1).SerializeToString()
    with service.grpc_channel() as channel:
        assert b"one" in channel.unary_unary(b"/svcmesh.test.Probe/Unary")(one)  # type: ignore[arg-type]
        assert [b"one" in raw for raw in channel.unary_stream("/svcmesh.test.Probe/ServerStream")(one)] == [True]
        assert b"one,one" in channel.stream_unary("/svcmesh.test.Probe/ClientStream")(iter([one, one]))
        assert len(list(channel.stream_stream("/svcmesh.test.Probe/BidiStream")(iter([one, one])))) == 2


def test_several_stubs_share_the_callables_of_a_channel(service: Service) -> None:
    """There is one per method and pair of serializers, however many stubs are made."""
    with service.grpc_channel() as channel:
        first, second = pb_grpc.ProbeStub(channel), pb_grpc.ProbeStub(channel)  # type: ignore[no-untyped-call]
        assert first.Unary is second.Unary
