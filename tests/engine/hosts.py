"""Endpoints of many kinds, and the shares of calls that they get."""

from __future__ import annotations

from collections import Counter

import pytest

from svcmesh.balance import RoundRobin
from svcmesh.core.endpoint import Endpoint, Health, Locality
from svcmesh.policy import Policy
from tests.engine.scripted import Stage

ILL, DEGRADED, WELL = Health.UNHEALTHY, Health.DEGRADED, Health.HEALTHY
HERE, NEAR, FAR = Locality("eu", "a"), Locality("eu", "b"), Locality("us", "a")
PANICKING = Policy(load_balancer=RoundRobin(), panic_threshold=0.5)
CALLS = 5_000


def some(
    number: int, *, priority: int = 0, zone: Locality | None = None, weight: float = 1, ill: int = 0, degraded: int = 0
):
    """Return endpoints, the first of them ill, the next degraded; addresses tell their priority, zone and health."""
    found = []
    for n in range(number):
        health = ILL if n < ill else DEGRADED if n < ill + degraded else WELL
        where = f"{zone.region}-{zone.zone}" if zone else "x"
        address = f"{health.value}.{where}.p{priority}.n{n}:80"
        found.append(Endpoint(address, priority=priority, locality=zone, weight=weight, health=health))
    return found


def stage(*groups, policy: Policy = PANICKING) -> Stage:
    return Stage(policy, tuple(endpoint for group in groups for endpoint in group))


def shares(found: Stage, part, calls: int = CALLS) -> Counter:
    """Return the percent of calls by what ``part`` says of endpoints; plain calls and those of the machine agree."""
    picks = Counter()
    for n in range(calls):
        cell = found.view.choose() if n % 2 else found.view.choose_from(None, (), ())
        assert cell is not None
        picks[part(cell.endpoint)] += 100 / calls
    return picks


def priority(endpoint: Endpoint) -> int:
    return endpoint.priority


def health(endpoint: Endpoint) -> Health:
    return endpoint.health


def where(endpoint: Endpoint):
    return endpoint.locality


def near(percent: float):
    return pytest.approx(percent, abs=3.6)  # five standard deviations of 5,000 draws
