"""Priorities, panic and localities in words, and as the state has them."""

from __future__ import annotations

from svcmesh.balance import LocalityFailover, LocalityWeighted, Priorities, ZoneAware
from svcmesh.core.endpoint import Endpoint, Health, Locality
from svcmesh.engine.state import describe
from svcmesh.observe.explain import explain
from svcmesh.policy import Policy
from tests.engine.hosts import FAR, HERE, NEAR, PANICKING, some, stage
from tests.engine.scripted import Stage


def told(found: Stage) -> str:
    return explain(describe(found.view))


def test_one_priority_that_is_well_needs_no_words() -> None:
    assert "priority" not in told(stage(some(3)))


def test_who_stands_by_is_told_and_does_not_count() -> None:
    text = told(stage(some(2), some(1, priority=1)))

    assert "2 of 3 endpoints take calls" in text
    assert "  priority 0: 100 % of the calls; 2 of 2 endpoints are well\n" in text
    assert "  priority 1: 0 % of the calls; 1 of 1 endpoints are well\n" in text
    assert "healthy.x.p0.n0:80: priority 0, takes calls;" in text
    assert "healthy.x.p1.n0:80: priority 1, stands by;" in text


def test_shares_and_panic_are_told_by_priority() -> None:
    text = told(stage(some(10, ill=9), some(10, priority=1, ill=4)))

    assert "  priority 0: panic, 15 % of the calls to all its endpoints; 1 of 10 endpoints are well\n" in text
    assert "  priority 1: 85 % of the calls; 6 of 10 endpoints are well\n" in text
    assert "service service: panic: only 7 of 20 endpoints are well" in text


def test_a_panic_that_fails_calls_is_told() -> None:
    policy = PANICKING.replace(priorities=Priorities(fail_traffic_on_panic=True))
    found = stage(some(10, ill=9), some(10, priority=1, ill=4), policy=policy)

    assert "  priority 0: panic, 15 % of the calls, which are refused; 1 of 10 endpoints are well\n" in told(found)
    assert [level["closed"] for level in describe(found.view)["priorities"]] == [True, False]


def test_in_a_panic_degraded_endpoints_take_calls_like_all_others() -> None:
    text = told(stage([*some(2, degraded=2), *some(8, ill=8)]))

    assert "degraded.x.p0.n0:80: takes calls;" in text


def test_degraded_endpoints_are_told_with_what_they_get() -> None:
    text = told(stage([*some(4), *some(4, degraded=4), *some(2, ill=2)]))
    line = "priority 0: 56 % of the calls, and 44 % to degraded ones; 4 of 10 endpoints are well and 4 degraded"
    assert f"  {line}\n" in text
    assert "8 of 10 endpoints take calls" in text

    idle = told(stage([*some(8), *some(2, degraded=2)]))
    assert "8 of 10 endpoints take calls" in idle
    assert "degraded.x.p0.n0:80: stands by;" in idle


def test_localities_are_told_with_their_shares() -> None:
    zones = Policy(locality=ZoneAware(HERE, {HERE: 4, NEAR: 2}))
    found = stage(some(3, zone=HERE), some(5, zone=NEAR), some(2, zone=FAR), policy=zones)
    assert "  localities of priority 0: eu/a 45.0 %, eu/b 25.0 %, us/a 30.0 %\n" in told(found)

    weights = Policy(locality=LocalityWeighted({HERE: 1, Locality(): 3}))
    found = stage(some(2, zone=HERE), some(2), policy=weights)
    assert "  localities of priority 0: eu/a 25.0 %, without a locality 75.0 %\n" in told(found)


def test_the_state_has_the_numbers() -> None:
    found = describe(stage(some(10, ill=4), some(10, priority=1, zone=HERE)).view)

    first, second = found["priorities"]
    assert (first["priority"], first["endpoints"], first["healthy"], first["degraded"]) == (0, 10, 6, 0)
    assert (first["load"], first["degraded_load"], first["panic"], first["localities"]) == (84, 0, False, [])
    assert (second["priority"], second["load"]) == (1, 16)
    assert {endpoint["priority"] for endpoint in found["endpoints"]} == {0, 1}


def test_where_distance_decides_the_state_has_its_priorities() -> None:
    failover = Policy(locality=LocalityFailover(HERE))
    endpoints = [Endpoint("far:1", locality=FAR), Endpoint("here:1", locality=HERE, health=Health.UNHEALTHY)]
    found = stage(endpoints, policy=failover)

    assert [endpoint["priority"] for endpoint in describe(found.view)["endpoints"]] == [1, 0]
    assert "far:1 in us/a: priority 1, takes calls" in told(found)
    assert "here:1 in eu/a: priority 0, unhealthy in the registry" in told(found)
    assert "LeastRequest, LocalityFailover" in told(found)
    assert told(stage(endpoints)).endswith("RoundRobin")
