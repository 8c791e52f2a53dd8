"""Whom the calls of a view go to, and with which shares: priorities, panic, localities, slow start, then the balancer.

All of that is decided when something changes, never in a call: it ends in one picker. With one priority, no degraded
endpoint and no localities that is the balancer's own picker and nothing else.

Envoy has nobody for a call whose hosts all turn out to be unusable. Here it goes on, to whoever is left in the order of
priorities: breakers keep calls from endpoints that count as healthy, and retries keep away from those they have met.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from threading import RLock

from svcmesh.balance.cell import Cell
from svcmesh.balance.least_request import LeastRequest
from svcmesh.balance.locality_failover import LocalityFailover
from svcmesh.balance.picker import Picker
from svcmesh.balance.priority import Availability, Loads, loads_elsewhere
from svcmesh.balance.redraw import EmptyPicker
from svcmesh.balance.several import Slotted
from svcmesh.balance.subset import Subset
from svcmesh.core.endpoint import Endpoint
from svcmesh.engine.group import IsOpen
from svcmesh.engine.leaves import Leaves
from svcmesh.engine.localities import Localities, Shares, Split
from svcmesh.engine.member import Member
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.standing import NOBODY, Standing, standing
from svcmesh.policy.health.finding import Unwell
from svcmesh.policy.outlier import Ejection
from svcmesh.policy.policy import Policy

Part = tuple[int, bool]
"""The place of a priority, and whether its degraded endpoints are meant."""


@dataclass(frozen=True, slots=True)
class Level:
    """What one priority gets, for whoever asks.

    Attributes:
        priority: its number. endpoints: how many take traffic. healthy, degraded: of them.
        panic: whether it is in panic. closed: and takes no calls in it.
        load: the percent of the calls for its healthy endpoints, in a panic for all. degraded_load: for degraded ones.
        localities: the parts of 1 that localities get of ``load``; empty where localities are ignored.
    """

    priority: int
    endpoints: int
    healthy: int
    degraded: int
    panic: bool
    closed: bool
    load: int
    degraded_load: int
    localities: Shares


@dataclass(frozen=True, slots=True)
class Plan:
    """One state of things, worked out: what is picked from, and what a repeated call has to know besides.

    Attributes:
        picker: over all that may be called. levels: how it shares out the calls.
        available: what each priority can take. places: of the priorities in it, by `Selection.level_of`.
        parts: numbers of the parts of the picker. closed: places of those that take no calls in their panic.
        mirror: the same picker once more, with turns of its own, for those who only look; None while nobody does.
    """

    picker: Picker
    levels: tuple[Level, ...]
    available: Availability
    places: Mapping[int, int]
    parts: Mapping[Part, int]
    closed: Collection[int]
    mirror: Picker | None = None


_PRIORITY = attrgetter("priority")
_NOTHING = Plan(EmptyPicker(()), (), Availability((), ()), {}, {}, ())


class Selection:
    """What a view picks from. Threads: `update` holds the cluster's lock; the rest is for all.

    Attributes:
        balancer: who chooses in the end. plan: the newest one.
        level_of: returns a number that is lower the sooner an endpoint is to be used.
        lacking: what calls want of endpoints and none has; empty where that is not so.

    Args:
        lock, publish: as of `Tables`.
    """

    def __init__(
        self, policy: Policy, runtime: Runtime, lock: Callable[[], RLock], publish: Callable[[], object]
    ) -> None:
        self.balancer = policy.load_balancer or LeastRequest()
        self.plan = _NOTHING
        self.lacking = ""
        self._mirrored = False
        self._policy = policy
        self._failover = policy.locality if isinstance(policy.locality, LocalityFailover) else None
        self.level_of: Callable[[Endpoint], int] = _PRIORITY if self._failover is None else self._failover.level
        self._subset = self.balancer if isinstance(self.balancer, Subset) else None
        leaf = self.balancer if self._subset is None else self._subset.child_policy
        self._leaves = Leaves(leaf, policy.slow_start, runtime, lock, publish)
        self._localities = Localities(policy.locality, policy.priorities, self._leaves, runtime.rng)
        self._rng = runtime.rng

    @property
    def panicking(self) -> frozenset[int]:
        """The priorities in panic."""
        return frozenset(level.priority for level in self.plan.levels if level.panic)

    @property
    def again_at(self) -> float:
        """When weights will have changed by themselves, so that it has to be updated; infinite for never."""
        return self._leaves.again_at

    def priority_of(self, endpoint: Endpoint) -> int:
        """Return the priority of an endpoint: the registry's or, where distance decides, its place among those."""
        if self._failover is None:
            return endpoint.priority
        return self.plan.places.get(self._failover.level(endpoint), endpoint.priority)

    def reset_after_fork(self) -> None:
        """Forget what belongs to cells of the parent."""
        self.plan = _NOTHING
        self._leaves.reset_after_fork()

    def mirror_by(self, mirror: Picker) -> None:
        """Let this be the mirror of the plan in force; those that follow have one, too. The cluster's lock is held."""
        self._mirrored = True
        self.plan = replace(self.plan, mirror=mirror)

    # -- when something has changed --------------------------------------------------------------------------------

    def update(
        self,
        members: Sequence[Member],
        ejected: Mapping[str, Ejection],
        is_open: IsOpen,
        now: float,
        failing: Mapping[str, Unwell] = NOBODY,
        degraded: Collection[str] = (),
    ) -> None:
        """Make a new plan.

        Args:
            members: all endpoints. ejected: who is out of rotation, by address.
            is_open: asked of everybody who could be called.
            failing: who does not pass the health checks, by address. degraded: who does, and is degraded by them.
        """
        if self._subset is not None:
            members = self._subset.members(members)
            self.lacking = "" if members else f"the metadata {self._subset}"
        found = standing(members, ejected, is_open, self.level_of, self._policy, failing, degraded)
        closing = self._policy.priorities.fail_traffic_on_panic
        closed = [place for place, panic in enumerate(found.panicking) if panic and closing]
        self._leaves.begin(now)
        splits = self._splits(found, is_open)
        again = self._splits(found, is_open) if self._mirrored else None
        self._leaves.end()
        parts = {part: number for number, part in enumerate(splits)}
        picker = self._picker(found.loads, splits, parts, closed)
        mirror = None if again is None else self._picker(found.loads, again, parts, closed)
        places = {group.priority: place for place, group in enumerate(found.groups)}
        self.plan = Plan(
            picker, self._levels(found, splits, closed), found.available, places, parts, closed, mirror=mirror
        )

    def _splits(self, found: Standing, is_open: IsOpen) -> dict[Part, Split]:
        """Return a picker for each part: first the healthy endpoints of all priorities, then the degraded ones."""
        splits: list[tuple[Part, Split]] = []
        over = self._localities.over
        for place, group in enumerate(found.admitting):
            if not found.panicking[place]:
                splits.append(((place, False), over(group.healthy, group, degraded=False, first=not place)))
            elif not self._policy.priorities.fail_traffic_on_panic:
                called = [member for member in found.answering[place] if not is_open(member)]
                splits.append(((place, False), over(called, group, panic=True)))
        for place, group in enumerate(found.admitting):
            if group.degraded and not found.panicking[place]:
                splits.append(((place, True), over(group.degraded, group, degraded=True, first=not place)))
        return {part: split for part, split in splits if split[0].cells}

    def _picker(
        self, loads: Loads, splits: Mapping[Part, Split], parts: Mapping[Part, int], closed: Collection[int]
    ) -> Picker:
        pickers = [picker for picker, _ in splits.values()]
        if len(pickers) == 1 and not closed:
            return pickers[0]
        return Slotted(pickers, self._slots(loads, parts, closed), self._rng) if pickers else EmptyPicker(())

    def _slots(self, loads: Loads, parts: Mapping[Part, int], closed: Collection[int]) -> list[int | None]:
        """Return for each percent of the calls the part that they go to.

        Where nobody is in it they go to the first one that has somebody. Keys have no degraded tier in Envoy: theirs go
        to the healthy endpoints of the priority.
        """
        slots: list[int | None] = []
        affinity = self._leaves.affinity
        for degraded, percents in ((False, loads.healthy), (True, loads.degraded)):
            for place, percent in enumerate(percents):
                wanted = (place, degraded and not (affinity and (place, False) in parts))
                slots += [None if place in closed else parts.get(wanted, 0)] * percent
        return slots

    def _levels(self, found: Standing, splits: Mapping[Part, Split], closed: Collection[int]) -> tuple[Level, ...]:
        return tuple(
            Level(
                priority=group.priority if self._failover is None else place,
                endpoints=len(group.members),
                healthy=len(group.healthy),
                degraded=len(group.degraded),
                panic=found.panicking[place],
                closed=place in closed,
                load=found.loads.healthy[place],
                degraded_load=found.loads.degraded[place],
                localities=splits[place, False][1] if (place, False) in splits else (),
            )
            for place, group in enumerate(found.groups)
        )

    # -- for calls that are repeated -------------------------------------------------------------------------------

    def choose_elsewhere(
        self, key: int | None, exclude: Collection[Endpoint], tried: Sequence[Endpoint], every: int
    ) -> Cell | None:
        """Return a cell whose endpoint is not excluded, if possible of a priority that was not tried yet.

        Args:
            key, exclude: as of `Picker.choose_from`.
            tried: the endpoints of the attempts so far. every: as of `svcmesh.balance.priority.loads_elsewhere`.
        """
        plan = self.plan
        met = [plan.places[level] for level in map(self.level_of, tried) if level in plan.places]
        loads = loads_elsewhere(plan.available, met, every)
        if loads is None or not isinstance(plan.picker, Slotted):
            return plan.picker.choose_from(key, exclude)
        return plan.picker.choose_by(self._slots(loads, plan.parts, plan.closed), key, exclude)
