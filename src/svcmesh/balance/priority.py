"""Who gets how much of the calls where endpoints have priorities: whole percents, computed as Envoy computes them.

A priority is worth its share of healthy hosts, and 40 % more, because hosts are provided with some room: with 72 of 100
hosts well it still takes all calls. What it cannot take goes to the next priority, and what the healthy hosts of all
priorities cannot take to the degraded ones. The rounding decides who gets the last percent, and whether a standby gets
a call at all, so it is done in Envoy's order with Envoy's integers.

Source: Envoy, load_balancer_impl.cc (recalculatePerPriorityState and what follows it), previous_priorities.cc.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from svcmesh.core import checks

Percents = tuple[int, ...]
"""A whole percent for each priority."""


@dataclass(frozen=True)
class Priorities:
    """How the endpoints of several priorities share the calls; priority 0 comes first.

    Args:
        overprovisioning_factor: percent that the share of healthy endpoints is multiplied by before it counts as the
            share of calls that they can take, at least 100; default 140, so that calls go to the next priority from
            less than 71.43 % on.
        weighted_priority_health: count weights instead of endpoints; default False.
        fail_traffic_on_panic: a priority in panic takes no calls, instead of spreading them over all its endpoints,
            well or not; default False. See `Policy.panic_threshold`.

    Raises:
        ConfigError: a factor below 100 or no whole number, a flag that is neither True nor False.
    """

    overprovisioning_factor: int = 140
    weighted_priority_health: bool = False
    fail_traffic_on_panic: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        checks.whole("overprovisioning_factor", self.overprovisioning_factor, 100)
        checks.flag("weighted_priority_health", self.weighted_priority_health)
        checks.flag("fail_traffic_on_panic", self.fail_traffic_on_panic)


@dataclass(frozen=True, slots=True)
class Census:
    """How many hosts of one priority are in which state; with weighted health the same of their weights.

    Attributes:
        total: all, the excluded ones included. excluded: those of whom nothing is known yet, in no share.
    """

    total: int | Fraction
    healthy: int | Fraction
    degraded: int | Fraction = 0
    excluded: int | Fraction = 0

    def percent(self, hosts: int | Fraction, factor: int) -> int:
        """Return how much of the calls so many of the hosts can take."""
        counted = self.total - self.excluded
        return min(100, int(factor * hosts // counted)) if counted > 0 else 0


@dataclass(frozen=True, slots=True)
class Availability:
    """How much of the calls the hosts of each priority can take."""

    healthy: Percents
    degraded: Percents

    @classmethod
    def of(cls, censuses: Sequence[Census], factor: int) -> Availability:
        """Return what these priorities can take, with room of ``factor`` percent."""
        healthy = tuple(census.percent(census.healthy, factor) for census in censuses)
        return cls(healthy, tuple(census.percent(census.degraded, factor) for census in censuses))

    @property
    def total(self) -> int:
        """All of them together, at most 100."""
        return min(100, sum(self.healthy) + sum(self.degraded))

    def without(self, priorities: Collection[int]) -> Availability:
        """Return what is left when these priorities take nothing."""
        healthy, degraded = (
            tuple(0 if number in priorities else percent for number, percent in enumerate(percents))
            for percents in (self.healthy, self.degraded)
        )
        return Availability(healthy, degraded)


@dataclass(frozen=True, slots=True)
class Loads:
    """What percent of the calls the hosts of each priority get; together 100."""

    healthy: Percents
    degraded: Percents


def loads(available: Availability) -> Loads:
    """Share out the calls: the healthy hosts in the order of priorities, then the degraded ones, then the remainder.

    Where nobody can take anything all of it is for priority 0, which has nobody either.
    """
    total = available.total
    if not total:
        return everything_to(0, len(available.healthy))
    healthy, left = _dealt(available.healthy, 100, total)
    degraded, left = _dealt(available.degraded, left, total)
    shares, percents = (healthy, available.healthy) if any(available.healthy) else (degraded, available.degraded)
    shares[_first(percents)] += left
    return Loads(tuple(healthy), tuple(degraded))


def everything_to(priority: int, priorities: int) -> Loads:
    """Return loads that are all for one priority."""
    return Loads(tuple(100 * (number == priority) for number in range(priorities)), (0,) * priorities)


def loads_by_size(hosts: Sequence[int]) -> Loads:
    """Share out the calls by numbers of hosts, whatever their state: when every priority is in panic."""
    total = sum(hosts)
    if not total:
        return everything_to(0, len(hosts))
    shares = [100 * count // total for count in hosts]
    shares[_first(hosts)] += 100 - sum(shares)
    return Loads(tuple(shares), (0,) * len(hosts))


def loads_elsewhere(available: Availability, tried: Iterable[int], every: int) -> Loads | None:
    """Share out the calls among priorities that a call has not met yet.

    Args:
        available: what each can take. tried: the priorities of its attempts so far, the first one first.
        every: after so many attempts, and each time so many more, the priorities met until then are left out.

    Returns:
        None where the usual loads hold: there were too few attempts, or nobody anywhere can take anything. When all
        have been met the counting starts anew.
    """
    met: list[int] = []
    left_out: set[int] = set()
    for priority in tried:
        met.append(priority)
        if len(met) % every == 0:
            left_out.update(met)
            if not available.without(left_out).total:
                left_out, met = set(), []
    if not available.total or not left_out:
        return None
    return _dealt_out(available.without(left_out))


def _dealt(percents: Percents, load: int, total: int) -> tuple[list[int], int]:
    """Return what each gets of a load, those before it first, and what is left."""
    dealt: list[int] = []
    for percent in percents:
        dealt.append(min(load, percent * 100 // total))
        load -= dealt[-1]
    return dealt, load


def _first(counts: Sequence[int]) -> int:
    """Return the first priority that has something."""
    return next(number for number, count in enumerate(counts) if count)


def _dealt_out(available: Availability) -> Loads:
    """Deal until nothing is left; rounding sends later rounds to the first ones again (previous_priorities.cc)."""
    healthy, degraded = [0] * len(available.healthy), [0] * len(available.degraded)
    load = 100
    while load:
        for shares, percents in ((healthy, available.healthy), (degraded, available.degraded)):
            dealt, load = _dealt(percents, load, available.total)
            for number, share in enumerate(dealt):
                shares[number] += share
    return Loads(tuple(healthy), tuple(degraded))
