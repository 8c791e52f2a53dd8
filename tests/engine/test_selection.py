"""Whom calls go to, by priority, health and panic, by keys and when they are repeated."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.balance import (
    DeterministicAperture,
    LeastRequest,
    LocalityFailover,
    LocalityWeighted,
    Maglev,
    OrcaWeightedRoundRobin,
    PeakEwma,
    Priorities,
    RandomSubsetting,
    RingHash,
    RoundRobin,
    SlowStart,
    Subset,
    ZoneAware,
    hash_key,
)
from svcmesh.balance.wrapping import Wrapping
from svcmesh.core.endpoint import Endpoint, Health, Locality
from svcmesh.core.errors import NoEndpoints
from svcmesh.engine.view import View
from svcmesh.policy import CircuitBreaker, OutlierDetection, Policy, Retry
from tests.engine.hosts import (
    CALLS,
    DEGRADED,
    FAR,
    HERE,
    ILL,
    NEAR,
    PANICKING,
    WELL,
    health,
    near,
    priority,
    shares,
    some,
    stage,
)
from tests.engine.scripted import Exchange, Stage, drive, lost, unsent

# -- priorities and panic ----------------------------------------------------------------------------------------------


def test_one_priority_without_more_is_the_balancers_own_picker() -> None:
    """So the success path is the same straight line as without any of this."""
    found = stage(some(5))

    assert type(found.view.picker) is type(RoundRobin().picker(some(5)))
    assert found.view.choose is found.view.picker.choose
    assert type(stage(some(5), policy=Policy()).view.picker) is type(LeastRequest().picker(some(5)))


def test_a_standby_changes_nothing_while_it_is_not_needed() -> None:
    found = stage(some(10), some(10, priority=1))

    assert "__next__" in found.view.choose.__qualname__, "a step of the rotation itself"
    assert shares(found, priority, 100) == {0: pytest.approx(100)}


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([(10, 4), (10, 0)], {0: 84, 1: 16}),
        ([(10, 7), (10, 6), (10, 5)], {0: 42, 1: 56, 2: 2}),
        ([(10, 9), (10, 4)], {0: 15, 1: 85}),
        ([(10, 8), (30, 24)], {0: 25, 1: 75}),
        ([(10, 10), (10, 0)], {1: 100}),
        ([(10, 0), (10, 10)], {0: 100}),
    ],
)
def test_calls_go_where_the_reference_says(groups, expected) -> None:
    found = stage(*(some(n, priority=place, ill=ill) for place, (n, ill) in enumerate(groups)))

    assert {p: level.load for p, level in enumerate(found.view.selection.plan.levels) if level.load} == expected
    assert shares(found, priority) == {p: near(percent) for p, percent in expected.items()}


def test_numbers_of_priorities_need_not_be_consecutive() -> None:
    found = stage(some(10, priority=3, ill=4), some(10, priority=7))

    assert [(level.priority, level.load) for level in found.view.selection.plan.levels] == [(3, 84), (7, 16)]
    assert shares(found, priority) == {3: near(84), 7: near(16)}


def test_a_priority_in_panic_calls_all_its_endpoints_and_another_only_its_well_ones() -> None:
    found = stage(some(10, ill=9), some(10, priority=1, ill=4))
    picks = shares(found, lambda endpoint: (endpoint.priority, endpoint.health))

    assert found.view.selection.panicking == {0}
    assert picks == {(0, ILL): near(13.5), (0, WELL): near(1.5), (1, WELL): near(85)}


def test_degraded_endpoints_take_what_the_healthy_ones_of_all_priorities_cannot() -> None:
    alone = stage([*some(4), *some(4, degraded=4), *some(2, ill=2)])
    assert shares(alone, health) == {WELL: near(56), DEGRADED: near(44)}

    beside = stage([*some(4), *some(4, degraded=4), *some(2, ill=2)], some(10, priority=1))
    assert shares(beside, lambda e: (e.priority, e.health)) == {(0, WELL): near(56), (1, WELL): near(44)}


def test_degraded_endpoints_get_nothing_while_there_are_enough_healthy_ones() -> None:
    found = stage([*some(8), *some(2, degraded=2)])

    assert shares(found, health, 100) == {WELL: pytest.approx(100)}
    assert len(found.view.picker.cells) == 10, "but they are there for retries"


def test_those_of_weight_0_count_for_nothing() -> None:
    """Seven are well of the seven that take traffic."""
    found = stage([*some(7), *(replace(e, weight=0) for e in some(3, ill=3))])

    assert found.view.selection.plan.levels[0].endpoints == 7
    assert found.view.selection.plan.levels[0].load == 100


@pytest.mark.parametrize(("weighted", "first"), [(False, 84), (True, 19)])
def test_weights_count_where_they_are_asked_for(weighted: bool, first: int) -> None:
    """Six of ten are well; of the weight only 6 of 44, and with the room of hosts that is 19.09 %."""
    policy = PANICKING.replace(priorities=Priorities(weighted_priority_health=weighted))
    heavy = [replace(endpoint, weight=9.5) for endpoint in some(4, ill=4)]
    found = stage([*some(6), *heavy], some(10, priority=1), policy=policy)

    assert [level.load for level in found.view.selection.plan.levels] == [first, 100 - first]


@pytest.mark.parametrize("weight", [5e-324, 1.7e308, 10**308], ids=["least", "float", "whole"])
@pytest.mark.parametrize("locality", [None, LocalityWeighted({HERE: 10**400, NEAR: 1})])
@pytest.mark.parametrize("balancer", [RoundRobin(), RingHash(64), Maglev(101)])
def test_weights_may_be_as_large_as_they_can_be(weight: float, locality: LocalityWeighted | None, balancer) -> None:
    """Their sums, and those with the room of hosts, are numbers that no float holds."""
    weighed = Priorities(weighted_priority_health=True)
    policy = PANICKING.replace(priorities=weighed, locality=locality, load_balancer=balancer)
    first, light = some(10, zone=HERE, weight=weight, ill=4), some(1, zone=HERE, weight=0.5)
    found = stage(first, some(1, priority=1, zone=NEAR, weight=weight), policy=policy)
    assert [level.load for level in found.view.selection.plan.levels] == [84, 16]

    found.set(*first, *(replace(each, address="light:80") for each in light))
    assert found.view.choose() is not None


def test_the_room_of_hosts_is_the_policys() -> None:
    policy = PANICKING.replace(priorities=Priorities(overprovisioning_factor=100))

    assert shares(stage(some(10, ill=4), some(10, priority=1), policy=policy), priority) == {0: near(60), 1: near(40)}


def test_a_panic_that_fails_calls_has_nobody_for_them() -> None:
    policy = PANICKING.replace(priorities=Priorities(fail_traffic_on_panic=True))
    found = stage(some(10, ill=8), policy=policy)

    assert found.view.picker.choose_from(None, ()) is None
    assert found.view.choose() is None
    assert isinstance(found.perform().error, NoEndpoints)
    assert found.view.panicking


def test_a_panic_that_fails_calls_fails_those_of_its_own_priority_only() -> None:
    policy = PANICKING.replace(priorities=Priorities(fail_traffic_on_panic=True))
    found = stage(some(10, ill=9), some(10, priority=1, ill=4), policy=policy)
    picks = [found.view.choose() for _ in range(CALLS)]

    assert 100 * sum(pick is None for pick in picks) / CALLS == near(15)
    assert {pick.endpoint.priority for pick in picks if pick is not None} == {1}


def test_without_a_threshold_those_who_are_ill_are_never_called() -> None:
    assert stage(some(3, ill=3), policy=Policy()).view.choose() is None
    assert isinstance(stage(some(3, ill=3), policy=Policy()).perform().error, NoEndpoints)


def test_one_well_endpoint_is_called_although_rounding_leaves_it_no_percent() -> None:
    """Envoy would have nobody: 140 * 1 // 200 is 0, so all calls are for priority 0, where nobody is well."""
    found = stage(some(3, ill=3), some(200, priority=1, ill=199), policy=Policy())

    assert shares(found, priority, 10) == {1: pytest.approx(100)}


