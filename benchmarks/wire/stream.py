"""Streams of messages through gRPC, beside the stock channel with round_robin over the same three servers.

A block is one stream, so that the times are of one message: 10,000 that come from a server, or 2,500 that go to one.
Once a stream has begun, a message costs the mesh nothing it could save: what is measured is that the iterators around
it stay thin. Requests are kept until the response, in case another attempt has to send them again. Channels are made
anew for every few rounds.

An iterator between adds 0.2 microseconds to a message where nothing has to be waited for, of 150 or more. On two cores
forty streams do not tell two per cent: what a second stock channel takes says how little a row means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from benchmarks.wire.grpc import options_of
from benchmarks.wire.paired import AGAIN, OURS, STOCK, Block, Sample, measured, told
from benchmarks.wire.servers import running
from svcmesh import Mesh, Policy
from svcmesh.service import Service

RESPONSES, REQUESTS = 10_000, 2_500
ROUNDS = 40
LIFE = 2
"""Rounds for which a channel is used."""
LIMIT = 1.02
POLICY = Policy.standard().replace(timeout=None, per_try_timeout=None)
"""No time limits: on a busy machine so many requests take longer than the standard three seconds of an attempt."""
DOWN, UP = "/bench.Streams/Down", "/bench.Streams/Up"


def rows(rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield the rows of all cases, see `benchmarks.wire.paired.told`."""
    with running("grpc") as addresses, Mesh({"streams": addresses}, policy=POLICY) as mesh:
        target, service = f"ipv4:{','.join(addresses)}", mesh.service("streams")
        for way, messages, block in (("responses", RESPONSES, _responses), ("requests", REQUESTS, _requests)):
            samples: dict[str, list[Sample]] = {}
            for life in range(0, rounds, LIFE):
                _blocking(service, target, block, messages, min(LIFE, rounds - life), samples, life)
            yield from told(f"gRPC sync, {messages} {way}", samples, LIMIT)
        for way, messages, aio_block in (
            ("responses", RESPONSES, _aio_responses),
            ("requests", REQUESTS, _aio_requests),
        ):
            samples = {}
            for life in range(0, rounds, LIFE):
                _awaited(service, target, aio_block, messages, min(LIFE, rounds - life), samples, life)
            yield from told(f"gRPC asyncio, {messages} {way}", samples, LIMIT)


def _blocking(
    service: Service,
    target: str,
    block: Callable[[Any, int], Block],
    messages: int,
    rounds: int,
    samples: dict[str, list[Sample]],
    life: int,
) -> None:
    with (
        grpc.insecure_channel(target, options_of(0)) as stock,
        grpc.insecure_channel(target, options_of(1)) as again,
        service.grpc_channel() as ours,
    ):
        made = {STOCK: stock, AGAIN: again, OURS: ours}
        measured({name: block(channel, messages) for name, channel in made.items()}, messages, rounds, samples, life)


def _awaited(
    service: Service,
    target: str,
    block: Callable[[asyncio.Runner, Any, int], Block],
    messages: int,
    rounds: int,
    samples: dict[str, list[Sample]],
    life: int,
) -> None:
    async def opened() -> dict[str, grpc.aio.Channel]:
        return {
            STOCK: grpc.aio.insecure_channel(target, options_of(0)),
            AGAIN: grpc.aio.insecure_channel(target, options_of(1)),
            OURS: service.grpc_aio_channel(),
        }

    with asyncio.Runner() as runner:
        made = runner.run(opened())
        blocks = {name: block(runner, channel, messages) for name, channel in made.items()}
        measured(blocks, messages, rounds, samples, life)
        for channel in made.values():
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
