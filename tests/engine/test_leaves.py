"""Pickers over sets of a service: slow start and what is left of it, and a table for each set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from svcmesh.balance import LeastRequest, LocalityWeighted, Maglev, RoundRobin, SlowStart, WeightedRoundRobin
from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import Picker, Rng
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Endpoint
from svcmesh.policy import Policy
from tests.engine.hosts import HERE, ILL, NEAR, near, shares, some, stage

SLOW = SlowStart(10.0)


@pytest.mark.parametrize("balancer", [RoundRobin(), WeightedRoundRobin(), LeastRequest()])
def test_who_has_just_come_gets_more_calls_with_time(balancer) -> None:
    """Two are warm; the third has a weight of 0.1 at first, 0.5 in the middle, and its own when the time is over."""
    old = some(2)
    found = stage(old, policy=Policy(load_balancer=balancer, slow_start=SLOW))
    found.clock.advance(10.0)
    found.cluster.look(found.clock.now())
    new = Endpoint("new:80")
    found.set(*old, new)

    for elapsed, weight in ((0.0, 0.1), (5.0, 0.5), (10.0, 1.0)):
        found.clock.advance(elapsed - (found.clock.now() - found.cluster.members[new.address].since))
        found.cluster.look(found.clock.now())
        share = shares(found, lambda endpoint: endpoint.address)[new.address]
        assert share == near(100 * weight / (2 + weight))


def test_once_all_are_warm_the_picker_is_the_balancers_own_again() -> None:
    found = stage(some(2), policy=Policy(load_balancer=RoundRobin(), slow_start=SLOW))
    found.clock.advance(10.0)
    found.set(*some(3))
    own = type(RoundRobin().picker(some(3)))
    assert type(found.view.picker) is not own

    found.clock.advance(10.0)
    found.view.enter(found.clock.now()).finished += 1  # the next call looks, where no worker does
    assert type(found.view.picker) is own
    assert found.view.selection.again_at == float("inf")


def test_where_all_are_new_nothing_stands_in_between() -> None:
    """As when a process starts: lowered all alike, weights have the same ratios."""
    found = stage([*some(3), Endpoint("heavy:80", weight=7)], policy=Policy(slow_start=SLOW))

    assert type(found.view.picker) is type(LeastRequest().picker([*some(3), Endpoint("heavy:80", weight=7)]))
    assert shares(found, lambda endpoint: endpoint.address)["heavy:80"] == near(70)
    assert found.view.selection.again_at == SLOW.step


def test_who_recovers_starts_slowly_too_and_who_stays_does_not() -> None:
    found = stage(some(2), policy=Policy(load_balancer=RoundRobin(), slow_start=SLOW))
    found.clock.advance(10.0)
    ill = [replace(endpoint, health=ILL) for endpoint in some(2)[:1]]
    found.set(*ill, *some(2)[1:])
    found.clock.advance(10.0)
    found.set(*some(2))

    picks = shares(found, lambda endpoint: endpoint.address)
    assert picks[some(2)[0].address] == near(100 * 0.1 / 1.1)


def test_weights_that_a_rotation_ignores_it_ignores_in_slow_start_too() -> None:
    found = stage(
        [Endpoint("light:80"), Endpoint("heavy:80", weight=9)],
        policy=Policy(load_balancer=RoundRobin(), slow_start=SLOW),
    )

    assert shares(found, lambda endpoint: endpoint.address) == {"light:80": near(50), "heavy:80": near(50)}


def test_degraded_endpoints_do_not_start_slowly() -> None:
    """As in Envoy: they are called where others cannot take the calls."""
    policy = Policy(load_balancer=RoundRobin(), slow_start=SLOW)
    found = stage(some(1, degraded=1), policy=policy)
    found.clock.advance(10.0)
    found.set(*some(2, degraded=2))

    assert found.view.selection.again_at == float("inf")
    assert shares(found, lambda endpoint: endpoint.address) == {each.address: near(50) for each in some(2, degraded=2)}


def test_a_new_snapshot_does_not_start_anybody_anew() -> None:
    found = stage(some(2), policy=Policy(load_balancer=RoundRobin(), slow_start=SLOW))
    found.clock.advance(10.0)
    found.set(*(replace(endpoint, metadata={"version": "2"}) for endpoint in some(2)))

    assert found.view.selection.again_at == float("inf")


def test_a_child_does_not_start_its_endpoints_anew() -> None:
    """They are no newer for its being forked."""
    found = stage(some(2), policy=Policy(load_balancer=RoundRobin(), slow_start=SLOW))
    found.clock.advance(10.0)
    found.cluster.reset_after_fork()

    assert found.view.selection.again_at == float("inf")


@dataclass(frozen=True)
class Counted(Maglev):
    """A table that says over how many each one was made."""

    table_size: int = 251
    made: list[int] = field(default_factory=list, compare=False)

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:
        self.made.append(len(cells))
        return super().over(cells, rng, clock)


def test_each_priority_has_a_table_of_its_own_and_one_that_stays_is_not_made_anew() -> None:
    balancer = Counted()
    found = stage(some(5), some(3, priority=1), policy=Policy(load_balancer=balancer))
    assert balancer.made == [5, 3]

    found.set(*some(5), *some(2, priority=1))
    assert balancer.made == [5, 3, 2]
    found.set(*some(5))
    found.set(*some(5), *some(2, priority=1))
    assert balancer.made == [5, 3, 2, 2], "a priority that was gone begins anew"


def test_a_table_by_shares_is_made_anew_only_for_other_shares() -> None:
    balancer = Counted()
    policy = Policy(load_balancer=balancer, locality=LocalityWeighted({HERE: 3, NEAR: 1}))
    found = stage(some(2, zone=HERE), some(2, zone=NEAR), policy=policy)
    found.cluster.rebuild()
    assert balancer.made == [4]

    moved = replace(some(2, zone=NEAR)[1], locality=HERE)
    found.set(*some(2, zone=HERE), some(2, zone=NEAR)[0], moved)
    assert balancer.made == [4, 4], "three share what two had, although nobody came or went"
