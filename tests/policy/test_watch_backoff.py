"""Clients of a registry that is back do not come all at once, however long it was away."""

from __future__ import annotations

from bisect import bisect_left
from random import Random

import pytest

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.pace import SLOWLY
from svcmesh.policy.watch_backoff import WATCHES, WatchBackoff, told_wait

CLIENTS = 1000


class Fixed:
    """Always draws the same number."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


def drawn(number: float, *, answered: bool) -> list[float]:
    waits = [WatchBackoff(base=1.0, cap=8.0).seconds(n, Fixed(number), answered=answered) for n in range(1, 8)]
    return [round(wait, 6) for wait in waits]


def test_who_was_never_answered_asks_again_soon_and_then_less_often():
    assert drawn(0.5, answered=False) == [0.5, 1.0, 2.0, 4.0, 7.92, 7.92, 7.92]
    assert drawn(0.25, answered=False) == [0.25, 0.5, 1.0, 2.0, 7.96, 7.96, 7.96]


def test_who_has_endpoints_takes_a_moment_of_his_own_and_keeps_it():
    assert drawn(0.5, answered=True) == [4.0, 7.92, 7.92, 7.92, 7.92, 7.92, 7.92]
    assert drawn(0.0, answered=True) == [0.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0]


def test_numbers_of_failures_may_be_large():
    assert WATCHES.seconds(10**9, Fixed(0.0), answered=True) == WATCHES.seconds(10**9, Fixed(0.0), answered=False) == 5


@pytest.mark.parametrize(("told", "earliest", "latest"), [(0.0, 0.0, 4.0), (3.0, 3.0, 7.0), (3600.0, 5.0, 9.0)])
@pytest.mark.parametrize("answered", [True, False])
def test_who_is_told_to_wait_waits_for_that_and_then_for_a_moment_of_his_own(told, earliest, latest, answered):
    waits = [WATCHES.seconds(1, Fixed(number), answered=answered, told=told) for number in (0.0, 1.0)]

    assert waits == [earliest, latest]


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("failures", [1, 2, 9])
def test_what_only_people_can_mend_is_asked_again_within_the_cap(failures, answered):
    waits = [WATCHES.seconds(failures, Fixed(number), answered=answered, told=SLOWLY) for number in (0.0, 0.5, 1.0)]

    assert all(SLOWLY <= wait <= WATCHES.cap for wait in waits)


def test_who_is_told_again_and_again_keeps_his_moment():
    waits = [WATCHES.seconds(n, Fixed(number), answered=True, told=5.0) for n in (2, 9) for number in (0.0, 1.0)]

    assert waits == [5.0] * 4


@pytest.mark.parametrize(
    ("said", "told"),
    [(3, 3), (0.5, 0.5), (-1.0, 0.0), (None, None), ("3", None), (True, None), (float("nan"), None)],
)
def test_what_an_error_says_counts_if_it_is_a_number(said, told):
    error = DiscoveryError("busy")
    error.retry_after = said

    assert told_wait(error) == told
    assert told_wait(OSError()) is None


def arrivals(away: float, *, answered: bool, told: float | None = None) -> list[float]:
    """Return when each of a thousand clients asks for the first time after ``away`` seconds without a registry."""
    rng, found = Random(1), []
    for _ in range(CLIENTS):
        now, failures = 0.0, 0
        while now < away or not failures:
            failures += 1
            now += WATCHES.seconds(failures, rng, answered=answered, told=told)
        found.append(now)
    return sorted(found)


def busiest(instants: list[float]) -> int:
    """Return how many of them lie in the tenth of a second that has most."""
    return max(bisect_left(instants, instant + 0.1) - number for number, instant in enumerate(instants))


@pytest.mark.parametrize("away", [0.0, 0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0])
def test_of_a_thousand_that_lost_it_at_most_a_twentieth_comes_in_a_tenth_of_a_second(away):
    instants = arrivals(away, answered=True)

    assert busiest(instants) <= CLIENTS // 20
    assert instants[-1] - away <= 5.0


@pytest.mark.parametrize("away", [10.0, 30.0, 60.0, 300.0])
def test_so_it_is_with_those_who_began_while_it_was_away(away):
    assert busiest(arrivals(away, answered=False)) <= CLIENTS // 20


@pytest.mark.parametrize("told", [0.0, SLOWLY, 5.0, 60.0])
@pytest.mark.parametrize("away", [0.5, 2.0, 7.0, 30.0])
def test_so_it_is_with_those_who_were_all_told_the_same(away, told):
    """That they are asked too much, or that a token has lost its rights."""
    assert busiest(arrivals(away, answered=True, told=told)) <= CLIENTS // 20
