"""Callers that go on to change their message: what is sent again is what was called. Against real servers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from svcmesh.policy.policy import Policy
from svcmesh.transport.grpc.interceptors import client_interceptors
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer, refused_port
from tests.transport.grpc.kit import PATIENCE, ping, service_over

Servers = tuple[GrpcServer, GrpcServer]
POLICY = Policy.standard().replace(idempotent=True)


def fails_once() -> list[tuple[str, str]]:
    return [("x-fail", "UNAVAILABLE:1"), ("x-id", uuid.uuid4().hex)]


@contextmanager
def mesh_channel(servers: Servers) -> Iterator[grpc.Channel]:
    with service_over([server.address for server in servers], POLICY) as service, service.grpc_channel() as channel:
        yield channel


@contextmanager
def interceptors(servers: Servers) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(servers[0].address) as channel:
        yield grpc.intercept_channel(channel, *client_interceptors(POLICY))


def unary(stub: pb_grpc.ProbeStub) -> Callable[[Any], Any]:
    return lambda message: stub.Unary.future(message, metadata=fails_once())


def stream(stub: pb_grpc.ProbeStub) -> Callable[[Any], Any]:
    return lambda message: stub.ServerStream(message, metadata=fails_once())


@pytest.mark.parametrize("kind", [unary, stream])
@pytest.mark.parametrize("through", [mesh_channel, interceptors])
def test_a_second_attempt_sends_what_was_called(grpc_servers: Servers, through: Any, kind: Any) -> None:
    """Calls that return at once leave their caller free to fill the same message for the next one."""
    with through(grpc_servers) as channel:
        message = ping("called", 1)
        call = kind(pb_grpc.ProbeStub(channel))(message)
        message.text = "changed"

        answer = call.result(PATIENCE) if kind is unary else next(call)
        assert answer.text == "called"


def test_one_message_can_be_filled_for_many_calls_where_an_endpoint_refuses(grpc_servers: Servers) -> None:
    """Half of the calls go elsewhere after their first attempt: an answer is the one to the call it belongs to."""
    with refused_port() as refused:
        addresses = [f"127.0.0.1:{refused}", grpc_servers[0].address]
        with service_over(addresses, Policy.standard()) as service, service.grpc_channel() as channel:
            stub, message, calls = pb_grpc.ProbeStub(channel), ping(), []
            for number in range(12):
                message.text = str(number)
                calls.append(stub.Unary.future(message))
            message.text = "changed"

            assert [call.result(PATIENCE).text for call in calls] == [str(number) for number in range(12)]


def test_a_serializer_that_raises_is_asked_once_and_ends_the_call_as_a_stock_one(grpc_servers: Servers) -> None:
    """INTERNAL, with gRPC's words, and nothing is tried again."""
    asked: list[Any] = []

    def serializer(message: Any) -> bytes:
        asked.append(message)
        raise ValueError("mine")

    with mesh_channel(grpc_servers) as channel:
        for start in (channel.unary_unary("/a.B/C", serializer).future, channel.unary_stream("/a.B/C", serializer)):
            with pytest.raises(grpc.RpcError, match="Exception serializing request!"):
                start("message")

    assert asked == ["message"] * 2
