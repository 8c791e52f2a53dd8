"""Peak EWMA: slow and failing endpoints lose calls at once, and win them back by time and good answers."""

from __future__ import annotations

import random
from collections import Counter
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError, Endpoint
from svcmesh.balance import PeakEwma
from svcmesh.balance.cell import Cell
from svcmesh.balance.peak_ewma import Latency
from svcmesh.testing import FakeClock

TWO = [Endpoint("10.0.0.1:80"), Endpoint("10.0.0.2:80")]


@pytest.fixture
def clock():
    return FakeClock()


def picker_of(endpoints, clock, config=None):
    return (config or PeakEwma()).picker(endpoints, rng=random.Random(1), clock=clock)


def call(picker, endpoint, seconds, *, failed=False):
    picker.started(endpoint)
    picker.finished(endpoint, seconds, failed)


def picks(picker, how_many=20):
    return {picker.pick() for _ in range(how_many)}


def test_a_peak_counts_at_once(clock):
    """One slow answer is enough, after any number of fast ones."""
    picker = picker_of(TWO, clock)
    for _ in range(50):
        call(picker, TWO[0], 0.010)
        call(picker, TWO[1], 0.011)
    call(picker, TWO[0], 0.5)

    assert picks(picker) == {TWO[1]}


def test_a_peak_fades_with_time_and_with_good_answers(clock):
    """0.5 s come down to 11 ms when exp(-t / 10) is 0.022: after 38 s, while the other one is still called."""
    picker = picker_of(TWO, clock)
    call(picker, TWO[0], 0.5)
    for second in range(60):
        call(picker, TWO[1], 0.011)
        assert (TWO[0] in picks(picker)) == (second > 38), second
        clock.advance(1)


def test_calls_in_flight_multiply_the_cost(clock):
    """An endpoint three times as fast takes three calls at a time for one of the other's."""
    picker = picker_of(TWO, clock)
    call(picker, TWO[0], 0.010)
    call(picker, TWO[1], 0.0299)
    started = Counter()
    for _ in range(8):
        endpoint = picker.pick()
        picker.started(endpoint)
        started[endpoint] += 1

    assert started == {TWO[0]: 6, TWO[1]: 2}


def test_who_is_unknown_gets_one_call_at_once_and_no_more(clock):
    """It would take everything while nothing is known of it."""
    picker = picker_of(TWO, clock)
    call(picker, TWO[0], 0.010)

    assert picker.pick() == TWO[1]
    picker.started(TWO[1])
    for _ in range(5):
        assert picker.pick() == TWO[0]
        picker.started(TWO[0])
    picker.finished(TWO[1], 0.010, False)
    assert picker.pick() == TWO[1]


@pytest.mark.parametrize("known", [True, False])
def test_failing_fast_does_not_attract(clock, known):
    """A failure after a millisecond counts as a second, and for more each time it comes again soon."""
    picker = picker_of(TWO, clock)
    for _ in range(3 if known else 0):
        call(picker, TWO[0], 0.010)
    call(picker, TWO[0], 0.001, failed=True)
    call(picker, TWO[1], 0.010)
    taken = Counter()
    for _ in range(600):
        clock.advance(0.1)
        endpoint = picker.pick()
        call(picker, endpoint, 0.001 if endpoint is TWO[0] else 0.010, failed=endpoint is TWO[0])
        taken[endpoint] += 1

    assert taken[TWO[0]] <= 2


def test_repeated_failures_do_not_banish_for_ever(clock):
    """A minute is what they can come to; that has faded to 10 ms after 87 s."""
    picker = picker_of(TWO, clock)
    for _ in range(100):
        call(picker, TWO[0], 0.001, failed=True)
    call(picker, TWO[1], 0.010)
    clock.advance(80)
    call(picker, TWO[1], 0.010)
    assert picks(picker) == {TWO[1]}
    clock.advance(10)
    call(picker, TWO[1], 0.010)
    assert picks(picker) == {TWO[0]}


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(0, 5), st.booleans()), min_size=1, max_size=30),
    st.floats(0.5, 100),
)
def test_levels_order_as_finagles_costs_do(story, decay_time):
    """The stored logarithm, decayed to any later time, is the average that the formulas give step by step."""
    latency, cost, stamp, now = Latency(Cell(TWO[0])), 0.0, 0.0, 1000.0
    for wait, more, peak in story:
        now += wait
        seconds = more + cost if peak else more
        latency.observe(seconds, now, decay_time)
        kept = exp((stamp - now) / decay_time)
        cost, stamp = (seconds if seconds > cost else seconds * (1 - kept) + cost * kept), now
        later = now + 7
        if cost > 1e-6:
            assert exp(latency.level - later / decay_time) == pytest.approx(cost * exp(-7 / decay_time), rel=1e-6)


