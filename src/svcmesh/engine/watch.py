"""The care that every backend gets: one coroutine that watches a service for as long as the mesh lives.

A backend yields what it knows and raises when it cannot know it. Everything that makes a failing registry harmless is
here, once: what was known stays in force, the registry is asked again with jittered back-off, and the age of what
is used is visible. When a snapshot is put in force is `svcmesh.engine.debounce`'s business, and what of it outlives the
process is `svcmesh.engine.memory`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import NoReturn

from svcmesh.balance.picker import Rng
from svcmesh.core.clock import Clock, heed_cancellation, sleep_until
from svcmesh.core.emit import Emit
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.core.told import told
from svcmesh.discovery.base import Discovery
from svcmesh.discovery.snapshots import snapshots_of
from svcmesh.engine.debounce import Debouncer, DebounceTimes
from svcmesh.engine.memory import Memory
from svcmesh.engine.staleness import NOTHING, Staleness
from svcmesh.engine.watch_state import WatchState
from svcmesh.policy.watch_backoff import WATCHES, told_wait

_STEADY = 1.0
"""Seconds that a watch must have lasted for its good snapshot to count as recovery: otherwise a registry that
answers and breaks at once, over and over, would be asked without pause."""

_TOO_OLD = "; what was known is not used any more (max_stale)"
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
    max_stale: float | None = None,
) -> NoReturn:
    """Watch ``service`` until cancelled, and put what is found in force.

    Args:
        discovery: the backend.
        service: what it is asked for.
        clock: what waits and ages are measured by.
        rng: what back-off is drawn from.
        publish: called on this loop with every snapshot that differs from the one before it.
        emit: told of ``discovery.failed``, ``discovery.recovered`` and ``discovery.expired``.
        failed: called after each failure with its text, for those who wait for a first snapshot, and with None when
            the registry answers again.
        state: what to keep up to date; None if nobody looks.
        times: how long a change may wait to be put in force.
        memory: the cache on disk, if there is one; made for the same ``state``.
        max_stale: seconds for which what is known is used while the registry cannot be asked; None: for ever.

    Threads: the loop it runs on; ``state`` may be read from any.
    """
    known = WatchState() if state is None else state
    loop = asyncio.get_running_loop()
    one = _Watch(discovery, service, clock=clock, rng=rng, emit=emit, failed=failed, state=known, memory=memory)
    put = publish if memory is None else partial(_put, publish, memory)
    debouncer = Debouncer(put, one.refused, clock=clock, loop=loop, times=times)
    await one.run(debouncer, Staleness(max_stale, known, partial(one.expire, debouncer), clock=clock, loop=loop))


def _put(publish: Callable[[Snapshot], object], memory: Memory, snapshot: Snapshot) -> None:
    publish(snapshot)
    if snapshot is not NOTHING:
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
        self._error = "no answer yet"

    async def run(self, debouncer: Debouncer, staleness: Staleness) -> NoReturn:
        """Watch, fail, wait, and watch again; ``debouncer`` publishes what is found, until it is too old."""
        if self._memory is not None:
            self._memory.begin(debouncer.offer, staleness.begins)
        try:
            while True:
                began = self._clock.now()
                error = await self._watch_once(debouncer, staleness)
                heed_cancellation()  # whatever the backend made of it while it was closed
                debouncer.distrust()
                until = self._back_off(error, began)
                staleness.begins()
                await sleep_until(self._clock, until)
        finally:
            staleness.ends()
            debouncer.close()
            if self._memory is not None:
                self._memory.close()

    def refused(self, error: Exception) -> None:
        """Report a snapshot that could not be put in force; the watch holds, and the next one is tried."""
        self._report(error, 0.0)

    def expire(self, debouncer: Debouncer) -> None:
        """Drop what is known: it has been out of date for too long."""
        age = self._state.age(self._clock.now())
        self._emit("discovery.expired", service=self._service, age=0.0 if age is None else age)
        if self._failed is not None:
            self._failed(self._error + _TOO_OLD)
        debouncer.offer(NOTHING)

    async def _watch_once(self, debouncer: Debouncer, staleness: Staleness) -> Exception:
        """Watch until something breaks, and return it: a backend may be anybody's code, and its bugs end no watch."""
        try:
            async with aclosing(snapshots_of(self._discovery, self._service)) as snapshots:
                async for snapshot in snapshots:
                    staleness.ends()
                    self._heard()
                    debouncer.offer(snapshot)
                    if self._memory is not None:
                        self._memory.answered(snapshot)
        except Exception as error:  # noqa: BLE001 - it is told, and the watch goes on
            return error
        return DiscoveryError("the watch ended by itself")

    def _heard(self) -> None:
        """Take note of a good snapshot."""
        state = self._state
        state.answered, state.cached_at = True, None
        if state.failing_since is not None:
            state.failing_since = None
            if self._failed is not None:
                self._failed(None)
            self._emit("discovery.recovered", service=self._service)

    def _back_off(self, error: Exception, began: float) -> float:
        """Take note of a failure, and return when to try again."""
        state, now = self._state, self._clock.now()
        if state.failing_since is None:
            state.failing_since = now
            if now - began >= _STEADY:
                state.failures = 0
        state.failures += 1
        wait = WATCHES.seconds(state.failures, self._rng, answered=state.answered, told=told_wait(error))
        self._report(error, wait)
        if self._memory is not None:
            self._memory.failed()
        return now + wait

    def _report(self, error: Exception, retry_in: float) -> None:
        text = self._error = told(error)
        self._emit("discovery.failed", service=self._service, error=text, retry_in=retry_in)
        if self._failed is not None:
            self._failed(text + _TOO_OLD if self._state.expired else text)