def test_panic_is_told_by_priority_as_it_comes_and_goes() -> None:
    found = stage(some(10, ill=4), some(10, priority=1, ill=4)).listen("panic.*")
    found.set(*some(10, ill=9), *some(10, priority=1, ill=4))
    found.set(*some(10, ill=9), *some(10, priority=1, ill=8))
    found.set(*some(10), *some(10, priority=1))

    assert [(event.name, event.priority) for event in found.events] == [
        ("panic.entered", 0),
        ("panic.entered", 1),
        ("panic.left", 0),
        ("panic.left", 1),
    ]


def test_ejection_makes_the_next_priority_take_over() -> None:
    policy = Policy(outlier_detection=OutlierDetection(), load_balancer=RoundRobin())
    first, standby = some(2), some(2, priority=1)
    found = stage(first, standby, policy=policy)
    found.fail(first[0], 5)
    assert shares(found, priority) == {0: near(70), 1: near(30)}

    found.fail(first[1], 5)
    assert shares(found, priority, 100) == {1: pytest.approx(100)}


def test_open_breakers_make_the_next_priority_take_over_and_no_panic() -> None:
    breaker = CircuitBreaker(consecutive=1, failure_rate=None)
    first, standby = some(2), some(2, priority=1)
    found = stage(first, standby, policy=PANICKING.replace(circuit_breaker=breaker))
    for endpoint in first:
        found.fail(endpoint, 1)

    assert shares(found, priority, 100) == {1: pytest.approx(100)}
    assert not found.view.panicking


