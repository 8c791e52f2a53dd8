"""Looking back once per interval: what can only be judged of all endpoints together, and ends that wait for that.

It goes on only while there is something to see. When an interval has brought no call and nobody is out, it stops, and
the next call sets it going again: totals have not moved meanwhile, so nothing is missed. When for an interval no policy
has wanted it and nobody is out, it ends for good: calls under other policies must not pay for one that was dropped. The
timer holds nothing, so that a mesh which is dropped is collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import RLock
from typing import Protocol
from weakref import WeakMethod, WeakSet

from svcmesh.core.endpoint import Endpoint
from svcmesh.engine.member import NEVER, Member
from svcmesh.engine.runtime import Runtime
from svcmesh.policy.outlier import Ejection, OutlierDetection, OutlierDetector

Publish = Callable[[OutlierDetection, Iterable[Ejection], Iterable[Endpoint], float], object]
LATE = 0.1
"""The part of an interval by which the worker may be late before a call looks back in its stead."""


class Population(Protocol):
    """What ticks need of their cluster; as of `Cluster`."""

    runtime: Runtime
    lock: RLock
    members: dict[str, Member]
    timers: bool


class Ticking:
    """Has one detector look back once per interval.

    Threads: any may `start` it. Ticks happen on the worker; where that has no timers, or is late, in a call.

    Args:
        cluster: whose endpoints.
        config: what to look for. detector: for ``config``.
        counted: returns of how many of the members a share may be ejected.
        publish: puts in force what a tick found: settings, ejected, restored, now. Called without a lock.
        end: forgets this and its detector, which nobody wants any more. Called with the cluster's lock held.
    """

    def __init__(
        self,
        cluster: Population,
        config: OutlierDetection,
        detector: OutlierDetector,
        counted: Callable[[], int],
        publish: Publish,
        end: Callable[[Ticking], object],
    ) -> None:
        self._cluster = cluster
        self.config = config
        self._detector = detector
        self._counted = counted
        self._publish = publish
        self._end = end
        self._wanted: WeakSet[object] = WeakSet()
        self._joined = False  # since the last tick; some views live for one call
        self._patience = config.interval * LATE if cluster.timers else 0.0
        self._next = NEVER

    def join(self, view: object) -> None:
        """Go on for as long as ``view`` lives. The cluster's lock is held."""
        self._wanted.add(view)
        self._joined = True

    def start(self, now: float) -> None:
        """See to it that the interval that began at ``now`` at the latest is looked at when it ends."""
        if self._next == NEVER:
            with self._cluster.lock:
                if self._next == NEVER:
                    self._arm(now + self.config.interval)
        elif now >= self._next + self._patience:
            self.tick(now)

    def tick(self, now: float) -> None:
        """Look back, if it is time to."""
        with self._cluster.lock:
            if now < self._next:
                return
            found = self._detector.tick(self._cluster.members, now, self._counted())
            restored = [self._cluster.members[address] for address in found.restored]
            after = self._next + self.config.interval
            self._next = NEVER
            wanted, self._joined = self._joined or bool(self._wanted), False
            if not found.idle and (wanted or self._detector.waits_for_tick):
                self._arm(after if after > now else now + self.config.interval)
            elif not wanted and not self._detector.ejected:
                self._end(self)
        for member in restored:
            member.renew()  # it may be back since its ejection: a back-off would eject it again, for longer
        if found.ejected or restored:
            self._publish(self.config, found.ejected, [member.endpoint for member in restored], now)

    def _arm(self, when: float) -> None:
        self._next = when
        if not self._cluster.timers:
            return
        clock, tick = self._cluster.runtime.clock, WeakMethod(self.tick)

        def ring() -> None:
            still = tick()
            if still is not None:
                still(max(when, clock.now()))  # a loop may be early by what it cannot measure

        self._cluster.runtime.call_at(when, ring)
