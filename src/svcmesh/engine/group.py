"""The endpoints of one priority, by what is known of their health."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from operator import attrgetter

from svcmesh.balance.priority import Census
from svcmesh.core.endpoint import Endpoint, Health, Locality
from svcmesh.engine.member import Member

IsOpen = Callable[[Member], bool]
"""Whether a breaker keeps calls from a member. One without breakers is not asked about."""

_breakers = attrgetter("breakers")
_UNHEALTHY, _DEGRADED = Health.UNHEALTHY, Health.DEGRADED  # else the slowest part of sorting thousands


class Group:
    """One priority.

    Attributes:
        priority: which. healthy, degraded: those that are well. ill: all others.
        excluded: those of the ill that count in no share, having taken themselves out, or being new.
    """

    __slots__ = ("degraded", "excluded", "healthy", "ill", "priority")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.healthy: list[Member] = []
        self.degraded: list[Member] = []
        self.ill: list[Member] = []
        self.excluded: list[Member] = []

    @property
    def members(self) -> list[Member]:
        """All of them."""
        return [*self.healthy, *self.degraded, *self.ill]

    @property
    def counted(self) -> list[Member]:
        """Those that count in shares."""
        return [member for member in self.members if member not in self.excluded] if self.excluded else self.members

    def census(self, *, weighted: bool = False) -> Census:
        """Return how many are how, or what they weigh."""
        healthy, degraded, ill = (_size(part, weighted=weighted) for part in (self.healthy, self.degraded, self.ill))
        return Census(healthy + degraded + ill, healthy, degraded, _size(self.excluded, weighted=weighted))

    def without(self, is_open: IsOpen) -> Group:
        """Return the group in which those whose breakers keep calls from them are not well."""
        if not any(any(map(_breakers, part)) for part in (self.healthy, self.degraded)):
            return self  # none of them ever failed, as is the rule: thousands need not be asked
        group = Group(self.priority)
        group.ill, group.excluded = list(self.ill), self.excluded
        for part, found in ((self.healthy, group.healthy), (self.degraded, group.degraded)):
            for member in part:
                (group.ill if is_open(member) else found).append(member)
        return group


def grouped(
    members: Sequence[Member],
    ejected: Collection[str],
    level: Callable[[Endpoint], int],
    degraded: Collection[str] = (),
    excluded: Collection[str] = (),
) -> list[Group]:
    """Return the groups of those that take traffic, the first priority first.

    Args:
        members: all. ejected: addresses of those that are out of rotation. level: says which priority an endpoint has.
        degraded: addresses of those that are so beside the ones that the registry says it of.
        excluded: addresses of those that count in no share; they are ``ejected``, too.
    """
    groups: dict[int, Group] = {}
    endpoints = [member.endpoint for member in members]
    for member, endpoint, priority in zip(members, endpoints, map(level, endpoints), strict=True):
        if endpoint.weight <= 0:
            continue
        group = groups.get(priority)
        if group is None:
            group = groups[priority] = Group(priority)
        health = endpoint.health
        if health is _UNHEALTHY or (ejected and endpoint.address in ejected):
            group.ill.append(member)
            if excluded and endpoint.address in excluded:
                group.excluded.append(member)
        elif health is _DEGRADED or (degraded and endpoint.address in degraded):
            group.degraded.append(member)
        else:
            group.healthy.append(member)
    return [groups[priority] for priority in sorted(groups)]


def by_locality(members: Sequence[Member]) -> dict[Locality, list[Member]]:
    """Return the members by where they are."""
    found: dict[Locality, list[Member]] = {}
    for member in members:
        found.setdefault(member.endpoint.locality or Locality(), []).append(member)
    return found


def _size(members: Sequence[Member], *, weighted: bool) -> int | Fraction:
    """Return how many they are, or what they weigh: exactly, since a sum of floats may be more than one holds."""
    if not weighted:
        return len(members)
    weights = [member.endpoint.weight for member in members]
    return sum(weight if isinstance(weight, int) else Fraction(weight) for weight in weights)
