"""What one watch does with a cache on disk: begins with it where the registry is away, and keeps it up to date.

What comes from a cache is a snapshot like any other, so the first answer of the registry is compared with it, and an
empty one has to be confirmed. It is told from the others by its age alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.cache import Recalled, Slot
from svcmesh.engine.keeper import Keeper
from svcmesh.engine.recall import Recall
from svcmesh.engine.watch_state import WatchState


class Memory:
    """The cache of one service, for one watch. Threads: the loop of the watch, from its making on.

    Args:
        slot: where it is. state: what is known of the watch. emit: told of ``discovery.cached``.
    """

    def __init__(self, slot: Slot, service: str, state: WatchState, *, clock: Clock, emit: Emit) -> None:
        self._service = service
        self._state = state
        self._clock = clock
        self._emit = emit
        self._slot = slot
        self._recall: Recall | None = None
        self._keeper = Keeper(slot, lambda: state.answered and state.failing_since is None, clock=clock)

    def begin(self, offer: Callable[[Snapshot], object], offered: Callable[[], object]) -> None:
        """Have what the cache says offered, if the registry does not answer soon, nor has before; then ``offered``."""
        if not self._state.answered:
            self._recall = Recall(self._slot, partial(self._recalled, offer, offered), clock=self._clock)
            self._recall.begin()

    def failed(self) -> None:
        """The registry cannot be asked."""
        if self._recall is not None:
            self._recall.now()

    def answered(self, snapshot: Snapshot) -> None:
        """The registry has said this; it may be no other than what was known."""
        self._end_recall()
        self._keeper.answered(snapshot)

    def put(self, snapshot: Snapshot) -> None:
        """This is in force now."""
        if self._state.answered:
            self._keeper.keep(snapshot)

    def close(self) -> None:
        """Nobody watches any more: what was to be written is written now."""
        self._end_recall()
        self._keeper.close()

    def _end_recall(self) -> None:
        recall, self._recall = self._recall, None
        if recall is not None:
            recall.end()

    def _recalled(self, offer: Callable[[Snapshot], object], offered: Callable[[], object], recalled: Recalled) -> None:
        self._state.cached_at = self._clock.now() - recalled.age
        self._keeper.recalled(recalled.snapshot)
        self._emit("discovery.cached", service=self._service, age=recalled.age)  # who was waiting may look for it
        offer(recalled.snapshot)
        offered()
