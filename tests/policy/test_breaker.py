"""The circuit breaker by its states: when it opens, whom it probes with, what it ignores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from svcmesh.policy.breaker import Breaker
from svcmesh.policy.circuit import CircuitBreaker, Slow


@dataclass
class Traffic:
    """Successes of a model endpoint, all of them recent."""

    succeeded: int = 0

    def succeeded_at(self, instant: float) -> int:
        return 0


THREE = CircuitBreaker(failure_rate=None, consecutive=3, probes=1)


def make(config: CircuitBreaker = THREE, **kwargs: Any) -> Breaker:
    return Breaker(config, "greeter", **kwargs)


def opened(config: CircuitBreaker = THREE, now: float = 0.0, **kwargs: Any) -> Breaker:
    breaker = make(config, **kwargs)
    for _ in range(3):
        breaker.settle(None, False, now, Traffic(), ConnectionError())
    assert breaker.state == "open"
    return breaker


class TestClosed:
    def test_it_opens_at_the_last_failure_in_a_row(self):
        breaker, traffic, states = make(), Traffic(), []
        for _ in range(3):
            breaker.settle(breaker.admit(0.0), False, 0.0, traffic)
            states.append(breaker.state)

        assert states == ["closed", "closed", "open"]
        assert breaker.half_opens_at == 5.0

    def test_a_success_between_breaks_the_run(self):
        breaker, traffic = make(), Traffic()
        for _ in range(6):
            breaker.settle(None, False, 0.0, traffic)
            traffic.succeeded += 1

        assert breaker.state == "closed"

    def test_it_opens_at_half_of_twenty(self):
        """Stock pybreaker never does: there is a success between any two failures."""
        breaker, traffic = make(CircuitBreaker()), Traffic()
        for number in range(10):
            assert breaker.state == "closed", number
            traffic.succeeded += 1
            breaker.settle(None, False, number / 10, traffic)

        assert breaker.state == "open"

    def test_a_success_that_is_settled_changes_nothing(self):
        breaker = make()
        for _ in range(2):
            breaker.settle(None, False, 0.0, Traffic())
        breaker.settle(breaker.admit(0.0), True, 0.0, Traffic(1))

        assert breaker.state == "closed"

    def test_slow_successes_open_it_too(self):
        breaker = make(CircuitBreaker(failure_rate=None, minimum_calls=3, slow=Slow(seconds=1.0)))
        for number in range(1, 4):
            assert breaker.state == "closed"
            breaker.settle(None, True, float(number), Traffic(number), seconds=1.5)

        assert breaker.state == "open"

    def test_a_call_of_exactly_the_limit_is_not_slow(self):
        breaker = make(CircuitBreaker(failure_rate=None, minimum_calls=1, slow=Slow(seconds=1.0)))
        breaker.settle(None, True, 1.0, Traffic(1), seconds=1.0)

        assert breaker.state == "closed"


class TestOpen:
    def test_it_admits_nobody_and_says_until_when(self):
        breaker = opened(now=10.0)

        assert breaker.admit(14.9) is None
        assert breaker.retry_after(12.0) == 3.0
        assert breaker.retry_after(99.0) == 0.0

    def test_late_results_are_dropped(self):
        breaker = make()
        late = breaker.admit(0.0)
        for _ in range(3):
            breaker.settle(None, False, 0.0, Traffic())
        for good in (True, False, None):
            breaker.settle(late, good, 1.0, Traffic())
            breaker.settle(None, good, 1.0, Traffic())

        assert breaker.state == "open"
        assert breaker.half_opens_at == 5.0

    def test_it_wakes_when_its_time_is_over(self):
        breaker = opened()

        assert not breaker.wake(4.9)
        assert breaker.wake(5.0)
        assert breaker.state == "half-open"
        assert breaker.half_opens_at is None
        assert not breaker.wake(6.0)

    def test_waking_a_closed_one_does_nothing(self):
        assert not make().wake(1e9)


class TestHalfOpen:
    def test_a_good_probe_closes_it(self):
        breaker = opened()
        permit = breaker.admit(5.0)
        assert breaker.state == "half-open"
        breaker.settle(permit, True, 5.1, Traffic(1))

        assert breaker.state == "closed"
        assert breaker.retry_after(5.1) == 0.0

    def test_a_bad_probe_opens_it_for_the_whole_time_again(self):
        breaker = opened()
        breaker.settle(breaker.admit(5.0), False, 6.0, Traffic())

        assert breaker.state == "open"
        assert breaker.half_opens_at == 11.0

    def test_a_slow_probe_is_a_bad_one(self):
        config = CircuitBreaker(failure_rate=None, consecutive=3, slow=Slow(seconds=1.0))
        breaker = opened(config)
        breaker.settle(breaker.admit(5.0), True, 7.0, Traffic(), seconds=2.0)

        assert breaker.state == "open"

    def test_as_many_successes_as_probes_are_needed(self):
        breaker = opened(CircuitBreaker(failure_rate=None, consecutive=3, probes=3))
        states = []
        for _ in range(3):
            breaker.settle(breaker.admit(5.0), True, 5.0, Traffic(1))
            states.append(breaker.state)

        assert states == ["half-open", "half-open", "closed"]

    def test_no_more_than_probes_are_out_at_once(self):
        breaker = opened(CircuitBreaker(failure_rate=None, consecutive=3, probes=2))
        permits = [breaker.admit(5.0) for _ in range(5)]

        assert [permit is None for permit in permits] == [False, False, True, True, True]
        assert breaker.retry_after(5.0) == 0.0  # the two may end at any moment

    def test_an_ignored_probe_gives_its_place_back(self):
        breaker = opened()
        permit = breaker.admit(5.0)
        assert breaker.admit(5.0) is None
        breaker.settle(permit, None, 5.5, Traffic())

        assert breaker.state == "half-open"
        assert breaker.retry_after(5.5) == 0.0
        assert breaker.admit(5.5) is not None

    def test_a_lost_probe_frees_its_place_when_its_lease_is_over(self):
        breaker = opened()
        lost = breaker.admit(5.0)

        assert breaker.admit(9.9) is None
        other = breaker.admit(10.0)
        assert other is not None
        breaker.settle(lost, False, 10.1, Traffic())
        assert breaker.state == "half-open"  # too late to count
        breaker.settle(other, True, 10.2, Traffic(1))
        assert breaker.state == "closed"

    def test_a_lease_is_never_shorter_than_a_second(self):
        breaker = opened(CircuitBreaker(failure_rate=None, consecutive=3, probes=1, open_for=0.1))
        breaker.admit(0.1)

        assert breaker.admit(1.0) is None
        assert breaker.admit(1.2) is not None

    def test_a_permit_settled_twice_counts_once(self):
        breaker = opened(CircuitBreaker(failure_rate=None, consecutive=3, probes=2))
        permit = breaker.admit(5.0)
        breaker.settle(permit, True, 5.0, Traffic(1))
        breaker.settle(permit, True, 5.0, Traffic(1))

        assert breaker.state == "half-open"

    def test_a_result_without_a_permit_does_not_decide(self):
        breaker = opened()
        breaker.wake(5.0)
        breaker.settle(None, False, 5.0, Traffic())
        breaker.settle(None, True, 5.0, Traffic(9))

        assert breaker.state == "half-open"

    def test_after_closing_it_starts_counting_afresh(self):
        breaker = opened()
        breaker.settle(breaker.admit(5.0), True, 5.0, Traffic(1))
        breaker.settle(None, False, 6.0, Traffic(1))

        assert breaker.state == "closed"

    def test_a_circuit_that_another_thread_just_closed_admits(self):
        breaker = opened()
        permit = breaker.admit(5.0)
        lock = breaker._lock

        class Overtaken:
            """A lock that another thread got first, and closed the circuit under."""

            def __enter__(self):
                breaker._lock = lock
                breaker.settle(permit, True, 5.0, Traffic(1))
                lock.acquire()

            def __exit__(self, *_):
                lock.release()

        breaker._lock = Overtaken()
        late = breaker.admit(5.0)

        assert breaker.state == "closed"
        assert late == breaker.admit(5.0)


class TestErrors:
    def test_an_error_comes_back_exactly_as_it_went_in(self):
        breaker = make()
        try:
            raise ConnectionError("down")
        except ConnectionError as caught:
            error = caught
        traceback, context, cause = error.__traceback__, error.__context__, error.__cause__
        for _ in range(3):
            try:
                raise KeyError("what the caller is handling meanwhile")
            except KeyError:
                breaker.settle(None, False, 0.0, Traffic(), error)

        assert breaker.state == "open"
        assert (error.__traceback__, error.__context__, error.__cause__) == (traceback, context, cause)

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()], ids=repr)
    def test_what_is_no_exception_is_ignored(self, error):
        breaker = make(CircuitBreaker(failure_rate=None, consecutive=1))
        breaker.settle(None, False, 0.0, Traffic(), error)

        assert breaker.state == "closed"

    def test_excluded_errors_are_neither_success_nor_failure(self):
        breaker = opened(CircuitBreaker(failure_rate=None, consecutive=3, probes=1, exclude=[ValueError]))
        permit = breaker.admit(5.0)
        breaker.settle(permit, False, 5.0, Traffic(), ValueError())

        assert breaker.state == "half-open"
        assert breaker.admit(5.0) is not None

    def test_an_exclusion_that_raises_excludes_nothing_and_is_reported(self):
        reported: list[Exception] = []
        config = CircuitBreaker(failure_rate=None, consecutive=1, exclude=[lambda error: error.code == 7])
        breaker = make(config, on_listener_error=reported.append)
        breaker.settle(None, False, 0.0, Traffic(), ConnectionError())

        assert breaker.state == "open"
        assert isinstance(reported[0], AttributeError)


def test_a_sign_of_life_lets_an_open_circuit_be_probed_at_once() -> None:
    """`hasten` shortens the wait, never lengthens it, and opens nothing by itself."""
    breaker = Breaker(CircuitBreaker(consecutive=1, failure_rate=None, open_for=5.0), "b")
    breaker.hasten(0.0)
    assert breaker.state == "closed"
    breaker.settle(None, False, 1.0, Traffic())
    assert breaker.admit(2.0) is None

    breaker.hasten(3.0)
    breaker.hasten(4.0)

    assert breaker.half_opens_at == 3.0
    assert breaker.admit(3.0) is not None
