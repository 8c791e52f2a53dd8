"""Whom an Envoy gives how many of the calls that have no key: those of priorities in any health, and in panics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import sqrt

import pytest

import svcmesh
from svcmesh import Endpoint, Health, Policy
from svcmesh.balance import Random
from tests.servers.envoy_proxy import EnvoyProxy, cluster, host
from tests.servers.upstreams import Upstreams

HEALTH = {"H": Health.HEALTHY, "D": Health.DEGRADED, "U": Health.UNHEALTHY}
SCENES = {
    "spills": ("HHHU", "HHHH"),
    "standbys before degraded ones": ("HHDDU", "HUU"),
    "degraded ones are no panic": ("HDUU", "U"),
    "the first panics": ("HUUUU", "HHHUUU"),
    "all panic": ("HUUUU", "HUUUUUU"),
    "nobody is well": ("UU", "U"),
}
"""The endpoints of each priority: healthy, degraded, or not healthy."""

CALLS = 120


def scene(states: tuple[str, ...], addresses: list[str]) -> list[Endpoint]:
    left = iter(addresses)
    return [
        Endpoint(next(left), priority=priority, health=HEALTH[state])
        for priority, those in enumerate(states)
        for state in those
    ]


@pytest.fixture(scope="module")
def servers() -> Iterator[Upstreams]:
    with Upstreams(16) as found:
        yield found


@pytest.fixture(scope="module")
def proxy(servers: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyProxy]:
    clusters = []
    for number, states in enumerate(SCENES.values()):
        hosts = [
            host(each.address, priority=each.priority, health_status=each.health.name)
            for each in scene(states, servers.addresses)
        ]
        clusters.append(cluster(f"scene-{number}", hosts, lb_policy="RANDOM"))
    with EnvoyProxy(tmp_path_factory.mktemp("envoy"), clusters) as found:
        yield found


def expected(endpoints: list[Endpoint]) -> dict[str, float]:
    """Return the part of the calls that each endpoint gets by what a mesh says of its priorities."""
    policy = Policy(load_balancer=Random(), panic_threshold=0.5)
    shares: dict[str, float] = Counter()
    with svcmesh.Mesh({"orders": endpoints}, policy=policy) as mesh:
        assert mesh.service("orders").pick()
        levels = mesh.state()["services"]["orders"]["priorities"]
    for level in levels:
        there = [each for each in endpoints if each.priority == level["priority"]]
        for load, health in ((level["load"], Health.HEALTHY), (level["degraded_load"], Health.DEGRADED)):
            called = there if level["panic"] else [each for each in there if each.health is health]
            for each in called:
                shares[each.address] += load / 100 / len(called)
    return shares


@pytest.mark.parametrize("name", SCENES)
def test_everybody_gets_as_many_calls_as_there(proxy: EnvoyProxy, servers: Upstreams, name: str) -> None:
    endpoints = scene(SCENES[name], servers.addresses)
    number = list(SCENES).index(name)
    found = Counter(proxy.send(f"scene-{number}") for _ in range(CALLS))
    shares = expected(endpoints)
    assert sum(shares.values()) == pytest.approx(1)
    for each in endpoints:
        share = shares[each.address]
        spare = 6 + 6 * sqrt(CALLS * share) if share else 0
        assert abs(found[each.address] - CALLS * share) <= spare, each
