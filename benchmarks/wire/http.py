"""Requests to three loopback servers, beside a stock httpx client that takes the three addresses in turn.

The yardstick has room for all that is open: its limits are 200 and 200, and so are ours. With its default limits
(100 connections, of which 20 are kept) it opens a new connection for many of its requests, which is another row.

What the yardstick costs depends on how many connections it holds, which it walks through for each request: with 64
calls open it begins with as many, and is at its dearest. It then hands several calls to one that is idle, so that most
of the others are never used, and after five seconds closed. The rows show that later, cheaper state of it, and the last
ones, of clients that are made anew for every two rounds, the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import httpx

from benchmarks.wire.loads import concurrent, threaded
from benchmarks.wire.paired import AGAIN, OURS, STOCK, Sample, compare, measured, told
from benchmarks.wire.servers import running
from svcmesh import Mesh

CALLS = 192
ROUNDS = 40
LIMITS = httpx.Limits(max_connections=200, max_keepalive_connections=200)
SYNC_LIMITS = {1: 0.95, 32: 0.75}
ASYNC_LIMITS = {1: 0.95, 16: 0.5, 64: 0.15}
"""Times the CPU of the stock client, by how many requests are open."""
NARROW = "stock, default limits"
LIFE = 2
"""Rounds for which a new client is used: less than its five seconds."""


def rows(calls: int = CALLS, rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield the rows of all cases, see `benchmarks.wire.paired.compare`."""
    with running("http") as addresses, Mesh({"hello": addresses}) as mesh:
        urls = [f"http://{address}/" for address in addresses]
        with (
            httpx.Client(limits=LIMITS) as stock,
            httpx.Client() as narrow,
            mesh.service("hello").http_client(limits=LIMITS) as ours,
            ThreadPoolExecutor(32) as pool,
        ):
            made = (in_turn(stock, urls), _get(ours), in_turn(narrow, urls))
            for threads in (1, 8, 32):
                *pair, other = [threaded(call, calls, threads, pool) for call in made]
                case, limit = f"HTTP sync, {threads} threads", SYNC_LIMITS.get(threads)
                yield from compare(case, pair, calls, rounds, {NARROW: other}, limit=limit)
        with asyncio.Runner() as runner:
            yield from _awaited(runner, mesh, urls, calls, rounds)
            yield from _anew(runner, mesh, urls, calls, rounds // 2)


def _awaited(
    runner: asyncio.Runner, mesh: Mesh, urls: Sequence[str], calls: int, rounds: int
) -> Iterator[dict[str, Any]]:
    stock, narrow = httpx.AsyncClient(limits=LIMITS), httpx.AsyncClient()
    ours = mesh.service("hello").http_async_client(limits=LIMITS)
    made = (in_turn(stock, urls), _get(ours), in_turn(narrow, urls))
    for tasks in (1, 16, 64):
        *pair, other = [concurrent(runner, call, calls, tasks) for call in made]
        case, limit = f"HTTP asyncio, {tasks} tasks", ASYNC_LIMITS.get(tasks)
        yield from compare(case, pair, calls, rounds, {NARROW: other}, limit=limit)
    for client in (stock, narrow, ours):
        runner.run(client.aclose())


def _anew(runner: asyncio.Runner, mesh: Mesh, urls: Sequence[str], calls: int, rounds: int) -> Iterator[dict[str, Any]]:
    """The same with 64 open, for clients in their first seconds."""
    samples: dict[str, list[Sample]] = {}
    for life in range(0, rounds, LIFE):
        stock, again = httpx.AsyncClient(limits=LIMITS), httpx.AsyncClient(limits=LIMITS)
        ours = mesh.service("hello").http_async_client(limits=LIMITS)
        made = {STOCK: in_turn(stock, urls), AGAIN: in_turn(again, urls), OURS: _get(ours)}
        blocks = {name: concurrent(runner, call, calls, 64) for name, call in made.items()}
        measured(blocks, calls, min(LIFE, rounds - life), samples, life)
        for client in (stock, again, ours):
            runner.run(client.aclose())
    yield from told("HTTP asyncio, 64 tasks, new", samples, ASYNC_LIMITS[64])


def in_turn(client: Any, urls: Sequence[str]) -> Callable[[], Any]:
    """Return what makes a request, to the next of ``urls`` each time."""
    following = cycle(urls).__next__
    return lambda: client.get(following())


def _get(client: Any) -> Callable[[], Any]:
    return lambda: client.get("http://hello/")  # a whole URL, as the stock client gets
