"""The pickers at the end of a selection: the balancer's own, over one set of endpoints each.

Here weights are lowered where an endpoint starts slowly, and tables that take long to build are kept and built beside
the calls, one for each set.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from threading import RLock

from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import LoadBalancer, Picker
from svcmesh.balance.slow_start import SlowStart, slowed
from svcmesh.balance.weighed import Unweighed, Weighed, as_cells
from svcmesh.core.endpoint import Health
from svcmesh.engine.member import NEVER, Member
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.tables import Tables

DIGITS = 3
"""Of lowered weights: a schedule by weights stays short."""

LEAST = 0.001
"""And not so low that they round to none."""


class Leaves:
    """Makes pickers over sets of endpoints. Threads: under the cluster's lock.

    Attributes:
        affinity: whether the balancer goes by keys.
        again_at: the instant at which a weight will have risen; infinite where all are what they should be.

    Args:
        lock, publish: as of `Tables`.
    """

    def __init__(
        self,
        balancer: LoadBalancer,
        slow_start: SlowStart | None,
        runtime: Runtime,
        lock: Callable[[], RLock],
        publish: Callable[[], object],
    ) -> None:
        self.affinity = bool(getattr(balancer, "affinity", False))
        self.again_at = NEVER
        self._balancer = balancer
        self._slow = bool(getattr(balancer, "slow", False))
        self._slow_start = slow_start
        self._slowed = slowed(balancer) or balancer
        self._runtime = runtime
        self._lock = lock
        self._publish = publish
        self._tables: dict[Hashable, Tables] = {}
        self._used: set[Hashable] = set()
        self._factors: dict[float, float] = {}  # by instant: those that came together start together
        self._now = 0.0

    def begin(self, now: float) -> None:
        """Begin anew: the pickers that follow are all there will be, as of ``now``."""
        self._now, self.again_at = now, NEVER
        self._used, self._factors = set(), {}

    def end(self) -> None:
        """Drop the tables of sets that are no more."""
        self._tables = {name: tables for name, tables in self._tables.items() if name in self._used}

    def reset_after_fork(self) -> None:
        """Forget all tables: cells are others in a forked child."""
        self._tables = {}

    def over(self, name: Hashable, members: Sequence[Member]) -> Picker:
        """Return a picker over these; ``name`` tells one set from another, so that each has a table of its own."""
        factors = [] if self._slow_start is None else [self._factor(member) for member in members]
        if len(set(factors)) < 2:  # all warm or all new: weights in the same ratios
            return self._made(name, members)
        stand_in = self._slowed
        weights = [member.endpoint.weight if stand_in is self._balancer else 1.0 for member in members]
        weighed = [Weighed(m, weight * factor) for m, weight, factor in zip(members, weights, factors, strict=True)]
        return Unweighed(stand_in.over(as_cells(weighed), self._runtime.rng, self._runtime.clock))

    def shared(self, name: Hashable, shares: Sequence[tuple[Member, float]]) -> Picker:
        """Return a picker over endpoints whose parts of all calls are given; for balancers that go by keys."""
        return Unweighed(self._made(name, as_cells([Weighed(m, m.endpoint.weight, share) for m, share in shares])))

    def _made(self, name: Hashable, cells: Sequence[Cell]) -> Picker:
        if not self._slow:
            return self._balancer.over(cells, self._runtime.rng, self._runtime.clock)
        self._used.add(name)
        if name not in self._tables:
            self._tables[name] = Tables(self._balancer, self._runtime, self._lock, self._publish)
        return self._tables[name].over(cells)

    def _factor(self, member: Member) -> float:
        """Return what the weight of a member is multiplied by now."""
        slow_start = self._slow_start
        if slow_start is None or member.endpoint.health is not Health.HEALTHY:
            return 1.0
        known = self._factors.get(member.since)
        if known is not None:
            return known
        factor = slow_start.factor(self._now - member.since)
        if factor < 1:
            self.again_at = min(self.again_at, self._now + slow_start.step)
        self._factors[member.since] = rounded = max(LEAST, round(factor, DIGITS))
        return rounded
