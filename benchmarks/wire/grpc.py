"""Unary calls to three loopback servers, beside the stock channel with gRPC's round_robin over the same three.

A call under the standard policy has a deadline, which gRPC tells the server and keeps a timer for; a plain stock call
has none. What that alone costs is the row of a stock call with a timeout. Channels are made anew for every few rounds.

What the mesh does for a call is made up for by what it leaves out: gRPC keeps a state or an object for each, for
questions and statistics that hardly a call is asked for, and ours begin without (`svcmesh.transport.grpc.lean` and
`svcmesh.transport.grpc.aio.lean`). Python that has to be fetched anew after each wait takes several times what it takes
in a loop, so that matters more than microseconds of a loop would say; as do objects, which the collector looks through.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from benchmarks.wire.loads import concurrent, threaded
from benchmarks.wire.paired import AGAIN, OURS, STOCK, Sample, measured, told
from benchmarks.wire.servers import running
from svcmesh import Mesh
from svcmesh._proto import greet_pb2, greet_pb2_grpc

CALLS = 320
ROUNDS = 80
LIFE = 2
"""Rounds for which a channel is used."""
TIMED = "stock, timeout=30"
SYNC_LIMIT, ASYNC_LIMIT = 1.03, 1.05
"""Times the CPU of the stock channel."""
ROUND_ROBIN = [("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))]
REQUEST = greet_pb2.HelloRequest(name="world")


def rows(calls: int = CALLS, rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield the rows of all cases, see `benchmarks.wire.paired.told`."""
    with running("grpc") as addresses, Mesh({"greeter": addresses}) as mesh:
        target = f"ipv4:{','.join(addresses)}"
        with ThreadPoolExecutor(16) as pool:
            for threads in (1, 16):
                samples: dict[str, list[Sample]] = {}
                for life in range(0, rounds, LIFE):
                    _blocking(mesh, target, calls, threads, pool, min(LIFE, rounds - life), samples, life)
                yield from told(f"gRPC sync, {threads} threads", samples, SYNC_LIMIT)
        for tasks in (1, 64):
            samples = {}
            for life in range(0, rounds, LIFE):
                _awaited(mesh, target, calls, tasks, min(LIFE, rounds - life), samples, life)
            yield from told(f"gRPC asyncio, {tasks} tasks", samples, ASYNC_LIMIT)


def _blocking(
    mesh: Mesh,
    target: str,
    calls: int,
    threads: int,
    pool: ThreadPoolExecutor,
    rounds: int,
    samples: dict[str, list[Sample]],
    life: int,
) -> None:
    with (
        grpc.insecure_channel(target, options_of(0)) as stock,
        grpc.insecure_channel(target, options_of(1)) as again,
        mesh.service("greeter").grpc_channel() as ours,
    ):
        made = {STOCK: call_of(stock), AGAIN: call_of(again), TIMED: call_of(stock, 30.0), OURS: call_of(ours)}
        blocks = {name: threaded(call, calls, threads, pool) for name, call in made.items()}
        measured(blocks, calls, rounds, samples, life)


def _awaited(
    mesh: Mesh, target: str, calls: int, tasks: int, rounds: int, samples: dict[str, list[Sample]], life: int
) -> None:
    async def opened() -> list[grpc.aio.Channel]:
        return [
            grpc.aio.insecure_channel(target, options_of(0)),
            grpc.aio.insecure_channel(target, options_of(1)),
            mesh.service("greeter").grpc_aio_channel(),
        ]

    with asyncio.Runner() as runner:
        stock, again, ours = channels = runner.run(opened())
        made = {STOCK: call_of(stock), AGAIN: call_of(again), TIMED: call_of(stock, 30.0), OURS: call_of(ours)}
        blocks = {name: concurrent(runner, call, calls, tasks) for name, call in made.items()}
        measured(blocks, calls, rounds, samples, life)
        for channel in channels:
            runner.run(channel.close(None))


def options_of(number: int) -> list[tuple[str, Any]]:
    """Return the options of a channel; those with different numbers share no connection."""
    return [*ROUND_ROBIN, ("svcmesh.benchmark", number)]


def call_of(channel: Any, timeout: float | None = None) -> Callable[[], Any]:
    """Return what makes a call over ``channel``."""
    say_hello = greet_pb2_grpc.GreeterStub(channel).SayHello  # type: ignore[no-untyped-call]
    return lambda: say_hello(REQUEST, timeout=timeout)