def test_a_clock_that_is_set_back_does_no_harm():
    """Nothing is raised, and the peak stays one."""
    latency = Latency(Cell(TWO[0]))
    latency.observe(0.5, 100.0, 10.0)
    latency.observe(0.1, 50.0, 10.0)

    assert latency.stamp == 100.0
    assert latency.cost == pytest.approx(0.5)


def test_what_is_known_outlives_the_picker(clock):
    """Endpoints that stay in discovery keep their cells, and so their history."""
    cells, config = [Cell(endpoint) for endpoint in TWO], PeakEwma()
    call(config.over(cells, random.Random(1), clock), TWO[0], 0.5)
    call(config.over(cells, random.Random(1), clock), TWO[1], 0.010)

    assert picks(config.over(cells, random.Random(1), clock)) == {TWO[1]}


def test_weights_decide_among_equals(clock):
    endpoints = [Endpoint(f"10.0.0.{n}:80", weight=n) for n in (1, 2, 3, 0)]
    picker = picker_of(endpoints, clock)
    for endpoint in endpoints[:3]:
        call(picker, endpoint, 0.010)
    shares = Counter(picker.pick() for _ in range(6000))

    assert shares[endpoints[0]] < shares[endpoints[1]] < shares[endpoints[2]]
    assert endpoints[3] not in shares


def test_counts_beyond_the_table_of_logarithms(clock):
    """More than a thousand calls in flight compare as fewer do."""
    picker = picker_of(TWO, clock)
    for endpoint in TWO:
        call(picker, endpoint, 0.010)
    for _ in range(3000):
        picker.started(TWO[0])

    assert picks(picker) == {TWO[1]}


def test_exclusion(clock):
    picker = picker_of(TWO, clock)

    assert picker.pick(exclude=TWO[:1]) == TWO[1]
    assert picker.pick(exclude=TWO) is None
    assert picker_of(TWO[:1], clock).pick() == TWO[0]
    assert picker_of([], clock).pick() is None
    picker.started(Endpoint("10.9.9.9:1"))
    picker.finished(Endpoint("10.9.9.9:1"), 0.1, False)


@pytest.mark.parametrize("field", ["decay_time", "failure_penalty"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "1", None])
def test_bad_configuration_is_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        PeakEwma(**{field: value})


def test_waiting_in_vain_counts_as_the_time_it_took_where_that_is_news(clock):
    """A call that was given up after 2 s says that an answer takes longer; after a millisecond it says nothing."""
    config = PeakEwma()
    cell = Cell(TWO[0])
    config.learn(cell, 0.001, 0.0, None)
    assert config.latency_of(cell).cost == 0.0, "nothing is known of it still"

    config.learn(cell, 0.5, 1.0, False)
    config.learn(cell, 0.001, 1.0, None)
    assert config.latency_of(cell).cost == 0.5
    config.learn(cell, 2.0, 2.0, None)
    assert config.latency_of(cell).cost == 2.0


def test_what_is_known_is_shared_by_equal_balancers_and_survives_their_pickers(clock):
    cell = Cell(TWO[0])
    PeakEwma().learn(cell, 0.25, 0.0, False)

    PeakEwma().over([cell], random.Random(1), clock)
    assert PeakEwma().latency_of(cell).cost == 0.25
    assert PeakEwma(decay_time=5.0).latency_of(cell).cost == 0.0


class Hands:
    """A clock that is set to any time."""

    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(-5, 30), st.booleans()), max_size=20),
    st.floats(0.1, 100),
)
def test_a_picker_learns_what_its_configuration_does(ends, decay_time):
    """The end of a call is written out in the picker; to the bit it is the same arithmetic."""
    config, clock, cell = PeakEwma(decay_time=decay_time), Hands(), Cell(TWO[0])
    picker = config.picker(TWO, clock=clock)
    for seconds, later, failed in ends:
        clock.time += later
        picker.started(TWO[0])
        picker.finished(TWO[0], seconds, failed)
        config.learn(cell, seconds, clock.time, failed)

    found, expected = config.latency_of(picker.cells[0]), config.latency_of(cell)
    assert (found.cost, found.level, found.stamp) == (expected.cost, expected.level, expected.stamp)
