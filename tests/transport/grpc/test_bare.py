"""Instrumentation that patches gRPC's functions: it sees every attempt, and the iterators it leaves of streams work."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.experimental
import pytest

from svcmesh.transport.grpc.bare import BareStream, whole
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import PATIENCE, eventually, in_flight, ping, service_over

Servers = tuple[GrpcServer, GrpcServer]


class Spans(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """What OpenTelemetry's interceptor does: one span a call, and a generator in the place of a stream."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def intercept_unary_unary(self, continuation, client_call_details, request):
        self.seen.append(client_call_details.method)
        return continuation(client_call_details, request)

    def intercept_unary_stream(self, continuation, client_call_details, request):
        def generate() -> Iterator[Any]:
            self.seen.append(client_call_details.method)
            yield from continuation(client_call_details, request)

        return generate()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """Patch the function that makes channels, as instrumentation does."""
    found, stock = Spans(), grpc.insecure_channel

    def instrumented(*args: Any, **kwargs: Any) -> grpc.Channel:
        return grpc.intercept_channel(stock(*args, **kwargs), found)

    monkeypatch.setattr(grpc, "insecure_channel", instrumented)
    return found


def test_every_attempt_is_seen(grpc_servers: Servers, spans: Spans) -> None:
    """Retries and streams included; a stream's status is there at its end, and nothing stays in flight."""
    with service_over([grpc_servers[0].address]) as service, service.grpc_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        stub.Read(ping(), metadata=[("x-fail", "UNAVAILABLE:1"), ("x-id", uuid.uuid4().hex)])
        assert len(spans.seen) == 2

        stream = stub.ServerStream(ping("a", 3))
        with pytest.raises(grpc.experimental.UsageError, match="iterate"):
            stream.code()
        assert [pong.number for pong in stream] == [0, 1, 2]
        assert stream.code() is grpc.StatusCode.OK
        failing = stub.ServerStream(ping("a", 3), metadata=[("x-fail", "NOT_FOUND:-1"), ("x-id", uuid.uuid4().hex)])
        with pytest.raises(grpc.RpcError):
            next(failing)
        assert failing.code() is grpc.StatusCode.NOT_FOUND
        assert in_flight(service) == 0
        grpc.channel_ready_future(channel).result(timeout=PATIENCE)
    assert len(spans.seen) == 4


def test_a_stream_that_is_dropped_or_cancelled_is_no_longer_in_flight(grpc_servers: Servers, spans: Spans) -> None:
    """Although the iterator tells nobody."""
    with service_over([grpc_servers[0].address]) as service, service.grpc_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        for drop in (True, False):
            stream = stub.ServerStream(ping("a", 100_000), metadata=[("x-delay", "0.01")])
            next(stream)
            assert in_flight(service) == 1
            if not drop:
                assert stream.cancel()
                assert stream.code() is grpc.StatusCode.CANCELLED
            del stream
            gc.collect()
            eventually(lambda: in_flight(service) == 0, "the stream is still counted")


def test_what_an_iterator_cannot_tell() -> None:
    """Before the end nothing; afterwards what the error says, or nothing."""
    ends: list[str] = []
    bare = BareStream(iter([1]))
    assert bare.add_callback(lambda: ends.append("over"))
    assert bare.is_active()
    assert bare.time_remaining() is None
    assert list(bare) == [1]
    assert ends == ["over"]
    assert not bare.add_callback(lambda: None)
    assert not bare.cancel()
    assert (bare.code(), bare.details(), bare.initial_metadata()) == (grpc.StatusCode.OK, "", ())
    assert (bare.trailing_metadata(), bare.debug_error_string()) == ((), "")


def test_an_iterator_that_raises_something_else_ends_the_call() -> None:
    """With UNKNOWN, as gRPC says of exceptions that it does not know."""

    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("mine")

    bare = BareStream(broken())
    assert next(bare) == 1
    with pytest.raises(LookupError):
        next(bare)
    assert bare.code() is grpc.StatusCode.UNKNOWN


def test_calls_stay_what_they_are() -> None:
    """Only what is no call is made one."""
    call = BareStream(iter([]))
    assert whole(call) is call
    assert isinstance(whole(iter([])), BareStream)
