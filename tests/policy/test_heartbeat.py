"""Everybody who heartbeats has a moment of his own, and keeps it while the registry does not answer."""

from __future__ import annotations

import pytest

from svcmesh.policy.heartbeat import HeartbeatPace


@pytest.fixture(autouse=True)
def come_back():
    """Come back as users' clients do."""


class Fixed:
    """Always draws the same number."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


EARLIEST, MIDDLE, LATEST = Fixed(0.0), Fixed(0.5), Fixed(1.0)


def test_the_first_heartbeat_comes_at_any_moment_and_the_others_a_third_of_the_ttl_apart():
    pace = HeartbeatPace(9.0)

    assert [pace.first(rng) for rng in (EARLIEST, MIDDLE, LATEST)] == [0.0, 1.5, 3.0]
    assert [pace.usual(rng) for rng in (EARLIEST, MIDDLE, LATEST)] == pytest.approx([3.0, 2.97, 2.94])


@pytest.mark.parametrize(("ttl", "longest"), [(9.0, 3.0), (60.0, 5.0)])
def test_a_failed_one_is_repeated_as_late_and_after_5_seconds_at_most(ttl, longest):
    assert HeartbeatPace(ttl).missed(EARLIEST) == longest
    assert HeartbeatPace(ttl).missed(LATEST) == pytest.approx(longest * 0.98)


def test_who_was_forgotten_takes_a_moment_anew_after_the_others_had_theirs():
    pace = HeartbeatPace(9.0)

    assert [pace.forgotten(1, rng) for rng in (EARLIEST, MIDDLE, LATEST)] == [3.0, 5.5, 8.0]
    assert [pace.forgotten(2, rng) for rng in (EARLIEST, LATEST)] == pytest.approx([5.0, 4.9])


@pytest.mark.parametrize("ttl", [0.3, 3.0, 9.0, 60.0])
def test_a_registry_that_is_back_for_a_ttl_has_been_told(ttl):
    pace = HeartbeatPace(ttl)
    rngs = (EARLIEST, MIDDLE, LATEST)

    assert all(pace.forgotten(failures, rng) <= ttl for failures in range(1, 9) for rng in rngs)
    assert all(pace.new(failures, rng) <= ttl for failures in range(1, 99) for rng in rngs)


def test_who_was_never_registered_tries_again_soon_and_then_less_often():
    waits = [HeartbeatPace(9.0).new(failures, MIDDLE) for failures in range(1, 9)]

    assert waits == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 4.95])


def test_what_the_registry_asks_for_is_waited_for():
    pace = HeartbeatPace(30.0)

    assert pace.new(1, EARLIEST, 3.0) == 3.0
    assert pace.forgotten(2, LATEST, 3600.0) == 5.0
