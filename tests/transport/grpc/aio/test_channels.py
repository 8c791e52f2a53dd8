"""The stock channels of one endpoint: one for each loop, made anew when one is of no use any more, all in reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.transport.grpc.kit import PATIENCE, service_over, soon


async def numbers(request: bytes, context: Any) -> AsyncIterator[bytes]:
    while True:
        yield b"number"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def leaving() -> AsyncIterator[tuple[grpc.aio.Server, str]]:
    """Yield a server that streams for as long as its caller wants, and where it listens."""
    server = grpc.aio.server()
    handlers = {"Stream": grpc.unary_stream_rpc_method_handler(numbers)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("x.Y", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@pytest.mark.parametrize("end", ["channel", "endpoint"])
async def test_closing_ends_streams_on_connections_that_were_replaced(end: str) -> None:
    """The server leaves and lets its streams end; others find it gone, and the channel is made anew once it is back."""
    async with leaving() as (server, address):
        await replaced(server, address, end)


async def replaced(server: grpc.aio.Server, address: str, end: str) -> None:
    """Have a stream run on a connection that was replaced, and close."""
    with service_over([address]) as service:
        channel: Any = service.grpc_aio_channel()
        call = channel.unary_stream("/x.Y/Stream")
        running = call(b"")
        await running.read()
        stopped = asyncio.create_task(server.stop(PATIENCE))
        member = service.view.cluster.members[address]

        async def fails_to_connect() -> bool:
            with pytest.raises(grpc.RpcError):
                await call(b"").read()
            found: Any = member.attached(channel._dialer._key)
            return found is not None and found.state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE

        while not await fails_to_connect():  # noqa: ASYNC110 - connections are asked, none of them tells
            await asyncio.sleep(0.01)
        member.renew()
        assert not member._attachments
        await running.read()
        if end == "channel":
            await channel.close()
        else:
            member.close()

        await soon(running.done, "the stream goes on")
        assert await running.code() is grpc.StatusCode.CANCELLED
        await stopped
        await channel.close()
