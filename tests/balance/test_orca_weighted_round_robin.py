"""Weighted round robin by load reports: gRFC A58, from the first pick to an expiration, in virtual time."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh import ConfigError, Endpoint, Policy
from svcmesh.balance import LoadReport, OrcaWeightedRoundRobin
from svcmesh.balance.cell import Cell
from svcmesh.balance.static_stride import scaled
from svcmesh.testing import FakeClock
from tests.balance.shares import chi_square, critical

THREE = [Endpoint(f"10.0.0.{n}:80") for n in range(3)]
AT_ONCE = OrcaWeightedRoundRobin(blackout_period=0)


@pytest.fixture
def clock():
    return FakeClock()


def picker_of(clock, config=AT_ONCE, endpoints=THREE):
    return config.picker(endpoints, rng=random.Random(1), clock=clock)


def busy(calls, utilization=0.5, **more):
    return LoadReport(calls, cpu_utilization=utilization, **more)


def report(picker, *calls):
    for endpoint, each in zip(THREE, calls, strict=False):
        picker.reported(endpoint, busy(each))


def shares(picker, how_many):
    picks = Counter(picker.pick() for _ in range(how_many))
    return [picks[endpoint] for endpoint in THREE]


def test_calls_go_where_servers_can_take_them(clock):
    """Weights 2, 4 and 6."""
    picker = picker_of(clock)
    report(picker, 100, 200, 300)
    clock.advance(1)

    assert shares(picker, 6000) == pytest.approx([1000, 2000, 3000], abs=3)


def test_without_reports_it_is_a_rotation(clock):
    picker = picker_of(clock)
    picks = [picker.pick() for _ in range(3000)]

    assert all(set(picks[n : n + 3]) == set(THREE) for n in range(0, 3000, 100))
    assert all(one != other for one, other in pairwise(picks))


def test_who_reports_alone_gets_no_more_than_the_others(clock):
    """The mean of one weight is that weight."""
    picker = picker_of(clock)
    report(picker, 100)
    clock.advance(1)
    assert shares(picker, 3000) == [1000, 1000, 1000]


def test_who_does_not_report_has_the_mean_of_the_others(clock):
    picker = picker_of(clock)
    report(picker, 100, 300)
    clock.advance(1)
    assert shares(picker, 6000) == pytest.approx([1000, 3000, 2000], abs=3)


def test_nothing_counts_in_the_blackout(clock):
    """Ten seconds of reports; one endpoint began five seconds later."""
    picker = picker_of(clock, OrcaWeightedRoundRobin())
    for second in range(16):
        report(picker, 100, *((300,) if second >= 5 else ()))
        expected = [1000, 1000, 1000] if second < 15 else [1000, 3000, 2000]
        total = sum(expected)
        assert shares(picker, total) == pytest.approx(expected, abs=3), second
        clock.advance(1)


def test_weights_expire(clock):
    """One endpoint goes on reporting, the other does not: after three minutes the mean is all that is known of it."""
    picker = picker_of(clock)
    report(picker, 100, 300)
    for _ in range(179):
        clock.advance(1)
        report(picker, 100)
    assert shares(picker, 6000) == pytest.approx([1000, 3000, 2000], abs=3)
    clock.advance(1)

    assert shares(picker, 3000) == [1000, 1000, 1000]


def test_a_schedule_holds_for_its_period(clock):
    """Reports in between make no new one."""
    picker = picker_of(clock, OrcaWeightedRoundRobin(blackout_period=0, weight_update_period=5))
    report(picker, 100, 100, 400)
    clock.advance(4.9)
    assert shares(picker, 3000) == [1000, 1000, 1000]
    clock.advance(0.1)

    assert shares(picker, 6000) == pytest.approx([1000, 1000, 4000], abs=3)


def test_a_period_has_a_tenth_of_a_second_at_least(clock):
    picker = picker_of(clock, OrcaWeightedRoundRobin(blackout_period=0, weight_update_period=0.001))
    report(picker, 100, 100, 400)
    clock.advance(0.09)
    assert shares(picker, 3000) == [1000, 1000, 1000]
    clock.advance(0.02)
    assert shares(picker, 6000) == pytest.approx([1000, 1000, 4000], abs=3)


def test_errors_and_named_metrics_count(clock):
    names = ("named_metrics.queue",)
    config = OrcaWeightedRoundRobin(
        blackout_period=0, error_utilization_penalty=2.0, metric_names_for_computing_utilization=names
    )
    picker = picker_of(clock, config)
    picker.reported(THREE[0], busy(100, 0.9, metrics={"named_metrics.queue": 0.5}))  # 200
    picker.reported(THREE[1], busy(100, 0.5, eps=25))  # 100
    picker.reported(THREE[2], busy(100, 0.5, eps=75))  # 50
    clock.advance(1)
    assert shares(picker, 7000) == pytest.approx([4000, 2000, 1000], abs=4)


def test_with_a_call_a_second_the_first_of_the_list_gets_its_share_and_no_more(clock):
    """Each second brings another schedule, and one step of it."""
    picker, picks = picker_of(clock), Counter()
    for second in range(1500):
        report(picker, 100 + second % 2, 200, 300)
        picks[picker.pick()] += 1
        clock.advance(1)
    assert chi_square(picks, dict(zip(THREE, (1, 2, 3), strict=True))) < critical(2)


@settings(max_examples=25, deadline=None)
@given(calls=st.lists(st.floats(1, 1000), min_size=3, max_size=3), rng=st.randoms(use_true_random=False))
def test_shares_are_those_of_the_reports(calls, rng):
    clock = FakeClock()
    picker = AT_ONCE.picker(THREE, rng=rng, clock=clock)
    report(picker, *calls)
    clock.advance(1)
    most, total = max(calls), sum(calls)
    floors = [max(each, 0.01 * total / 3) / most for each in calls]
    expected = [3000 * each / sum(floors) for each in floors]

    assert shares(picker, 3000) == pytest.approx(expected, abs=6)


def test_threads_share_a_schedule_while_others_replace_it(clock):
    """Nobody meets its end, and shares are right; the interpreter switches as often as it can."""
    picker, errors, counts = picker_of(clock), [], [Counter() for _ in range(4)]

    def pick(picks):
        try:
            for number in range(2000):
                if number % 100 == 0:
                    report(picker, 100 + number, 200 + 2 * number, 300 + 3 * number)
                    clock.advance(1)
                picks[picker.pick()] += 1
        except BaseException as error:  # noqa: BLE001 - whatever a thread meets is shown below
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=pick, args=(picks,)) for picks in counts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    picks = sum(counts, Counter())

    assert not errors
    assert picks.total() == 8000
    assert [picks[endpoint] for endpoint in THREE] == pytest.approx([1333, 2667, 4000], rel=0.1)


def test_what_is_excluded_leaves_the_others_their_shares(clock):
    picker = picker_of(clock)
    report(picker, 100, 200, 300)
    clock.advance(1)
    picks = Counter(picker.pick(exclude=THREE[2:]) for _ in range(3000))

    assert chi_square(picks, {THREE[0]: 1, THREE[1]: 2}) < critical(1)
    assert picker.pick(exclude=THREE[1:]) == THREE[0]
    assert picker.pick(exclude=THREE) is None


def test_the_few_that_are_left_of_many_keep_their_shares_too(clock):
    endpoints = [*THREE, *(Endpoint(f"10.0.1.{n}:80") for n in range(100))]
    picker = picker_of(clock, endpoints=endpoints)
    report(picker, 100, 300)
    clock.advance(1)
    picks = Counter(picker.pick(exclude=endpoints[2:]) for _ in range(1200))

    assert chi_square(picks, {THREE[0]: 1, THREE[1]: 3}) < critical(1)


def test_weight_zero_and_strangers(clock):
    pool = [Endpoint("a:1", weight=5), Endpoint("b:1", weight=0)]
    picker = picker_of(clock, endpoints=pool)
    picker.reported(pool[1], busy(100))
    picker.reported(Endpoint("gone:1"), busy(100))

    assert {picker.pick() for _ in range(10)} == {pool[0]}
    assert AT_ONCE.picker([]).pick() is AT_ONCE.picker(pool[1:]).pick() is None


def test_one_that_refused_a_connection_is_another_process_whose_blackout_begins(clock):
    """It has the mean of the others until then."""
    config = OrcaWeightedRoundRobin(blackout_period=10)
    cells = [Cell(endpoint) for endpoint in THREE]
    for cell, weight in zip(cells, (100, 300, 400), strict=True):
        config.reported(cell, busy(weight), clock.now())
    config.refused(cells[2])
    clock.advance(10)
    config.reported(cells[2], busy(400), clock.now())
    loads = [config.load_of(cell) for cell in cells]

    assert config.weights(loads, clock.now()) == scaled([100, 300, 200])
    assert config.weights(loads, clock.now() + 10) == scaled([100, 300, 400])


def test_one_that_never_reported_and_refuses_a_connection_is_given_nothing_to_keep(clock):
    cell = Cell(THREE[0])
    OrcaWeightedRoundRobin().refused(cell)

    assert not cell.kept


def test_what_was_reported_outlives_the_picker(clock):
    """Endpoints come and go; those that stay keep their weights, and their blackout goes on."""
    config = OrcaWeightedRoundRobin(blackout_period=1)
    cells = [Cell(endpoint) for endpoint in THREE]
    config.reported(cells[0], busy(100), clock.now())
    config.reported(cells[1], busy(300), clock.now())
    clock.advance(1)
    picker = config.over(cells, random.Random(1), clock)

    picks = Counter(picker.choose() for _ in range(6000))
    assert [picks[cell] for cell in cells] == pytest.approx([1000, 3000, 2000], abs=3)
    assert config.load_of(cells[0]) is OrcaWeightedRoundRobin().load_of(cells[0])
    assert config.load_of(cells[0]) is not OrcaWeightedRoundRobin(error_utilization_penalty=2.0).load_of(cells[0])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("blackout_period", -1),
        ("weight_expiration_period", 0),
        ("weight_update_period", None),
        ("error_utilization_penalty", -0.1),
        ("error_utilization_penalty", float("nan")),
        ("metric_names_for_computing_utilization", "named_metrics.x"),
        ("metric_names_for_computing_utilization", [1]),
        ("metric_names_for_computing_utilization", [""]),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(field, value):
    with pytest.raises(ConfigError, match=field):
        OrcaWeightedRoundRobin(**{field: value})


def test_it_goes_into_a_policy_as_a_value():
    config = OrcaWeightedRoundRobin(metric_names_for_computing_utilization=["mem_utilization"])
    assert Policy(load_balancer=config) == Policy(
        load_balancer=OrcaWeightedRoundRobin(metric_names_for_computing_utilization=("mem_utilization",))
    )
    assert hash(config) is not None
