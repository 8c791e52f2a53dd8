"""Asyncio callers that go on to change their message: all attempts send the same bytes. Against real servers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from svcmesh.policy.policy import Policy
from svcmesh.transport.grpc.aio.interceptors import aio_client_interceptors
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer, refused_port
from tests.transport.grpc.kit import ping, service_over

Servers = tuple[GrpcServer, GrpcServer]
POLICY = Policy.standard().replace(idempotent=True)
COUNT = 12


def fails_once() -> list[tuple[str, str]]:
    return [("x-fail", "UNAVAILABLE:1"), ("x-id", uuid.uuid4().hex)]


@asynccontextmanager
async def mesh_channel(servers: Servers) -> AsyncIterator[pb_grpc.ProbeStub]:
    with service_over([server.address for server in servers], POLICY) as service:
        async with service.grpc_aio_channel() as channel:
            yield pb_grpc.ProbeStub(channel)


@asynccontextmanager
async def interceptors(servers: Servers) -> AsyncIterator[pb_grpc.ProbeStub]:
    ours = aio_client_interceptors(POLICY)
    async with grpc.aio.insecure_channel(servers[0].address, interceptors=ours) as channel:
        yield pb_grpc.ProbeStub(channel)


async def begun(method: Any, message: Any, **arguments: Any) -> Any:
    """Start a call, and let gRPC take the message, which it does in a task of the call's."""
    call = method(message, **arguments)
    for _ in range(3):
        await asyncio.sleep(0)
    return call


@pytest.mark.parametrize("through", [mesh_channel, interceptors])
async def test_a_second_attempt_of_a_unary_call_sends_what_the_first_did(grpc_servers: Servers, through: Any) -> None:
    """Its caller fills the same message for the next call while this one runs."""
    async with through(grpc_servers) as stub:
        message = ping("called")
        call = await begun(stub.Unary, message, metadata=fails_once())
        message.text = "changed"

        assert (await call).text == "called"


@pytest.mark.parametrize("through", [mesh_channel, interceptors])
async def test_a_second_attempt_of_a_stream_sends_what_the_first_did(grpc_servers: Servers, through: Any) -> None:
    """As with unary calls."""
    async with through(grpc_servers) as stub:
        message = ping("called", 1)
        call = await begun(stub.ServerStream, message, metadata=fails_once())
        message.text = "changed"

        assert [answer.text async for answer in call] == ["called"]


async def batch(stub: pb_grpc.ProbeStub, *, turns: int) -> list[str]:
    message, calls = ping(), []
    for number in range(COUNT):
        message.text = str(number)
        calls.append(stub.Unary(message))
        for _ in range(turns):
            await asyncio.sleep(0)
    return [(await call).text for call in calls]


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_first_attempt_sends_what_a_stock_call_does(grpc_servers: Servers, turns: int) -> None:
    """GRPC serializes in the loop's next turn, and so a message that was changed before it; other attempts follow."""
    async with grpc.aio.insecure_channel(grpc_servers[0].address) as channel:
        stock = await batch(pb_grpc.ProbeStub(channel), turns=turns)
    with refused_port() as refused, service_over([f"127.0.0.1:{refused}", grpc_servers[0].address]) as service:
        async with service.grpc_aio_channel() as channel:
            ours = await batch(pb_grpc.ProbeStub(channel), turns=turns)

    assert ours == stock
