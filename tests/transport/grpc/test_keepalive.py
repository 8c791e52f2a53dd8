"""A connection that is dead without a word: found out by the channel arguments that the compatibility page names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from svcmesh import Policy
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import PATIENCE, eventually, in_flight, ping, service_over

ASKS = 200
"""Milliseconds until a client asks, and those that it waits for an answer; a busy machine may need several calls."""
ALIVE = [(f"grpc.{name}_ms", ASKS) for name in ("keepalive_time", "keepalive_timeout", "http2.ping_timeout")]
LETS_ASK = ["--option", "grpc.http2.min_ping_interval_without_data_ms", "100"]


def blocking(service: Service, freeze: Callable[[], object]) -> Any:
    """Return what a call ends with whose server is frozen."""
    with service.grpc_channel(options=ALIVE) as channel:
        unary = pb_grpc.ProbeStub(channel).Unary
        eventually(lambda: unary.future(ping(), timeout=PATIENCE).exception() is None, "the server does not answer")
        freeze()
        with pytest.raises(grpc.RpcError) as caught:
            unary(ping(), timeout=PATIENCE)
        return caught.value


def awaiting(service: Service, freeze: Callable[[], object]) -> Any:
    """Return the same of asyncio."""

    async def ended() -> Any:
        async with service.grpc_aio_channel(options=ALIVE) as channel:
            unary = pb_grpc.ProbeStub(channel).Unary
            while await unary(ping(), timeout=PATIENCE).code() is not grpc.StatusCode.OK:
                pass
            freeze()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await unary(ping(), timeout=PATIENCE)
            return caught.value

    return asyncio.run(ended())


@pytest.mark.parametrize("call", [blocking, awaiting])
def test_a_server_that_is_frozen_is_found_out_long_before_the_deadline(call: Callable[..., Any]) -> None:
    """Without them a call waits for its time to end, as with a stock channel."""
    with GrpcServer(arguments=LETS_ASK) as server, service_over([server.address], Policy()) as service:
        error = call(service, server.freeze)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert in_flight(service) == 0
