"""Slow start: Envoy's factor, in milliseconds, with its floor and its aggression."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError
from svcmesh.balance import (
    LeastRequest,
    Maglev,
    PeakEwma,
    PickFirst,
    Random,
    RingHash,
    RoundRobin,
    SlowStart,
    WeightedRoundRobin,
)
from svcmesh.balance.slow_start import slowed


@pytest.mark.parametrize(
    ("config", "elapsed", "factor"),
    [
        (SlowStart(60), 30, 0.5),
        (SlowStart(60), 0, 0.1),
        (SlowStart(60), 6, 0.1),
        (SlowStart(60), 7.5, 0.125),
        (SlowStart(60), 59.999, 59.999 / 60),
        (SlowStart(60), 60, 1.0),
        (SlowStart(60), 1e9, 1.0),
        (SlowStart(60, aggression=2), 15, 0.5),
        (SlowStart(60, aggression=0.5), 30, 0.25),
        (SlowStart(10, min_weight_percent=0), 0, 0.0001),  # a millisecond at least
        (SlowStart(10, min_weight_percent=0), 0.0019, 0.0001),
        (SlowStart(10, min_weight_percent=50), 1, 0.5),
        (SlowStart(10, min_weight_percent=100), 0, 1.0),
        (SlowStart(0.0005), 0, 1.0),  # shorter than the millisecond that has passed at least
    ],
)
def test_factors_worked_out_by_hand(config, elapsed, factor):
    assert config.factor(elapsed) == pytest.approx(factor)


@given(st.floats(0.01, 1e4), st.floats(0.01, 100), st.floats(0, 100), st.lists(st.floats(0, 2), min_size=2).map(sorted))
def test_a_weight_only_rises_and_never_above_its_own(window, aggression, least, parts):
    config = SlowStart(window, aggression=aggression, min_weight_percent=least)
    factors = [config.factor(part * window) for part in parts]

    assert factors == sorted(factors)
    assert all(least / 100 <= factor <= 1 for factor in factors)


def test_weights_are_looked_at_at_least_twenty_times_and_every_second():
    assert SlowStart(4).step == 0.2
    assert SlowStart(600).step == 1.0


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("slow_start_window", {"slow_start_window": 0}),
        ("slow_start_window", {"slow_start_window": None}),
        ("slow_start_window", {"slow_start_window": float("inf")}),
        ("aggression", {"aggression": 0}),
        ("aggression", {"aggression": float("nan")}),
        ("min_weight_percent", {"min_weight_percent": 101}),
        ("min_weight_percent", {"min_weight_percent": -1}),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(field, wrong):
    with pytest.raises(ConfigError, match=field):
        SlowStart(**{"slow_start_window": 30.0, **wrong})


@pytest.mark.parametrize("balancer", [LeastRequest(), Random(), WeightedRoundRobin()])
def test_who_goes_by_weights_goes_by_lowered_ones(balancer):
    assert slowed(balancer) is balancer


def test_a_rotation_without_weights_is_stood_in_for():
    assert slowed(RoundRobin()) == WeightedRoundRobin()


@pytest.mark.parametrize("balancer", [PeakEwma(), RingHash(), Maglev(), PickFirst()])
def test_who_goes_by_something_else_does_not(balancer):
    assert slowed(balancer) is None
