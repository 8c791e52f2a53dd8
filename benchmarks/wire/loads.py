"""Blocks of calls: on threads, or in tasks of one loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.wire.paired import Block


def repeated(call: Callable[[], Any], calls: int) -> Block:
    """Return a block of ``calls`` calls, one after the other on this thread."""

    def block() -> None:
        for _ in range(calls):
            call()

    return block


def threaded(call: Callable[[], Any], calls: int, threads: int, pool: ThreadPoolExecutor) -> Block:
    """Return a block of ``calls`` calls on so many threads."""
    share = repeated(call, calls // threads)
    return share if threads == 1 else lambda: list(pool.map(lambda _: share(), range(threads)))


def concurrent(runner: asyncio.Runner, call: Callable[[], Any], calls: int, tasks: int) -> Block:
    """Return a block of ``calls`` awaited calls in so many tasks."""

    async def share() -> None:
        for _ in range(calls // tasks):
            await call()

    async def all_of_them() -> None:
        await asyncio.gather(*(share() for _ in range(tasks)))

    return lambda: runner.run(all_of_them())
