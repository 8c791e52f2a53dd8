"""How the endpoints of a service stand: who may be called, and what percent of the calls each priority gets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from svcmesh.balance.panic import panics, shared_out
from svcmesh.balance.priority import Availability, Loads
from svcmesh.core.endpoint import Endpoint
from svcmesh.engine.group import Group, IsOpen, grouped
from svcmesh.engine.member import Member
from svcmesh.policy.health.finding import Unwell
from svcmesh.policy.outlier import Ejection
from svcmesh.policy.policy import Policy

NOBODY: Mapping[str, Unwell] = MappingProxyType({})
"""Nobody fails a health check, or there is none."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The priorities in their order, and a thing for each of them.

    Attributes:
        groups: by health alone. admitting: those whose breakers keep calls from them are not well here.
        panicking: whether it is in panic. answering: who is called then.
        available: what the priorities can take. loads: what they get.
    """

    groups: Sequence[Group]
    admitting: Sequence[Group]
    panicking: Sequence[bool]
    answering: Sequence[Sequence[Member]]
    available: Availability
    loads: Loads


def standing(
    members: Sequence[Member],
    ejected: Mapping[str, Ejection],
    is_open: IsOpen,
    level: Callable[[Endpoint], int],
    policy: Policy,
    failing: Mapping[str, Unwell] = NOBODY,
    degraded: Collection[str] = (),
) -> Standing:
    """Return how endpoints stand.

    Args:
        members: all. ejected: who is out of rotation, by address.
        is_open: asked of those who are well, not of the others.
        level: says which priority an endpoint has.
        failing: who does not pass the health checks, by address. degraded: who does, and is degraded by them.
    """
    priorities = policy.priorities
    excluded = {address for address, ill in failing.items() if ill.excluded} if failing else ()
    groups = grouped(members, {*ejected, *failing} if failing else ejected, level, degraded, excluded)
    if not policy.panic_threshold and not any(group.healthy or group.degraded for group in groups):
        groups = grouped(members, failing, level, degraded, excluded)  # all are ejected: better those than nobody
    admitting = [group.without(is_open) for group in groups]
    censuses = [group.census(weighted=priorities.weighted_priority_health) for group in admitting]
    available = Availability.of(censuses, priorities.overprovisioning_factor)
    panicking = panics([group.census() for group in groups], available, policy.panic_threshold)
    answering = _answering(groups, _refusing(ejected) | _refusing(failing))
    if any(panicking):  # rings depend on the order of the list, and Envoy's are those of the list
        place = {member: number for number, member in enumerate(members)}
        answering = [sorted(those, key=place.__getitem__) for those in answering]
    loads = shared_out(available, panicking, [len(those) for those in answering])
    return Standing(groups, admitting, panicking, answering, available, loads)


def _answering(groups: Sequence[Group], refusing: Collection[str]) -> list[list[Member]]:
    """Return whom a panic calls: all but those that refuse connections, unless all of all priorities do."""
    if not refusing:
        return [group.members for group in groups]
    found = [[member for member in group.members if member.endpoint.address not in refusing] for group in groups]
    return found if any(found) else [group.members for group in groups]


def _refusing(ill: Mapping[str, Ejection] | Mapping[str, Unwell]) -> set[str]:
    """Return the addresses of those that refuse connections."""
    return {address for address, each in ill.items() if each.refusing} if ill else set()
