"""Unary calls to three loopback servers, beside the stock channel with gRPC's round_robin over the same three."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from benchmarks.wire.loads import concurrent, threaded
from benchmarks.wire.paired import compare
from benchmarks.wire.servers import running
from svcmesh import Mesh
from svcmesh._proto import greet_pb2, greet_pb2_grpc

CALLS = 320
ROUNDS = 40
SYNC_LIMIT, ASYNC_LIMIT = 1.03, 1.05
"""Times the CPU of the stock channel."""
ROUND_ROBIN = [("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))]
REQUEST = greet_pb2.HelloRequest(name="world")


def rows(calls: int = CALLS, rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield the rows of all cases, see `benchmarks.wire.paired.compare`."""
    with running("grpc") as addresses, Mesh({"greeter": addresses}) as mesh:
        target = f"ipv4:{','.join(addresses)}"
        with (
            grpc.insecure_channel(target, ROUND_ROBIN) as stock,
            mesh.service("greeter").grpc_channel() as ours,
            ThreadPoolExecutor(16) as pool,
        ):
            for threads in (1, 16):
                blocks = [threaded(call_of(channel), calls, threads, pool) for channel in (stock, ours)]
                yield from compare(f"gRPC sync, {threads} threads", blocks, calls, rounds, limit=SYNC_LIMIT)
        with asyncio.Runner() as runner:
            yield from _awaited(runner, mesh, target, calls, rounds)


def _awaited(runner: asyncio.Runner, mesh: Mesh, target: str, calls: int, rounds: int) -> Iterator[dict[str, Any]]:
    async def opened() -> list[grpc.aio.Channel]:
        return [grpc.aio.insecure_channel(target, ROUND_ROBIN), mesh.service("greeter").grpc_aio_channel()]

    channels = runner.run(opened())
    for tasks in (1, 64):
        blocks = [concurrent(runner, call_of(channel), calls, tasks) for channel in channels]
        yield from compare(f"gRPC asyncio, {tasks} tasks", blocks, calls, rounds, limit=ASYNC_LIMIT)
    for channel in channels:
        runner.run(channel.close(None))


def call_of(channel: Any) -> Callable[[], Any]:
    """Return what makes a call over ``channel``."""
    say_hello = greet_pb2_grpc.GreeterStub(channel).SayHello  # type: ignore[no-untyped-call]
    return lambda: say_hello(REQUEST)
