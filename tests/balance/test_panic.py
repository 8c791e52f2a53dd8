"""Panic: below the threshold and not at it, never while all calls can be taken, by numbers when it is everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.balance.panic import in_panic, panics, shared_out
from svcmesh.balance.priority import Availability, Census
from tests.balance.test_priority import MANY


def stand(*hosts, threshold=0.5):
    censuses = [Census(*each) for each in hosts]
    available = Availability.of(censuses, 140)
    panicking = panics(censuses, available, threshold)
    loads = shared_out(available, panicking, [census.total for census in censuses])
    return panicking, loads.healthy, loads.degraded


@pytest.mark.parametrize(
    ("hosts", "panicking", "healthy"),
    [
        ([(10, 6), (10, 10)], (False, False), (84, 16)),
        ([(10, 3), (10, 4), (10, 5)], (False, False, False), (42, 56, 2)),  # together they can take all
        ([(10, 1), (10, 6)], (True, False), (15, 85)),
        ([(10, 2), (30, 6)], (True, True), (25, 75)),  # all in panic: by number of hosts
        ([(10, 0), (10, 10)], (False, False), (0, 100)),
        ([(20, 1), (20, 20)], (False, False), (7, 93)),  # 5 % of P0 are well, and still no panic
        ([(10, 0), (30, 0)], (True, True), (25, 75)),
        ([(10, 4)], (True,), (100,)),
        ([(10, 5)], (False,), (100,)),  # exactly the threshold
        ([(10, 3, 2)], (False,), (60,)),  # degraded ones count as well
        ([(10, 3, 1)], (True,), (100,)),
        ([(10, 4, 0, 3)], (False,), (100,)),  # 4 of the 7 that count
    ],
)
def test_panics_worked_out_by_hand(hosts, panicking, healthy):
    assert stand(*hosts)[:2] == (panicking, healthy)


def test_degraded_hosts_have_no_calls_of_their_own_when_all_are_in_panic():
    assert stand((10, 1, 1), (10, 1, 1)) == ((True, True), (50, 50), (0, 0))


def test_at_zero_there_is_no_panic_whatever_happens():
    assert stand((10, 0), (10, 0), threshold=0) == ((False, False), (100, 0), (0, 0))


@pytest.mark.parametrize("percent", range(1, 101))
def test_exactly_the_threshold_is_no_panic(percent):
    """Also where 100 times the ratio is no whole number in floats: 0.07, 0.14, 0.28, 0.29 and more."""
    assert not in_panic(Census(100, percent), percent / 100)
    assert in_panic(Census(100, percent - 1), percent / 100)


def test_a_priority_without_hosts_is_in_panic_as_soon_as_there_can_be_one():
    assert in_panic(Census(0, 0), 0.01)
    assert in_panic(Census(5, 0, 0, 5), 0.01)
    assert not in_panic(Census(0, 0), 0)


@given(MANY, st.floats(0, 1))
def test_loads_add_up_to_100_with_and_without_panic(hosts, threshold):
    available = Availability.of(hosts, 140)
    panicking = panics(hosts, available, threshold)
    loads = shared_out(available, panicking, [int(census.total) for census in hosts])

    assert sum(loads.healthy) + sum(loads.degraded) == 100
    assert not (available.total == 100 and any(panicking))
