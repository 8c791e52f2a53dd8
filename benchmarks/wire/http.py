"""Requests to three loopback servers, beside a stock httpx client that takes the three addresses in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import httpx

from benchmarks.wire.grpc import concurrent, threaded
from benchmarks.wire.paired import compare
from benchmarks.wire.servers import running
from svcmesh import Mesh

CALLS = 192
ROUNDS = 40


def rows(calls: int = CALLS, rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield the rows of all cases, see `benchmarks.wire.paired.compare`."""
    with running("http") as addresses, Mesh({"hello": addresses}) as mesh:
        urls = [f"http://{address}/" for address in addresses]
        with (
            httpx.Client() as stock,
            mesh.service("hello").http_client() as ours,
            ThreadPoolExecutor(32) as pool,
        ):
            for threads in (1, 8, 32):
                blocks = [threaded(call, calls, threads, pool) for call in (_in_turn(stock, urls), _get(ours))]
                yield from compare(f"HTTP sync, {threads} threads", blocks, calls, rounds)
        with asyncio.Runner() as runner:
            yield from _awaited(runner, mesh, urls, calls, rounds)


def _awaited(
    runner: asyncio.Runner, mesh: Mesh, urls: Sequence[str], calls: int, rounds: int
) -> Iterator[dict[str, Any]]:
    stock, ours = httpx.AsyncClient(), mesh.service("hello").http_async_client()
    for tasks in (1, 16, 64):
        blocks = [concurrent(runner, call, calls, tasks) for call in (_in_turn(stock, urls), _get(ours))]
        yield from compare(f"HTTP asyncio, {tasks} tasks", blocks, calls, rounds)
    for client in (stock, ours):
        runner.run(client.aclose())


def _in_turn(client: Any, urls: Sequence[str]) -> Callable[[], Any]:
    following = cycle(urls).__next__
    return lambda: client.get(following())


def _get(client: Any) -> Callable[[], Any]:
    return lambda: client.get("/")
