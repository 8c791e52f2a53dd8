"""Streams of messages through gRPC, beside the stock channel with round_robin over the same three servers.

A block is one stream, so that the times are of one message: 10,000 that come from a server, or 2,500 that go to one.
Once a stream has begun, a message costs the mesh nothing it could save: what is measured is that the iterators around
it stay thin. Requests are kept until the response, in case another attempt has to send them again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc

from benchmarks.wire.grpc import ROUND_ROBIN
from benchmarks.wire.paired import Block, compare
from benchmarks.wire.servers import running
from svcmesh import Mesh, Policy

RESPONSES, REQUESTS = 10_000, 2_500
ROUNDS = 40
LIMIT = 1.02
POLICY = Policy.standard().replace(timeout=None, per_try_timeout=None)
"""No time limits: on a busy machine so many requests take longer than the standard three seconds of an attempt."""
DOWN, UP = "/bench.Streams/Down", "/bench.Streams/Up"


def rows(rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield the rows of all cases, see `benchmarks.wire.paired.compare`."""
    with running("grpc") as addresses, Mesh({"streams": addresses}, policy=POLICY) as mesh:
        target, service = f"ipv4:{','.join(addresses)}", mesh.service("streams")
        with grpc.insecure_channel(target, ROUND_ROBIN) as stock, service.grpc_channel() as ours:
            for way, messages, block in (("responses", RESPONSES, _responses), ("requests", REQUESTS, _requests)):
                pair = [block(channel, messages) for channel in (stock, ours)]
                yield from compare(f"gRPC sync, {messages} {way}", pair, messages, rounds, limit=LIMIT)
        with asyncio.Runner() as runner:
            yield from _awaited(runner, service, target, rounds)


def _awaited(runner: asyncio.Runner, service: Any, target: str, rounds: int) -> Iterator[dict[str, Any]]:
    async def opened() -> list[grpc.aio.Channel]:
        return [grpc.aio.insecure_channel(target, ROUND_ROBIN), service.grpc_aio_channel()]

    channels = runner.run(opened())
    for way, messages, block in (("responses", RESPONSES, _aio_responses), ("requests", REQUESTS, _aio_requests)):
        pair = [block(runner, channel, messages) for channel in channels]
        yield from compare(f"gRPC asyncio, {messages} {way}", pair, messages, rounds, limit=LIMIT)
    for channel in channels:
        runner.run(channel.close(None))


def _responses(channel: grpc.Channel, messages: int) -> Block:
    down = channel.unary_stream(DOWN)

    def block() -> None:
        assert sum(1 for _ in down(b"%d" % messages)) == messages

    return block


def _requests(channel: grpc.Channel, messages: int) -> Block:
    up = channel.stream_unary(UP)

    def block() -> None:
        assert up(b"0123456789" for _ in range(messages)) == b"%d" % messages

    return block


def _aio_responses(runner: asyncio.Runner, channel: Any, messages: int) -> Block:
    down = channel.unary_stream(DOWN)

    async def stream() -> None:
        count = 0
        async for _ in down(b"%d" % messages):
            count += 1
        assert count == messages

    return lambda: runner.run(stream())


def _aio_requests(runner: asyncio.Runner, channel: Any, messages: int) -> Block:
    up = channel.stream_unary(UP)

    async def stream() -> None:
        assert await up(b"0123456789" for _ in range(messages)) == b"%d" % messages

    return lambda: runner.run(stream())
