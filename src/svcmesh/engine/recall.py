"""When a cache is read: once, and only while the registry has never answered.

A registry that fails says so at once; one that hangs says nothing, so that is waited for a second and no longer. What
the registry says itself is never second to what was known once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from svcmesh.core.clock import Clock, Timer
from svcmesh.engine.cache import Recalled, Slot

PATIENCE = 1.0
"""Seconds that the first answer of a registry is waited for before a cache is asked."""


class Recall:
    """Reads the cache of one service for one watch, at most once. Threads: the loop of the watch.

    Args:
        slot: where it is. found: called with what it says, unless the registry has answered meanwhile.
    """

    def __init__(self, slot: Slot, found: Callable[[Recalled], object], *, clock: Clock) -> None:
        self._slot = slot
        self._found = found
        self._clock = clock
        self._timer: Timer | None = None
        self._over = False

    def begin(self) -> None:
        """Wait for the registry, and then no more."""
        loop = asyncio.get_running_loop()
        self._timer = self._clock.call_at(loop, self._clock.now() + PATIENCE, self.now)

    def now(self) -> None:
        """Read, if that was not done yet: the registry fails, or is silent."""
        if self._timer is not None:
            self._stop_waiting()
            self._slot.read(self._take)

    def end(self) -> None:
        """Have nothing read any more, nor used: the registry has answered, or nobody wants to know."""
        self._stop_waiting()
        self._over = True

    def _stop_waiting(self) -> None:
        """Forget the registry's time to answer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take(self, recalled: Recalled) -> None:
        if not self._over:
            self._found(recalled)
