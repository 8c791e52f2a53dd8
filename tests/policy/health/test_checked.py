"""Thresholds, the first check and intervals are Envoy's: worked out by hand, and compared with a plain model."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.policy import HealthCheck, TcpHealthCheck
from svcmesh.policy.health.checked import Change, Checked, wait_after
from svcmesh.policy.health.finding import Unwell

WELL, SILENT, NO = None, Unwell("no answer"), Unwell("HTTP 500", answered=True)
NONE, PENDING, CHANGED = Change.NONE, Change.PENDING, Change.CHANGED


def config(**fields):
    return HealthCheck(
        **{
            "tcp_health_check": TcpHealthCheck(),
            "unhealthy_threshold": 3,
            "healthy_threshold": 2,
            "interval_jitter_percent": 0,
            **fields,
        }
    )


def told(*found, waits=False, **fields):
    """Return what each of these findings changes, and whether the endpoint takes calls after it."""
    checked = Checked(waits=waits)
    return [(checked.settle(each, config(**fields)), checked.ill is None) for each in found]


@pytest.mark.parametrize("waits", [False, True])
def test_the_first_check_decides_alone(waits: bool) -> None:
    """Whatever the thresholds, whatever kind of failure, and whether it took calls before or not."""
    assert told(WELL, waits=waits) == [(CHANGED, True)]
    assert told(SILENT, waits=waits) == [(CHANGED, False)]
    assert told(NO, waits=waits) == [(CHANGED, False)]


def test_silence_has_to_last_and_a_success_forgives_it() -> None:
    assert told(WELL, SILENT, SILENT, WELL, SILENT, SILENT, SILENT)[1:] == [
        (PENDING, True),
        (PENDING, True),
        (NONE, True),
        (PENDING, True),
        (PENDING, True),
        (CHANGED, False),
    ]


def test_an_answer_that_says_no_is_believed_at_once() -> None:
    assert told(WELL, NO)[1:] == [(CHANGED, False)]
    assert told(WELL, SILENT, NO)[1:] == [(PENDING, True), (CHANGED, False)]


def test_successes_have_to_follow_each_other() -> None:
    assert told(NO, WELL, NO, WELL, WELL, WELL, healthy_threshold=3)[1:] == [
        (PENDING, False),
        (NONE, False),
        (PENDING, False),
        (PENDING, False),
        (CHANGED, True),
    ]


def test_it_says_the_newest_reason() -> None:
    checked = Checked(waits=True)
    assert checked.ill is not None
    assert checked.ill.reason == "not checked yet"
    for found in (SILENT, NO):
        checked.settle(found, config())
        assert checked.ill is found


def test_to_be_degraded_changes_something_as_long_as_it_is_well() -> None:
    checked = Checked(waits=False)
    said = [(WELL, True), (WELL, True), (WELL, False), (NO, False), (WELL, True), (WELL, True), (SILENT, False)]
    found = [(checked.settle(each, config(), degraded=degraded), checked.degraded) for each, degraded in said]
    assert found == [
        (CHANGED, True),
        (NONE, True),
        (CHANGED, False),
        (CHANGED, False),
        (PENDING, True),
        (CHANGED, True),
        (PENDING, True),
    ]


@given(
    found=st.lists(st.sampled_from([WELL, SILENT, NO]), max_size=40),
    up=st.integers(1, 4),
    down=st.integers(1, 4),
    waits=st.booleans(),
)
def test_it_follows_the_model(found, up: int, down: int, waits: bool) -> None:
    """The model looks back at all findings each time; nothing is counted in it."""
    checked = Checked(waits=waits)
    well = not waits
    for n, each in enumerate(found):
        checked.settle(each, config(unhealthy_threshold=down, healthy_threshold=up))
        if n == 0:
            well, since = each is WELL, 0
        elif well:
            run = found[max(since + 1, n + 1 - down) : n + 1]
            if each is NO or (len(run) == down and WELL not in run):
                well, since = False, n
        else:
            run = found[max(since + 1, n + 1 - up) : n + 1]
            if len(run) == up and all(one is WELL for one in run):
                well, since = True, n
        assert (checked.ill is None) == well


INTERVALS = {
    "interval": 10.0,
    "unhealthy_interval": 20.0,
    "unhealthy_edge_interval": 3.0,
    "healthy_edge_interval": 4.0,
    "no_traffic_interval": 60.0,
    "no_traffic_healthy_interval": 90.0,
}


@pytest.mark.parametrize(
    ("passed", "change", "traffic", "seconds"),
    [
        (True, NONE, True, 10),
        (True, CHANGED, True, 10),
        (True, PENDING, True, 4),
        (False, NONE, True, 20),
        (False, CHANGED, True, 20),
        (False, PENDING, True, 3),
        (True, PENDING, False, 90),
        (False, PENDING, False, 60),
    ],
)
def test_the_interval_goes_by_how_it_ended_and_whether_that_is_believed(passed, change, traffic, seconds) -> None:
    wait = wait_after(config(**INTERVALS), change, random.Random(1), passed=passed, traffic=traffic)

    assert wait == seconds


@pytest.mark.parametrize(
    ("passed", "change", "traffic", "field"),
    [
        (False, PENDING, True, "unhealthy_interval"),
        (False, NONE, True, "interval"),
        (False, PENDING, True, "interval"),
        (True, PENDING, True, "interval"),
        (True, NONE, False, "no_traffic_interval"),
    ],
)
def test_an_interval_that_is_not_given_is_another_one(passed, change, traffic, field) -> None:
    wait = wait_after(config(**{field: 7.0}), change, random.Random(1), passed=passed, traffic=traffic)

    assert wait == 7.0


def test_both_jitters_only_lengthen_it_and_are_drawn_apart() -> None:
    """Up to 20 % of 10 s and up to 3 s: from 10 s to 15 s, in the middle as often as two dice are."""
    jittered = config(interval=10.0, interval_jitter_percent=20, interval_jitter=3.0)
    rng = random.Random(7)
    waits = [wait_after(jittered, NONE, rng, passed=True, traffic=True) for _ in range(20_000)]

    assert 10.0 <= min(waits) < 10.2
    assert 14.8 < max(waits) < 15.0
    assert sum(waits) / len(waits) == pytest.approx(12.5, abs=0.05)
    assert sum(wait < 10.6 for wait in waits) / len(waits) == pytest.approx(0.03, abs=0.01)  # one draw: 0.12
