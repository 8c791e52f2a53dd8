"""When a snapshot is put in force: at once where it can only help, later where waiting makes it likelier true.

Registries stutter. A deployment changes a list ten times within a second, and each change would rebuild every picker; a
registry that restarts, or a token that lost its rights, answers with an empty list that nobody meant. So the first
snapshot and additions are quick, removals wait for the end of a burst, and an empty list that the source cannot vouch
for waits until it has lasted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from svcmesh.core.clock import Clock, Timer
from svcmesh.core.snapshot import Snapshot, sharing


@dataclass(frozen=True, slots=True, kw_only=True)
class DebounceTimes:
    """How long a change may wait to be put in force. All in seconds, except `confirmations`.

    Attributes:
        quiet: a burst is over when nothing came for so long; default 50 ms.
        longest: a change is in force at most so long after it came, however long the burst; default 1.
        empty: an empty answer that followed a good one is believed when it has lasted so long; default 30.
        confirmations: or when it has come again so many times; default 3.
        apart: answers that follow each other faster count as one; default 1.
    """

    quiet: float = 0.05
    longest: float = 1.0
    empty: float = 30.0
    confirmations: int = 3
    apart: float = 1.0


class Debouncer:
    """Takes every snapshot of a service and publishes those that stand.

    Args:
        publish: puts a snapshot in force. What it raises goes to ``broken``, since nobody else would hear of it.
        loop: whose timers are used; everything here happens on its thread.

    Invariant: what is published differs from what was published before it.
    """

    def __init__(
        self,
        publish: Callable[[Snapshot], object],
        broken: Callable[[Exception], object],
        *,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        times: DebounceTimes,
    ) -> None:
        self._publish = publish
        self._broken = broken
        self._clock = clock
        self._loop = loop
        self._times = times
        self._published: Snapshot | None = None
        self._published_at = 0.0
        self._pending: Snapshot | None = None
        self._changed_at = 0.0  # when the oldest change came that is not published yet
        self._flush_timer: Timer | None = None
        self._empties = 0
        self._counted_at = 0.0
        self._empty_timer: Timer | None = None

    def offer(self, snapshot: Snapshot) -> None:
        """Take a snapshot, and publish it now, later, or, if another one replaces it, never."""
        now = self._clock.now()
        before = self._published
        if before is None:
            self._put(snapshot)
        elif before.endpoints and not snapshot.endpoints and not snapshot.authoritative:
            self._hold(snapshot, now)
        else:
            self.distrust()
            self._collect(before, snapshot, now)

    def distrust(self) -> None:
        """Forget an empty answer that is still waiting to be believed: a source that fails confirms nothing."""
        self._empties = 0
        if self._empty_timer is not None:
            self._empty_timer.cancel()
            self._empty_timer = None

    def close(self) -> None:
        """Publish nothing any more."""
        self.distrust()
        self._drop_pending()

    def _collect(self, before: Snapshot, snapshot: Snapshot, now: float) -> None:
        snapshot, change = sharing(before, snapshot)
        if not change and before.policy == snapshot.policy and not _reordered(before, snapshot):
            self._drop_pending()  # it changed and changed back within a burst
            return
        if self._pending is None:
            self._changed_at = now
        self._drop_pending()
        self._pending = snapshot
        due = min(now + self._times.quiet, self._changed_at + self._times.longest)
        if change.added and not change.removed and not change.changed:
            due = min(due, self._published_at + self._times.quiet)  # more to choose from does no harm
        if due <= now:
            self._put(snapshot)
        else:
            self._flush_timer = self._clock.call_at(self._loop, due, lambda: self._put(snapshot))

    def _hold(self, snapshot: Snapshot, now: float) -> None:
        if not self._empties:
            self._empty_timer = self._clock.call_at(
                self._loop, now + self._times.empty, lambda: self._believe(snapshot)
            )
        elif now - self._counted_at < self._times.apart:
            return
        self._empties += 1
        self._counted_at = now
        if self._empties > self._times.confirmations:
            self._believe(snapshot)

    def _believe(self, snapshot: Snapshot) -> None:
        self.distrust()
        self._put(snapshot)

    def _put(self, snapshot: Snapshot) -> None:
        self._drop_pending()  # it is this one, or older
        try:
            self._publish(snapshot)
        except Exception as error:  # noqa: BLE001 - a timer's caller is the loop, which could only log it
            self._broken(error)
        else:
            self._published, self._published_at = snapshot, self._clock.now()

    def _drop_pending(self) -> None:
        self._pending = None
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None


def _reordered(before: Snapshot, now: Snapshot) -> bool:
    """Whether the same endpoints stand in another order, and that says something. ``now``: shares them with before."""
    return now.ordered and any(one is not other for one, other in zip(before.endpoints, now.endpoints, strict=True))
