"""The care that every backend gets: one coroutine that watches a service for as long as the mesh lives.

A backend yields what it knows and raises when it cannot know it. Everything that makes a failing registry harmless is
here, once: what was known stays in force, the registry is asked again with jittered back-off, and the age of what
is used is visible. Which snapshot is put in force when is `settle`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from svcmesh.balance.picker import Rng
from svcmesh.core.clock import Clock, sleep_until
from svcmesh.core.emit import Emit
from svcmesh.core.errors import DiscoveryError, SvcmeshError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.base import Discovery
from svcmesh.engine.settle import Settler, Settling
from svcmesh.policy.backoff import FullJitter

BACKOFF = FullJitter(base=0.1, cap=5.0)
"""Waits between attempts to watch: thousands of clients come back to a registry that restarts, but not at once."""

_STEADY = 1.0
"""Seconds that a watch must have lasted for its good snapshot to count as recovery: one that answers and breaks at
once, over and over, would else be asked without pause."""

_STANDARD = Settling()


@dataclass(slots=True)
class WatchState:
    """What is known of a watch, for `Mesh.state` and errors. Instants are the clock's.

    Attributes:
        last_success: when the last good snapshot came, or None.
        last_error: why the watch last failed, or None; it stays after recovery.
        failing_since: when the watch broke, or None while it is in force.
        failures: consecutive attempts that failed. updates: snapshots that were put in force.
    """

    last_success: float | None = None
    last_error: str | None = None
    failing_since: float | None = None
    failures: int = 0
    updates: int = 0

    def age(self, now: float) -> float | None:
        """Return for how many seconds what is in force may be out of date: 0 while the watch holds, None at first."""
        if self.last_success is None:
            return None
        return 0.0 if self.failing_since is None else max(0.0, now - self.failing_since)


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
    settling: Settling = _STANDARD,
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
        settling: how long what may wait.

    Threads: the loop it runs on; ``state`` may be read from any.
    """
    one = _Watch(discovery, service, clock, rng, emit, publish, failed, WatchState() if state is None else state)
    one.settler = Settler(one.put, one.refused, clock=clock, loop=asyncio.get_running_loop(), settling=settling)
    await one.run()


@dataclass(slots=True)
class _Watch:
    _discovery: Discovery
    _service: str
    _clock: Clock
    _rng: Rng
    _emit: Emit
    _publish: Callable[[Snapshot], object]
    _failed: Callable[[str | None], object] | None
    _state: WatchState
    settler: Settler = field(init=False)

    async def run(self) -> NoReturn:
        """Watch, fail, wait, and watch again."""
        try:
            while True:
                began = self._clock.now()
                error = await self._watch_once()
                if _cancelled():
                    raise asyncio.CancelledError  # whatever the backend made of it while it was closed
                await sleep_until(self._clock, self._back_off(error, began))
        finally:
            self.settler.close()

    async def _watch_once(self) -> BaseException:
        """Watch until something breaks, and return it: a backend may be anybody's code, and its bugs end no watch."""
        snapshots: AsyncIterator[Snapshot] | None = None
        try:
            snapshots = self._discovery.watch(self._service)
            async for snapshot in snapshots:
                self._take(snapshot)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - cancelled may be a task of the backend's
            return error
        finally:
            await _close(snapshots)
        return DiscoveryError("the watch ended by itself")

    def _take(self, snapshot: Snapshot) -> None:
        if not isinstance(snapshot, Snapshot):
            raise DiscoveryError(f"{type(self._discovery).__name__}.watch yielded {snapshot!r}, which is no Snapshot")
        state = self._state
        state.last_success = self._clock.now()
        if state.failing_since is not None:
            state.failing_since = None
            if self._failed is not None:
                self._failed(None)
            self._emit("discovery.recovered", service=self._service)
        self.settler.offer(snapshot)

    def _back_off(self, error: BaseException, began: float) -> float:
        """Take note of a failure, and return when to try again."""
        state, now = self._state, self._clock.now()
        self.settler.distrust()
        if state.failing_since is None:
            state.failing_since = now
            if now - began >= _STEADY:
                state.failures = 0
        state.failures += 1
        wait = BACKOFF.seconds(state.failures, self._rng)
        if isinstance(error, SvcmeshError) and error.retry_after is not None:
            wait = min(BACKOFF.cap, max(wait, error.retry_after))
        self._report(error, wait)
        return now + wait

    def put(self, snapshot: Snapshot) -> None:
        """Put a snapshot in force."""
        self._publish(snapshot)
        self._state.updates += 1

    def refused(self, error: Exception) -> None:
        """Report a snapshot that could not be put in force; the watch holds, and the next one is tried."""
        self._report(error, 0.0)

    def _report(self, error: BaseException, retry_in: float) -> None:
        text = _text(error)
        self._state.last_error = text
        self._emit("discovery.failed", service=self._service, error=text, retry_in=retry_in)
        if self._failed is not None:
            self._failed(text)


def _cancelled() -> bool:
    """Whether this task has been asked to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


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
