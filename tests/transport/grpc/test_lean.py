"""Blocking calls without what gRPC keeps for each: where that is done, and that nobody can tell where it is not."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from svcmesh.service import Service
from svcmesh.transport.grpc import lean as module
from svcmesh.transport.grpc.lean import LeanCall, lean
from tests.servers import svcmesh_test_pb2 as pb
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import in_flight, ping, service_over, started

Servers = tuple[GrpcServer, GrpcServer]
UNARY = "/svcmesh.test.Probe/Unary"


@pytest.fixture
def service(grpc_servers: Servers) -> Iterator[Service]:
    with service_over([server.address for server in grpc_servers]) as found:
        yield found


class Sees(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(client_call_details, request)


def known(*interceptors: Any) -> bool:
    """Whether calls of a stock channel with these interceptors are made without what gRPC keeps for each."""
    with grpc.insecure_channel("ipv4:127.0.0.1:1") as channel:
        through = grpc.intercept_channel(channel, *interceptors) if interceptors else channel
        return isinstance(lean(through.unary_unary("/a.B/C")), LeanCall)


def test_the_grpcio_that_is_installed_is_known() -> None:
    """A newer one that makes its calls otherwise is to be read and `PARTS` to follow, or calls get dearer."""
    assert known()


def test_another_grpcio_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have the same names with another meaning: its parts tell."""
    monkeypatch.setattr(module, "PARTS", [*module.PARTS, "colour"])
    assert not known()


@pytest.mark.parametrize("name", ["_channel", "_common", "_compression", "_cygrpc", "_observability"])
def test_a_grpcio_without_these_modules_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their names are private."""
    monkeypatch.setattr(module, name, None)
    assert not known()


@pytest.mark.parametrize("method", ["__call__", "_blocking"])
def test_instrumentation_sees_all_calls(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is an interceptor of the channel, or was put in the place of one of gRPC's own methods."""
    assert not known(Sees())
    multicallable: Any = module._channel._UnaryUnaryMultiCallable
    original = getattr(multicallable, method)

    @functools.wraps(original)
    def seen(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    monkeypatch.setattr(multicallable, method, seen)
    assert not known()


def test_statistics_that_are_collected_see_all_calls(grpc_servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """grpcio-observability sets a plug-in, at any time; from then on calls are gRPC's own."""
    asked: list[Any] = []
    with grpc.insecure_channel(grpc_servers[0].address) as channel:
        stock = channel.unary_unary(UNARY, pb.Ping.SerializeToString, pb.Pong.FromString)
        call = LeanCall(stock)
        assert call(ping("a")).text == "a"
        monkeypatch.setattr(call, "_stock", lambda *args: asked.append(args))
        monkeypatch.setattr(module._observability, "_OBSERVABILITY_PLUGIN", object())
        call(ping("b"), 5.0)
    assert [(request.text, timeout) for request, timeout, *_ in asked] == [("b", 5.0)]


@pytest.mark.parametrize("leanly", [True, False])
def test_nobody_can_tell_which_way_a_call_was_made(
    leanly: bool, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A success, a failure and one that is repeated end alike, and are counted alike."""
    if not leanly:
        monkeypatch.setattr(module, "PARTS", [])
    with service.grpc_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        assert stub.Unary(ping("a"), metadata=[("x-a", "1")], timeout=20).text == "a"
        assert stub.Unary(ping("b"), compression=grpc.Compression.Gzip, wait_for_ready=True).text == "b"

        with pytest.raises(grpc.RpcError) as caught:
            stub.Unary(ping(), metadata=[("x-fail", "NOT_FOUND:-1")])
        assert type(caught.value).__name__ == "_InactiveRpcError"
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert "x-server" in dict(caught.value.trailing_metadata())
        assert started(service) == 3

        with pytest.raises(grpc.RpcError) as caught:
            stub.Read(ping(), metadata=[("x-fail", "UNAVAILABLE:-1")])
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert started(service) == 6
    assert in_flight(service) == 0


@pytest.mark.parametrize("leanly", [True, False])
@pytest.mark.parametrize("broken", ["request_serializer", "response_deserializer"])
def test_messages_that_cannot_be_read_or_made_fail_as_ever(
    broken: str, leanly: bool, service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """INTERNAL in gRPC's words, and one line in its log."""
    if not leanly:
        monkeypatch.setattr(module, "PARTS", [])

    def fail(_: Any) -> Any:
        raise ValueError("broken")

    makes = {"request_serializer": pb.Ping.SerializeToString, "response_deserializer": pb.Pong.FromString, broken: fail}
    doing = "serializing request" if broken == "request_serializer" else "deserializing response"
    with service.grpc_channel() as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(UNARY, **makes)(ping())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == f"Exception {doing}!"
    assert [record.getMessage() for record in caplog.records] == [f"Exception {doing.split(maxsplit=1)[0]} message!"]