def test_open_breakers_are_no_reason_to_panic() -> None:
    """They keep calls away for a while; an endpoint whose breaker is open is not one whose health is in doubt."""
    breaker = CircuitBreaker(consecutive=1, failure_rate=None)
    found = stage(some(4), policy=PANICKING.replace(circuit_breaker=breaker))
    for endpoint in some(4)[:3]:
        found.fail(endpoint, 1)

    assert not found.view.panicking
    assert [cell.endpoint for cell in found.view.picker.cells] == some(4)[3:]


def test_where_all_are_ejected_and_nobody_panics_they_are_called_all_the_same() -> None:
    """No detector ejects the last endpoint, but it may be the last one of those that a caller can use."""
    policy = Policy(outlier_detection=OutlierDetection(), load_balancer=RoundRobin())
    found = stage([Endpoint("a:80"), Endpoint("b:81")], policy=policy)
    found.fail(Endpoint("a:80"), 5)

    assert [cell.endpoint.address for cell in found.view.picker.cells] == ["b:81"]
    assert [cell.endpoint.address for cell in found.view.on_port(80).picker.cells] == ["a:80"]


def test_open_breakers_of_all_leave_nobody() -> None:
    breaker = CircuitBreaker(consecutive=1, failure_rate=None)
    first, standby = some(1), some(1, priority=1)
    found = stage(first, standby, policy=PANICKING.replace(circuit_breaker=breaker))
    found.fail(first[0], 1)
    found.fail(standby[0], 1)

    assert found.view.picker.cells == ()


