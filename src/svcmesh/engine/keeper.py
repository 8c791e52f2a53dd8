"""When a cache is written: after the first success, after a change, and now and then, since its age is looked at.

At most once a second for one service, however its endpoints flap. An empty answer that nobody vouches for removes what
an earlier process knew only when it has lasted: a registry that has just been restarted knows of nobody, for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from svcmesh.core.clock import Clock, Timer
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.cache import Slot

APART = 1.0
"""Seconds between two writes for one service, at least."""

REFRESH = 600.0
"""Seconds after which the same is written again: what a registry has just confirmed is not old."""

LASTING = 30.0
"""Seconds that a first answer without endpoints must have lasted to be believed."""

NEVER = float("-inf")


class Keeper:
    """Keeps the cache of one service up to date. Threads: the loop of the watch.

    Args:
        slot: where it is. holds: whether the registry answers now; what it said before is not confirmed while not.
    """

    def __init__(self, slot: Slot, holds: Callable[[], bool], *, clock: Clock) -> None:
        self._slot = slot
        self._holds = holds
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._endpoints: tuple[Endpoint, ...] | None = None
        self._changed = False
        self._written_at = NEVER
        self._timer: Timer | None = None

    def recalled(self, snapshot: Snapshot) -> None:
        """Take note of what the cache says: it is there already, and an empty answer after it has to be confirmed."""
        self._endpoints = snapshot.endpoints

    def answered(self, snapshot: Snapshot) -> None:
        """Take note of an answer, which may be no other than what was known, and so not be put in force."""
        if self._written_at == NEVER and not self._changed and snapshot.endpoints:
            self.keep(snapshot)

    def keep(self, snapshot: Snapshot) -> None:
        """Have what is in force written: endpoints soon, none at all when that can be believed."""
        known, self._endpoints = self._endpoints, snapshot.endpoints
        if known == snapshot.endpoints and self._written_at != NEVER:
            return
        now = self._clock.now()
        self._changed = bool(snapshot.endpoints or snapshot.authoritative or known)
        self._set(max(now, self._written_at + APART) if self._changed else now + LASTING)

    def close(self) -> None:
        """Write at once what was to be written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._changed:
            self._write()

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_at(self._loop, when, self._ring)

    def _ring(self) -> None:
        if self._changed or self._holds():
            self._write()
            self._set(self._clock.now() + REFRESH)
        else:
            self._set(self._clock.now() + LASTING)

    def _write(self) -> None:
        self._changed = False
        self._written_at = self._clock.now()
        self._slot.write(self._endpoints or ())
