"""Staying registered, and leaving in order: the registering half of the mesh, the same for all registries.

A registry believes a heartbeat for one TTL. So there is one every third of it, a failed one is repeated inside it
(`svcmesh.policy.heartbeat`), and no call of a registrar may hang: each is given a third of the TTL as well. Leaving is
bounded too, since a process that is told to stop is killed if it takes too long, and a registry that is down forgets it
anyway when the TTL ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from svcmesh.balance.picker import Rng
from svcmesh.core.clock import Clock, sleep_until, wait_for
from svcmesh.core.emit import Emit
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.told import told
from svcmesh.discovery.base import Announcement, Registrar
from svcmesh.policy.backoff import FullJitter
from svcmesh.policy.heartbeat import HeartbeatPace
from svcmesh.policy.watch_backoff import told_wait

LONGEST_LEAVE = 5.0
"""Seconds that leaving takes at most, drain included."""

LONGEST_FAILING_LEAVE = 2.0
"""Seconds for which leaving is tried while the registry does not answer."""

_LEAVING = FullJitter(base=0.1, cap=LONGEST_FAILING_LEAVE)
_CLEANUP = 0.1  # seconds that a call which was cancelled gets to end
_FORGOTTEN = "the registry had lost it; it was registered again at once"


class Announcer:
    """Keeps one announcement in a registry.

    `run` keeps it alive, `drain` and `leave` end it; all are coroutines of one loop.

    Args:
        registrar: the registry. announcement: what it is told.
        clock: what TTL and waits are measured by. rng: what jitter is drawn from.
        emit: told of ``registration.registered``, ``.lost`` and ``.left``.

    Attributes:
        registered: whether the registry has it, as far as is known.
        last_error: why the registry could last not be told, or None.
    """

    def __init__(self, registrar: Registrar, announcement: Announcement, *, clock: Clock, rng: Rng, emit: Emit) -> None:
        self.announcement = announcement
        self.registered = False
        self.last_error: str | None = None
        self._registrar = registrar
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._pace = HeartbeatPace(announcement.ttl)
        self._began = 0.0  # when the last attempt of the heart began
        self._told: float | None = None  # seconds that its error said to wait
        self._lost = False
        self._draining = False
        self._drain_told = False
        self._heart: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[bool] | None = None

    async def run(self) -> None:
        """Register and heartbeat until `leave` is called, or until cancelled (which does not deregister)."""
        if self._leaving is not None or self._heart is not None:
            return
        self._heart = heart = asyncio.ensure_future(self._beat())
        try:
            await asyncio.wait([heart])
        finally:
            await self._ended(heart)
        if not heart.cancelled():
            heart.result()

    async def drain(self) -> bool:
        """Ask callers to send nothing new; heartbeats go on. Return whether the registry could be told by now.

        A registry that cannot be told now is told as soon as it answers again.
        """
        self._draining = True
        return await self._tried(self._tell_drain(), 1.0)

    async def leave(self, drain: float = 0.0) -> bool:
        """Drain for ``drain`` seconds, then deregister; return whether the registry knows.

        It takes at most 5 s, and 2 s when the registry is down; ``drain`` is cut to leave a second for deregistering.
        Heartbeats go on until then. Harmless when repeated: all callers wait for the same end. One that is cancelled
        stops waiting, no more; when all tasks of the loop are cancelled, the rest of the drain is left out.
        """
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self._leave(drain))
        return await asyncio.shield(self._leaving)

    async def _beat(self) -> None:
        pace = self._pace
        await self._until_registered(self._clock.now(), 0, pace.new)
        while True:
            await self._while_known()
            await self._until_registered(self._began + pace.forgotten(1, self._rng, self._told), 1, pace.forgotten)

    async def _until_registered(
        self, due: float, failures: int, pace: Callable[[int, Rng, float | None], float]
    ) -> None:
        """Announce until the registry takes it.

        Args:
            due: the instant of the first attempt. failures: how many there were before it, in a row.
            pace: draws the wait after so many.
        """
        while not await self._tried_at(due, self._announce):
            failures += 1
            self._report_lost(self.last_error)
            due = self._began + pace(failures, self._rng, self._told)
        self._report_registered()

    async def _while_known(self) -> None:
        """Heartbeat until none has succeeded for a TTL, and report that."""
        ends = self._clock.now() + self.announcement.ttl
        due = self._clock.now() + self._pace.first(self._rng)
        while max(due, self._clock.now()) < ends:
            if await self._tried_at(due, self._heartbeat):
                ends = self._clock.now() + self.announcement.ttl
                due = self._began + self._pace.usual(self._rng)
            else:
                due = self._began + self._pace.missed(self._rng)
        await sleep_until(self._clock, ends)
        self._report_lost(self.last_error)

    async def _tried_at(self, due: float, call: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Make a call of the registrar at an instant, or now if that has passed; return whether it succeeded."""
        await sleep_until(self._clock, due)
        self._began = self._clock.now()
        return await self._tried(call(), self._pace.every)

    async def _announce(self) -> None:
        await self._registrar.register(self.announcement)
        self._drain_told = False
        await self._tell_drain()

    async def _heartbeat(self) -> None:
        if await self._registrar.heartbeat(self.announcement):
            self._report_lost(_FORGOTTEN)
            self._report_registered()
        await self._tell_drain()

    async def _tell_drain(self) -> None:
        """Pass the wish to drain on, once, if there is one."""
        if self._draining and not self._drain_told:
            await self._registrar.drain(self.announcement)
            self._drain_told = True

    def _report_registered(self) -> None:
        """Report that the registry lists us, or does so again."""
        self.registered, self._lost = True, False
        announcement = self.announcement
        self._emit(
            "registration.registered", service=announcement.service, id=announcement.id, address=announcement.address
        )

    def _report_lost(self, error: str | None) -> None:
        """Report that the registry does not list us: once, until it does again."""
        self.registered = False
        if not self._lost:
            self._lost = True
            announcement = self.announcement
            self._emit("registration.lost", service=announcement.service, id=announcement.id, error=error or "")

    async def _leave(self, drain: float) -> bool:
        started = self._clock.now()
        end = started + LONGEST_FAILING_LEAVE
        with suppress(asyncio.CancelledError):  # the loop ends: there is no time to drain, but there is to deregister
            if drain > 0 and self.registered and await self.drain():
                await sleep_until(self._clock, min(started + drain, started + LONGEST_LEAVE - 1.0))
                end = min(started + LONGEST_LEAVE, self._clock.now() + LONGEST_FAILING_LEAVE)
        if self._heart is not None:
            await self._ended(self._heart)  # else a heartbeat could bring back what is taken away now
        clean = await self._deregister(end)
        self.registered = False
        self._emit("registration.left", service=self.announcement.service, id=self.announcement.id, clean=clean)
        return clean

    async def _deregister(self, end: float) -> bool:
        failures = 0
        while self._clock.now() < end:
            left = end - self._clock.now()
            if await self._tried(self._registrar.deregister(self.announcement), min(1.0, left)):
                return True
            failures += 1
            wait = _LEAVING.seconds(failures, self._rng)
            await sleep_until(self._clock, min(end, self._clock.now() + wait))
        return False

    async def _tried(self, call: Coroutine[Any, Any, None], seconds: float) -> bool:
        """Make a call of the registrar with at most ``seconds`` of time; return whether it succeeded."""
        task = asyncio.ensure_future(_no_exit(call))
        self._told = None
        try:
            if await wait_for(self._clock, task, self._clock.now() + seconds):
                task.result()
                return True
            self.last_error = f"{type(self._registrar).__name__} did not answer within {seconds:.3g} s"
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            self.last_error = "the registrar's call was cancelled"
        except Exception as error:  # noqa: BLE001 - a registrar may be anybody's code; its bugs must not end the heartbeat
            self.last_error, self._told = told(error), told_wait(error)
        finally:
            await self._ended(task)
        return False

    async def _ended(self, task: asyncio.Task[None]) -> None:
        """See to it that a task is over, or at least that nobody hears of it any more."""
        if task.done():
            return
        task.cancel()
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await wait_for(self._clock, task, self._clock.now() + _CLEANUP)


async def _no_exit(call: Coroutine[Any, Any, None]) -> None:
    """Make a call that may want to end the program: asyncio would end the worker's loop for it."""
    try:
        await call
    except (SystemExit, KeyboardInterrupt) as error:
        raise DiscoveryError(f"it raised {error!r}") from None