def test_in_a_panic_those_who_refuse_connections_are_not_called_while_others_answer() -> None:
    policy = Policy(outlier_detection=OutlierDetection(max_ejection_percent=100), panic_threshold=0.9)
    first, standby = some(3), some(3, priority=1)
    found = stage(first, standby, policy=policy)
    for endpoint in [*first, *standby[:2]]:
        member = found.cluster.members[endpoint.address]
        for _ in range(5):
            member.started += 1
            found.view.settle(member, (), unsent(), found.clock.now(), 0.0)

    assert found.view.panicking
    assert shares(found, lambda endpoint: endpoint.address, 50) == {standby[2].address: pytest.approx(100)}


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("balancer", [Maglev(1009), RingHash(64)])
def test_a_key_chooses_its_priority_by_its_last_two_digits(balancer) -> None:
    """As in Envoy: so a process in Python and a sidecar send a key to the same endpoint of the same priority."""
    first, second = some(10, ill=4), some(10, priority=1)
    found = stage(first, second, policy=Policy(load_balancer=balancer))
    well = balancer.picker([endpoint for endpoint in first if endpoint.health is WELL])
    others = balancer.picker(second)

    for n in range(300):
        key = hash_key(f"key {n}")
        expected = (well if key % 100 < 84 else others).pick(key)
        cell = found.view.picker.choose_from(key, ())
        assert cell is not None
        assert cell.endpoint.address == expected.address


def test_a_ring_in_a_panic_is_that_of_the_list_whoever_is_ill() -> None:
    """Fractions of points carry over to the next endpoint, so a ring depends on their order: Envoy's is the list's."""
    policy = PANICKING.replace(load_balancer=RingHash(5, 10))
    hosts = [replace(host, weight=weight) for host, weight in zip(some(6), [1, 2, 1, 1, 2, 7], strict=True)]
    well = RingHash(5, 10).picker(hosts)
    ill = [replace(host, health=ILL) if number in {0, 1, 3, 5} else host for number, host in enumerate(hosts)]
    found = stage(ill, policy=policy)

    assert found.view.panicking
    for key in map(hash_key, map(str, range(200))):
        assert found.view.choose_from(key, (), ()).endpoint.address == well.pick(key).address


def test_keys_know_no_degraded_endpoints_while_others_are_there() -> None:
    """Envoy's tables are made of the healthy ones; only where a priority has none, the degraded ones take its keys."""
    found = stage([*some(4), *some(4, degraded=4), *some(2, ill=2)], policy=Policy(load_balancer=Maglev(1009)))
    assert {pick.endpoint.health for n in range(200) if (pick := found.view.picker.choose_from(n, ()))} == {WELL}

    found.set(*some(4, degraded=4))
    assert {pick.endpoint.health for n in range(200) if (pick := found.view.picker.choose_from(n, ()))} == {DEGRADED}


# -- retries -----------------------------------------------------------------------------------------------------------


def met(found: Stage, failures: int) -> list[Endpoint]:
    """Return whom a call meets that fails so often, and succeeds then."""
    exchange = Exchange(*[lost()] * failures)
    call = found.call(exchange)
    assert drive(call, exchange, found.clock).error is None
    return call.endpoints


def test_a_retry_goes_to_the_standby_before_it_meets_an_endpoint_again() -> None:
    found = stage(some(1), some(1, priority=1), policy=Policy(retry=Retry(), idempotent=True))

    assert [endpoint.priority for endpoint in met(found, 1)] == [0, 1]


def test_attempts_leave_out_the_priorities_that_they_have_met() -> None:
    policy = Policy(retry=Retry(max_attempts=6, previous_priorities=1, budget=None), idempotent=True)
    found = stage(*(some(5, priority=place) for place in range(3)), policy=policy)
    endpoints = met(found, 5)

    assert [endpoint.priority for endpoint in endpoints] == [0, 1, 2, 0, 1, 2]
    assert len({endpoint.address for endpoint in endpoints}) == 6


def test_without_that_attempts_stay_in_a_priority_that_can_take_them() -> None:
    policy = Policy(retry=Retry(max_attempts=4, budget=None), idempotent=True)
    found = stage(some(3), some(5, priority=1), policy=policy)

    assert [endpoint.priority for endpoint in met(found, 3)] == [0, 0, 0, 1]


# -- fewer endpoints ---------------------------------------------------------------------------------------------------


