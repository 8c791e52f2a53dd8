"""How calls are shared between localities, as they stand in a service."""

from __future__ import annotations

from collections import Counter

import pytest

from svcmesh.balance import LocalityFailover, LocalityWeighted, Maglev, RingHash, RoundRobin, ZoneAware, hash_key
from svcmesh.policy import Policy
from tests.engine.hosts import FAR, HERE, NEAR, PANICKING, near, shares, some, stage, where


def test_the_nearest_take_all_calls_and_what_they_cannot_take_goes_to_the_next() -> None:
    policy = Policy(load_balancer=RoundRobin(), locality=LocalityFailover(HERE))
    found = stage(some(10, zone=FAR), some(10, zone=NEAR), some(10, zone=HERE, ill=4), policy=policy)
    assert shares(found, where) == {HERE: near(84), NEAR: near(16)}

    found.set(*some(10, zone=FAR), *some(10, zone=NEAR, ill=10), *some(10, zone=HERE, ill=10))
    assert shares(found, where, 100) == {FAR: pytest.approx(100)}
    assert [level.priority for level in found.view.selection.plan.levels] == [0, 1, 2]
    assert found.view.selection.priority_of(some(1, zone=FAR)[0]) == 2


@pytest.mark.parametrize(("ill", "percent"), [(0, 33.3), (30, 32.9), (40, 29.6), (50, 25.9), (80, 12.3), (100, 0)])
def test_localities_share_by_weight_and_health(ill: int, percent: float) -> None:
    policy = Policy(load_balancer=RoundRobin(), locality=LocalityWeighted({HERE: 1, NEAR: 2}))
    found = stage(some(100, zone=HERE, ill=ill), some(10, zone=NEAR), policy=policy)
    picks = shares(found, where)

    assert picks[HERE] == pytest.approx(percent, abs=0.2), "a schedule, not a draw"
    assert dict(found.view.selection.plan.levels[0].localities).get(HERE, 0) == pytest.approx(percent / 100, abs=0.001)


def test_a_locality_without_a_weight_gets_nothing_but_in_a_panic() -> None:
    policy = PANICKING.replace(locality=LocalityWeighted({HERE: 1}))
    found = stage(some(3, zone=HERE), some(3, zone=NEAR), policy=policy)
    assert shares(found, where, 100) == {HERE: pytest.approx(100)}

    found.set(*some(3, zone=NEAR))
    assert found.view.choose() is None

    found.set(*some(3, zone=HERE, ill=3), *some(3, zone=NEAR, ill=2))
    assert set(shares(found, where)) == {HERE, NEAR}


def test_with_keys_a_locality_without_a_weight_gets_nothing_in_a_panic_either() -> None:
    """As in Envoy, whose tables are of weights in a panic, too."""
    policy = PANICKING.replace(load_balancer=Maglev(1009), locality=LocalityWeighted({HERE: 1}))
    found = stage(some(3, zone=HERE, ill=3), some(3, zone=NEAR, ill=2), policy=policy)

    assert found.view.panicking
    assert {where(cell.endpoint) for cell in found.view.picker.cells} == {HERE}


def test_zones_keep_their_calls_as_far_as_their_servers_allow() -> None:
    policy = Policy(load_balancer=RoundRobin(), locality=ZoneAware(HERE, {HERE: 4, NEAR: 2}))
    found = stage(some(3, zone=HERE), some(5, zone=NEAR), some(2, zone=FAR), policy=policy)

    assert shares(found, where) == {HERE: near(45), NEAR: near(25), FAR: near(30)}
    assert dict(found.view.selection.plan.levels[0].localities)[HERE] == pytest.approx(0.45)


def test_zones_count_those_of_their_servers_that_are_healthy() -> None:
    policy = Policy(load_balancer=RoundRobin(), locality=ZoneAware(HERE, {HERE: 4, NEAR: 2}))
    found = stage(some(4, zone=HERE, ill=1), some(5, zone=NEAR), some(2, zone=FAR), policy=policy)

    assert shares(found, where) == {HERE: near(45), NEAR: near(25), FAR: near(30)}


def test_where_all_calls_stay_in_the_zone_nothing_stands_in_between() -> None:
    policy = Policy(load_balancer=RoundRobin(), locality=ZoneAware(HERE, {HERE: 2, NEAR: 2}))
    found = stage(some(5, zone=HERE), some(5, zone=NEAR), policy=policy)

    assert "__next__" in found.view.choose.__qualname__
    assert shares(found, where, 100) == {HERE: pytest.approx(100)}
    excluded = some(5, zone=HERE)
    assert found.view.choose_from(None, excluded, ()).endpoint.locality == NEAR


def test_zones_count_in_the_first_priority_and_not_in_a_panic() -> None:
    policy = PANICKING.replace(locality=ZoneAware(HERE, {HERE: 2, NEAR: 2}))
    second = [*some(6, priority=1, zone=HERE), *some(6, priority=1, zone=NEAR)]
    found = stage(some(6, zone=HERE, ill=6), second, policy=policy)
    assert shares(found, where) == {HERE: near(50), NEAR: near(50)}

    found.set(*some(20, zone=HERE, ill=12), *some(20, zone=NEAR, ill=12))
    assert found.view.panicking
    assert shares(found, where) == {HERE: near(50), NEAR: near(50)}


def test_shares_of_localities_are_shares_of_keys() -> None:
    policy = Policy(load_balancer=Maglev(10007), locality=LocalityWeighted({HERE: 3, NEAR: 1}))
    found = stage(some(2, zone=HERE), some(6, zone=NEAR), some(5, zone=FAR), policy=policy)
    picks = Counter(found.view.picker.choose_from(hash_key(f"{n}"), ()).endpoint.locality for n in range(4000))

    assert set(picks) == {HERE, NEAR}
    assert picks[HERE] / 40 == pytest.approx(75, abs=4)


def test_a_ring_does_not_depend_on_the_order_of_localities() -> None:
    """Nor on weights of those that nobody is in; those in which nobody is well count."""
    weights = {HERE: 1, NEAR: 2, FAR: 5}
    here, near_, far = some(2, zone=HERE), some(3, zone=NEAR, weight=3), some(1, zone=FAR)

    def owners(*groups, weights=weights) -> list[str]:
        policy = Policy(load_balancer=RingHash(9, 20), locality=LocalityWeighted(weights))
        found = stage(*groups, policy=policy)
        return [found.view.choose_from(hash_key(str(n)), (), ()).endpoint.address for n in range(200)]

    assert owners(here, near_, far) == owners(far, near_, here)
    assert owners(here, near_) == owners(near_, here, weights={HERE: 1, NEAR: 2})
    assert owners(here, near_) != owners(here, near_, some(1, zone=FAR, ill=1))
