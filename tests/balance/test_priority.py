"""Priorities: the examples of the reference to the percent, and laws that hold for any hosts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError
from svcmesh.balance import Priorities
from svcmesh.balance.priority import Availability, Census, Loads, loads, loads_by_size, loads_elsewhere

HOSTS = st.integers(0, 300)


@st.composite
def censuses(draw):
    healthy, degraded, excluded, ill = (draw(HOSTS) for _ in range(4))
    return Census(healthy + degraded + excluded + ill, healthy, degraded, excluded)


MANY = st.lists(censuses(), min_size=1, max_size=5)
FACTORS = st.integers(100, 300)


def shared(*hosts, factor=140):
    return loads(Availability.of([Census(*each) for each in hosts], factor))


@pytest.mark.parametrize(
    ("hosts", "healthy", "degraded"),
    [
        ([(10, 6), (10, 10)], (84, 16), (0, 0)),
        ([(10, 3), (10, 4), (10, 5)], (42, 56, 2), (0, 0, 0)),
        ([(10, 1), (10, 6)], (15, 85), (0, 0)),  # 14 and 84 add up to 98: the rest goes to the first
        ([(10, 4, 4)], (56,), (44,)),
        ([(10, 4, 4), (10, 10)], (56, 44), (0, 0)),  # the healthy ones of P1 before the degraded ones of P0
        ([(10, 7, 0, 3)], (100,), (0,)),  # three are excluded
        ([(10, 10), (10, 10)], (100, 0), (0, 0)),
        ([(10, 0), (10, 10)], (0, 100), (0, 0)),
        ([(10, 0, 5), (10, 0, 1)], (0, 0), (84, 16)),  # 70 and 14 of 84; the rest of rounding to the first degraded
        ([(10, 0), (10, 0)], (100, 0), (0, 0)),
        ([(0, 0), (3, 3)], (0, 100), (0, 0)),
        ([(100, 1, 2), (100, 2, 1), (100, 1, 0)], (16, 28, 14), (28, 14, 0)),
    ],
)
def test_loads_worked_out_by_hand(hosts, healthy, degraded):
    assert shared(*hosts) == Loads(healthy, degraded)


def test_the_example_in_the_comments_of_envoy():
    """10 %, 20 % and 10 % of health, 20 %, 10 % and 0 % degraded: the first gets 2 % more by rounding."""
    assert loads(Availability((10, 20, 10), (20, 10, 0))) == Loads((16, 28, 14), (28, 14, 0))


@pytest.mark.parametrize(("healthy", "spilled"), [(72, 0), (71, 1), (50, 30), (1, 99)])
def test_calls_spill_from_less_than_71_43_percent_on(healthy, spilled):
    assert shared((100, healthy), (100, 100)).healthy == (100 - spilled, spilled)


@pytest.mark.parametrize(("factor", "first"), [(100, 60), (140, 84), (166, 99), (167, 100), (1000, 100)])
def test_the_room_of_hosts_can_be_chosen(factor, first):
    assert shared((10, 6), (10, 10), factor=factor).healthy == (first, 100 - first)


@given(MANY, FACTORS)
def test_loads_are_whole_percents_that_add_up_to_100(hosts, factor):
    found = loads(Availability.of(hosts, factor))

    assert sum(found.healthy) + sum(found.degraded) == 100
    assert all(isinstance(percent, int) and percent >= 0 for percent in (*found.healthy, *found.degraded))


@given(MANY, FACTORS)
def test_nobody_who_can_take_nothing_gets_anything_while_somebody_can(hosts, factor):
    available = Availability.of(hosts, factor)
    found = loads(available)

    if available.total:
        for got, can in ((found.healthy, available.healthy), (found.degraded, available.degraded)):
            assert all(can[place] for place, percent in enumerate(got) if percent)


@given(MANY, FACTORS)
def test_nobody_gets_more_than_it_can_take_while_together_they_can_take_all(hosts, factor):
    available = Availability.of(hosts, factor)
    found = loads(available)

    if available.total == 100 and sum(available.healthy) >= 100:
        assert all(got <= can for got, can in zip(found.healthy, available.healthy, strict=True))
        assert not any(found.degraded)


@given(MANY, FACTORS, st.data())
def test_a_host_that_recovers_never_takes_calls_from_its_priority(hosts, factor, data):
    place = data.draw(st.integers(0, len(hosts) - 1))
    old = hosts[place]
    before = loads(Availability.of(hosts, factor)).healthy[place]
    better = Census(old.total + 1, old.healthy + 1, old.degraded, old.excluded)  # it was there, ill
    ill = Census(old.total + 1, old.healthy, old.degraded, old.excluded)
    worse = loads(Availability.of([*hosts[:place], ill, *hosts[place + 1 :]], factor)).healthy[place]
    recovered = loads(Availability.of([*hosts[:place], better, *hosts[place + 1 :]], factor)).healthy[place]

    rounding = 2 * len(hosts)  # the remainder of the others' rounding moves with it
    assert recovered >= worse - rounding
    assert before >= 0


@pytest.mark.parametrize(
    ("sizes", "expected"), [((10, 30), (25, 75)), ((1, 1, 1), (34, 33, 33)), ((0, 7), (0, 100)), ((0, 0), (100, 0))]
)
def test_in_a_panic_of_all_only_the_numbers_of_hosts_count(sizes, expected):
    assert loads_by_size(sizes) == Loads(expected, (0,) * len(sizes))


@given(st.lists(HOSTS, min_size=1, max_size=6))
def test_loads_by_size_add_up_to_100(sizes):
    assert sum(loads_by_size(sizes).healthy) == 100


EVEN = Availability((100, 100, 60), (0, 0, 0))


@pytest.mark.parametrize(
    ("tried", "every", "expected"),
    [
        ([], 1, None),
        ([0], 1, (0, 100, 0)),
        ([0], 2, None),
        ([0, 0], 2, (0, 100, 0)),
        ([0, 1], 2, (0, 0, 100)),
        ([0, 1, 2], 2, (0, 0, 100)),  # no update between the second and the fourth attempt
        ([0, 1], 1, (0, 0, 100)),
        ([0, 1, 2], 1, None),  # all were met: from the beginning
        ([0, 1, 2, 0], 1, (0, 100, 0)),
    ],
)
def test_attempts_go_to_priorities_that_were_not_met_yet(tried, every, expected):
    found = loads_elsewhere(EVEN, tried, every)

    assert found == (None if expected is None else Loads(expected, (0, 0, 0)))


def test_what_a_priority_left_out_is_shared_by_availability():
    """The two that are left can take 60 % and 30 % of the calls: of 90, and so two thirds and one."""
    assert loads_elsewhere(Availability((100, 60, 30), (0, 0, 0)), [0], 1) == Loads((0, 67, 33), (0, 0, 0))
    assert loads_elsewhere(Availability((100, 0, 0), (0, 20, 20)), [0], 1) == Loads((0, 0, 0), (0, 50, 50))


def test_nobody_anywhere_is_as_without_attempts():
    assert loads_elsewhere(Availability((0, 0), (0, 0)), [0, 1], 1) is None


@given(MANY, st.lists(st.integers(0, 4), max_size=12), st.integers(1, 4))
def test_elsewhere_adds_up_to_100_and_means_elsewhere(hosts, tried, every):
    available = Availability.of(hosts, 140)
    met = [place for place in tried if place < len(hosts)]
    found = loads_elsewhere(available, met, every)

    if found is not None:
        assert sum(found.healthy) + sum(found.degraded) == 100
        last = met[: len(met) // every * every][-every:]
        assert all(found.healthy[place] == found.degraded[place] == 0 for place in last[-1:])


def test_weights_can_be_counted_instead_of_hosts():
    """One heavy host is ill: 2 of 3 are well, but only 2 of 6 of the weight."""
    assert Census(3, 2).percent(2, 140) == 93
    assert Census(6.0, 2.0).percent(2.0, 140) == 46


@pytest.mark.parametrize(
    "wrong",
    [
        {"overprovisioning_factor": 99},
        {"overprovisioning_factor": 140.0},
        {"overprovisioning_factor": True},
        {"weighted_priority_health": "no"},
        {"fail_traffic_on_panic": 1},
    ],
)
def test_what_cannot_be_is_refused_by_its_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Priorities(**wrong)