def called(found: Stage) -> set[Endpoint]:
    """Return who is called."""
    return {cell.endpoint for _ in range(100) if (cell := found.view.choose())}


def test_a_subset_stays_the_same_and_who_is_ejected_is_replaced() -> None:
    policy = Policy(load_balancer=RandomSubsetting(3, RoundRobin()), outlier_detection=OutlierDetection())
    found = stage(some(12), policy=policy)
    before = called(found)
    found.set(*some(12), *some(1, priority=1))
    assert called(found) == before

    found.fail(next(iter(before)), 5)
    assert len(called(found)) == 3
    assert len(called(found) & before) == 2


def test_a_forked_child_has_a_subset_of_its_own() -> None:
    found = stage(some(40), policy=Policy(load_balancer=RandomSubsetting(3, RoundRobin())))
    before = {endpoint.address for endpoint in called(found)}
    found.cluster.reset_after_fork()

    assert len(before) == 3
    assert {endpoint.address for endpoint in called(found)} != before


def test_each_locality_has_a_subset_of_its_own() -> None:
    balancer = RandomSubsetting(2, RoundRobin(), seed=1)
    policy = Policy(load_balancer=balancer, locality=LocalityWeighted({HERE: 1, NEAR: 1}))
    found = stage(some(6, zone=HERE), some(6, zone=NEAR), policy=policy)

    assert sorted((each.locality.zone for each in called(found) if each.locality), key=str) == ["a", "a", "b", "b"]


def test_an_aperture_gives_parts_of_shares_in_slow_start_too() -> None:
    policy = Policy(load_balancer=DeterministicAperture(0, 3, 1, LeastRequest()), slow_start=SlowStart(60.0))
    found = stage(some(4), policy=policy)
    at_first = called(found)
    assert len(at_first) == 2
    found.clock.advance(30.0)
    found.set(*some(5))

    assert called(found) <= set(some(5))
    assert len(called(found)) == 2


def versions(*given: tuple[str, str]) -> list[Endpoint]:
    """Return endpoints of these names and versions, those called "standby…" of priority 1."""
    return [
        Endpoint(f"{name}:80", metadata={"version": version}, priority=int(name.startswith("standby")))
        for name, version in given
    ]


def test_priorities_and_panic_are_those_within_a_subset() -> None:
    """Two thirds of all are well; of those that matter nobody of the first priority is."""
    balancer = Subset({"version": "2"}, RoundRobin())
    first, second, standby = versions(("a", "1"), ("b", "2"), ("standby", "2"))
    found = stage([first, replace(second, health=ILL), standby], policy=PANICKING.replace(load_balancer=balancer))

    assert called(found) == {standby}
    assert [level.endpoints for level in found.view.selection.plan.levels] == [1, 1]
    found.set(first, second, standby)
    assert called(found) == {second}


def test_illness_is_no_reason_to_fall_back() -> None:
    balancer = Subset({"version": "2"}, RoundRobin(), "ANY_ENDPOINT")
    first, second = versions(("a", "1"), ("b", "2"))
    found = stage([first, replace(second, health=ILL)], policy=Policy(load_balancer=balancer))
    assert called(found) == set()
    found.set(first)
    assert called(found) == {first}


def test_a_call_that_nobody_can_take_says_what_is_lacking() -> None:
    first, second = versions(("a", "1"), ("b", "2"))
    found = stage([first, second], policy=Policy(load_balancer=Subset({"version": "9"})))
    exchange = Exchange()
    outcome = drive(found.call(exchange), exchange, found.clock)

    assert isinstance(outcome.error, NoEndpoints)
    assert "none of its 2 endpoints has the metadata {'version': '9'}" in str(outcome.error)


def test_the_only_endpoint_is_spoken_of_as_one() -> None:
    (first,) = versions(("a", "1"))
    subset = Policy(load_balancer=Subset({"version": "9"}))
    lacking, ill = stage([first], policy=subset).perform().error, stage(some(1, ill=1), policy=Policy()).perform().error
    assert "its only endpoint lacks the metadata {'version': '9'}. Mesh.explain" in str(lacking)
    assert "its only endpoint may take no traffic, discovery calls 1 unhealthy" in str(ill)


