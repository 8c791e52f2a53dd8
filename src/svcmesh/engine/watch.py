"""The care that every backend gets: one coroutine that watches a service for as long as the mesh lives.

A backend yields what it knows and raises when it cannot know it. Everything that makes a failing registry harmless is
here, once: what was known stays in force, the registry is asked again with jittered back-off, and the age of what
is used is visible. When a snapshot is put in force is `svcmesh.engine.debounce`'s business, and what of it outlives the
process is `svcmesh.engine.memory`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import NoReturn

from svcmesh.balance.picker import Rng
from svcmesh.core.clock import Clock, heed_cancellation, sleep_until
from svcmesh.core.emit import Emit
from svcmesh.core.errors import DiscoveryError, SvcmeshError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.base import Discovery
from svcmesh.engine.debounce import Debouncer, DebounceTimes
from svcmesh.engine.memory import Memory
from svcmesh.engine.watch_state import WatchState
from svcmesh.policy.backoff import FullJitter

BACKOFF = FullJitter(base=0.1, cap=5.0)
"""Waits between attempts to watch: thousands of clients come back to a registry that restarts, but not at once."""

_STEADY = 1.0
"""Seconds that a watch must have lasted for its good snapshot to count as recovery: otherwise a registry that
answers and breaks at once, over and over, would be asked without pause."""

_STANDARD = DebounceTimes()


async def watch(
    discovery: Discovery,
    service: str,
    *,
    clock: Clock,
    rng: Rng,
    publish: Callable[[Snapshot], object],
    emit: Emit,
    failed: Callable[[str | None], object] | None = None,
    state: WatchState | None = None,
    times: DebounceTimes = _STANDARD,
    memory: Memory | None = None,
) -> NoReturn:
    """Watch ``service`` until cancelled, and put what is found in force.

    Args:
        discovery: the backend.
        service: what it is asked for.
        clock: what waits and ages are measured by.
        rng: what back-off is drawn from.
        publish: called on this loop with every snapshot that differs from the one before it.
        emit: told of ``discovery.failed`` and ``discovery.recovered``.
        failed: called after each failure with its text, for those who wait for a first snapshot, and with None when
            the registry answers again.
        state: what to keep up to date; None if nobody looks.
        times: how long a change may wait to be put in force.
        memory: the cache on disk, if there is one; made for the same ``state``.

    Threads: the loop it runs on; ``state`` may be read from any.
    """
    known = WatchState() if state is None else state
    one = _Watch(discovery, service, clock=clock, rng=rng, emit=emit, failed=failed, state=known, memory=memory)
    put = publish if memory is None else partial(_put, publish, memory)
    await one.run(Debouncer(put, one.refused, clock=clock, loop=asyncio.get_running_loop(), times=times))


def _put(publish: Callable[[Snapshot], object], memory: Memory, snapshot: Snapshot) -> None:
    publish(snapshot)
    memory.put(snapshot)


class _Watch:
    """One watch of one service, for as long as it is wanted."""

    def __init__(
        self,
        discovery: Discovery,
        service: str,
        *,
        clock: Clock,
        rng: Rng,
        emit: Emit,
        failed: Callable[[str | None], object] | None,
        state: WatchState,
        memory: Memory | None,
    ) -> None:
        self._discovery = discovery
        self._service = service
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._failed = failed
        self._state = state
        self._memory = memory

    async def run(self, debouncer: Debouncer) -> NoReturn:
        """Watch, fail, wait, and watch again; ``debouncer`` publishes what is found."""
        if self._memory is not None:
            self._memory.begin(debouncer.offer)
        try:
            while True:
                began = self._clock.now()
                error = await self._watch_once(debouncer)
                heed_cancellation()  # whatever the backend made of it while it was closed
                debouncer.distrust()
                await sleep_until(self._clock, self._back_off(error, began))
        finally:
            debouncer.close()
            if self._memory is not None:
                self._memory.close()

    def refused(self, error: Exception) -> None:
        """Report a snapshot that could not be put in force; the watch holds, and the next one is tried."""
        self._report(error, 0.0)

    async def _watch_once(self, debouncer: Debouncer) -> BaseException:
        """Watch until something breaks, and return it: a backend may be anybody's code, and its bugs end no watch."""
        snapshots: AsyncIterator[Snapshot] | None = None
        try:
            snapshots = self._discovery.watch(self._service)
            async for snapshot in snapshots:
                heed_cancellation()  # a backend may lose it: in Python 3.11 even `asyncio.wait_for` does
                self._check(snapshot)
                debouncer.offer(snapshot)
                if self._memory is not None:
                    self._memory.answered(snapshot)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - cancelled may be a task of the backend's
            return error
        finally:
            await _close(snapshots)
        return DiscoveryError("the watch ended by itself")

    def _check(self, snapshot: Snapshot) -> None:
        """Take note of a good snapshot; raise DiscoveryError for what is none."""
        if not isinstance(snapshot, Snapshot):
            raise DiscoveryError(f"{type(self._discovery).__name__}.watch yielded {snapshot!r}, which is no Snapshot")
        state = self._state
        state.answered, state.cached_at = True, None
        if state.failing_since is not None:
            state.failing_since = None
            if self._failed is not None:
                self._failed(None)
            self._emit("discovery.recovered", service=self._service)

    def _back_off(self, error: BaseException, began: float) -> float:
        """Take note of a failure, and return when to try again."""
        state, now = self._state, self._clock.now()
        if state.failing_since is None:
            state.failing_since = now
            if now - began >= _STEADY:
                state.failures = 0
        state.failures += 1
        wait = BACKOFF.seconds(state.failures, self._rng)
        if isinstance(error, SvcmeshError) and error.retry_after is not None:
            wait = min(BACKOFF.cap, max(wait, error.retry_after))
        self._report(error, wait)
        if self._memory is not None:
            self._memory.failed()
        return now + wait

    def _report(self, error: BaseException, retry_in: float) -> None:
        text = _text(error)
        self._emit("discovery.failed", service=self._service, error=text, retry_in=retry_in)
        if self._failed is not None:
            self._failed(text)


async def _close(snapshots: AsyncIterator[Snapshot] | None) -> None:
    """Let an async generator release its sockets and files now, and not when it is collected."""
    close = getattr(snapshots, "aclose", None)
    if close is None:
        return
    with suppress(Exception):  # the watch is over, and what broke it has been reported
        await close()


def _text(error: BaseException) -> str:
    """Return an error of ours as it reads, and a stranger's with its class."""
    return str(error) if isinstance(error, SvcmeshError) else f"{type(error).__name__}: {error}"
