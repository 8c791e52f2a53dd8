"""How long what a registry said last may be used while it cannot be asked: for ever, unless somebody says otherwise.

Addresses outlive the registry's outages nearly always, so to go on is the default, as Envoy's and gRPC's. But where
they are given to others quickly, a call to whoever has one now may be worse than none: then there is a limit.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable

from svcmesh.core.clock import Clock, Timer
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.watch_state import WatchState

NOTHING = Snapshot((), authoritative=True)
"""What is in force when the limit has passed."""


class Staleness:
    """The limit of one watch. Threads: the loop of the watch.

    Args:
        limit: seconds for which what is known may be out of date; None: for ever.
        state: how long it has been. expire: called when the limit has passed, once per outage.
    """

    def __init__(
        self,
        limit: float | None,
        state: WatchState,
        expire: Callable[[], object],
        *,
        clock: Clock,
        loop: AbstractEventLoop,
    ) -> None:
        self._limit = limit
        self._state = state
        self._expire = expire
        self._clock = clock
        self._loop = loop
        self._timer: Timer | None = None

    def begins(self) -> None:
        """What is known may be out of date from now on, or was so already; harmless when that is known."""
        now = self._clock.now()
        age = self._state.age(now)
        if self._limit is not None and age is not None and self._timer is None and not self._state.expired:
            self._timer = self._clock.call_at(self._loop, now + self._limit - age, self._passed)

    def ends(self) -> None:
        """The registry has answered, or nobody watches any more."""
        self._state.expired = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _passed(self) -> None:
        self._timer = None
        self._state.expired = True
        self._expire()