def test_views_of_a_service_have_subsets_of_their_own_and_one_state() -> None:
    first, second = versions(("a", "1"), ("b", "2"))
    policy = Policy(load_balancer=Subset({"version": "1"}))
    found = stage([first, second], policy=policy)
    other = View(found.cluster, policy.replace(load_balancer=Subset({"version": "2"})))

    assert called(found) == {first}
    member = other.enter(0.0)
    assert member is not None
    assert member.endpoint == second
    assert member is found.cluster.members[second.address]
    member.finished += 1


@pytest.mark.parametrize("balancer", [PeakEwma(), OrcaWeightedRoundRobin()])
def test_who_learns_is_told_whatever_is_around_it(balancer) -> None:
    found = stage(some(3), policy=Policy(load_balancer=Subset({"x": 1}, RandomSubsetting(2, balancer), "ANY_ENDPOINT")))
    assert (found.view.learns, found.view.reported) == (isinstance(balancer, PeakEwma), not found.view.learns)


def test_a_table_is_made_of_the_subset_only() -> None:
    policy = Policy(load_balancer=RandomSubsetting(3, Maglev(table_size=251), seed=1), hash_on=len)
    found = stage(some(9), policy=policy)
    picks = {cell.endpoint for key in range(200) if (cell := found.view.choose_from(key, (), ()))}

    assert len(picks) == 3
    assert {cell.endpoint for cell in found.view.picker.cells} == picks


# -- laws --------------------------------------------------------------------------------------------------------------

ANY = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([HERE, NEAR, FAR, None]), st.sampled_from(Health), st.integers(0, 3)),
    min_size=1,
    max_size=12,
)
BALANCERS = [RoundRobin(), LeastRequest(), RandomSubsetting(2, RoundRobin()), DeterministicAperture(1, 3, 1)]
LOCALITIES = st.sampled_from(
    [None, LocalityWeighted({HERE: 2, NEAR: 1, FAR: 1, Locality(): 1}), LocalityFailover(HERE)]
    + [ZoneAware(HERE, {HERE: 1, NEAR: 1}, min_cluster_size=size) for size in (0, 6)]
)


@given(ANY, LOCALITIES, st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(BALANCERS), st.booleans())
def test_whoever_is_there_somebody_well_is_called_if_anybody_is(hosts, locality, threshold, balancer, slow) -> None:
    endpoints = [
        Endpoint(f"10.0.0.{n}:80", priority=p, locality=zone, health=state, weight=weight)
        for n, (p, zone, state, weight) in enumerate(hosts)
    ]
    policy = Policy(
        load_balancer=balancer,
        locality=locality,
        panic_threshold=threshold,
        slow_start=SlowStart(10.0) if slow else None,
    )
    found = stage(endpoints, policy=policy)
    callable_ = [endpoint for endpoint in endpoints if endpoint.weight]
    well = [endpoint for endpoint in callable_ if endpoint.health is not ILL]

    cells = found.view.picker.cells
    assert len(cells) == len(set(cells))
    picked = {cell.endpoint for _ in range(30) if (cell := found.view.choose_from(None, (), ()))}
    assert picked <= set(callable_)
    assert bool(picked) == bool(well or (callable_ and threshold))
    if not found.view.panicking:
        assert picked <= set(well)
    assert sum(level.load + level.degraded_load for level in found.view.selection.plan.levels) == 100 * bool(callable_)
    reached: list[Endpoint] = []
    while cell := found.view.choose_from(None, reached, ()):
        assert cell.endpoint not in reached
        reached.append(cell.endpoint)
    if not isinstance(balancer, Wrapping):
        assert set(well) <= set(reached), "retries can reach everybody who is well"
