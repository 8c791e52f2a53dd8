"""How the calls to one set of endpoints are shared between the localities that these are in."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from svcmesh.balance.affinity import parts_of
from svcmesh.balance.locality_failover import LocalityFailover
from svcmesh.balance.locality_weighted import LocalityWeighted, effective, strides
from svcmesh.balance.picker import Picker, Rng
from svcmesh.balance.priority import Priorities
from svcmesh.balance.redraw import EmptyPicker
from svcmesh.balance.several import Several
from svcmesh.balance.zone_aware import ZoneAware
from svcmesh.core.endpoint import PICKED, Locality
from svcmesh.engine.group import Group, by_locality
from svcmesh.engine.leaves import Leaves
from svcmesh.engine.member import Member

Shares = tuple[tuple[Locality, float], ...]
"""The parts of 1 that localities get of the calls; empty where localities are ignored."""

Split = tuple[Picker, Shares]

Name = tuple[int, bool]
"""What a set is known by: its priority, and whether it is that of the degraded endpoints."""


class Localities:
    """Makes pickers over sets of endpoints, with or without regard to where these are.

    Args:
        config: how, if at all; `LocalityFailover` has made priorities of localities, and is done.
        priorities: how much room hosts are provided with. leaves: make the pickers in the end.
    """

    def __init__(
        self,
        config: LocalityWeighted | ZoneAware | LocalityFailover | None,
        priorities: Priorities,
        leaves: Leaves,
        rng: Rng,
    ) -> None:
        self._config = config
        self._factor = priorities.overprovisioning_factor
        self._leaves = leaves
        self._rng = rng

    def over(
        self,
        members: Sequence[Member],
        group: Group,
        *,
        degraded: bool = False,
        first: bool = False,
        panic: bool = False,
    ) -> Split:
        """Return a picker over these members of a group, and how it shares the calls.

        Args:
            members: who. group: all of the priority.
            degraded: they are the degraded ones. panic: they are all. first: the priority is the first one.
        """
        config, name = self._config, (group.priority, degraded)
        if members and members[0].endpoint is PICKED:
            config = None  # no service: a policy around one function, which is nowhere
        if isinstance(config, LocalityWeighted) and self._leaves.affinity:
            return self._by_share(config, name, members, group)
        if isinstance(config, LocalityWeighted) and not panic:
            return self._by_weight(config, name, members, group)
        if isinstance(config, ZoneAware) and first and not panic:
            return self._by_zone(config, name, members, group)
        return self._leaves.over(name, members), ()

    def _by_weight(self, config: LocalityWeighted, name: Name, members: Sequence[Member], group: Group) -> Split:
        """Share by the weights of localities, as far as their endpoints can take the calls."""
        called, listed = by_locality(members), by_locality(group.counted)
        worth = {
            zone: effective(config.weight_of(zone), len(there), len(listed[zone]), self._factor)
            for zone, there in called.items()
        }
        zones = [zone for zone, weight in worth.items() if weight > 0]
        if not zones:
            return EmptyPicker(()), ()
        weights = [worth[zone] for zone in zones]
        parts = [self._leaves.over((name, zone), called[zone]) for zone in zones]
        total = sum(weights, Fraction(0))
        shares = tuple((zone, float(weight / total)) for zone, weight in zip(zones, weights, strict=True))
        return (Several(parts, strides(weights, self._rng)) if len(parts) > 1 else parts[0]), shares

    def _by_share(self, config: LocalityWeighted, name: Name, members: Sequence[Member], group: Group) -> Split:
        """For keys: each endpoint has its part of the part of its locality, however many are well there.

        The localities in the order of their names, which Envoy has them in, since rings depend on it.
        """
        called, every = by_locality(members), config.normalized(by_locality(group.members))
        parts = {zone: every[zone] for zone in sorted(called, key=_name) if zone in every}
        shares: list[tuple[Member, float]] = []
        for zone, part in parts.items():
            weights = [member.endpoint.weight for member in called[zone]]
            shares += zip(called[zone], parts_of(weights, part), strict=True)
        picker = self._leaves.shared(name, shares) if shares else EmptyPicker(())
        whole = sum(parts.values())
        return picker, tuple((zone, part / whole) for zone, part in parts.items())

    def _by_zone(self, config: ZoneAware, name: Name, members: Sequence[Member], group: Group) -> Split:
        """Share by where the instances of the caller's and of this service are."""
        well, called = by_locality(group.healthy), by_locality(members)
        route = config.route({zone: len(well.get(zone, ())) for zone in by_locality(group.members)})
        if route is None:
            return self._leaves.over(name, members), ()
        parts = [self._leaves.over((name, zone), called.get(zone, [])) for zone in route.order]
        picker = Several(parts, route.draw(self._rng))
        if route.stays:
            picker.choose = parts[0].choose
        return picker, tuple(zip(route.order, route.shares(), strict=True))


def _name(zone: Locality) -> tuple[str, str, str]:
    return zone.region, zone.zone, zone.sub_zone
