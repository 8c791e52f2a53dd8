"""The circuit breaker: pybreaker's states, and what svcmesh adds: permits, rates, late results, contained listeners."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pybreaker
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from svcmesh.core.errors import ConfigError
from svcmesh.policy.breaker import Breaker
from svcmesh.policy.circuit import CircuitBreaker, Slow


@dataclass
class Traffic:
    """Successes of a model endpoint, all of them recent."""

    succeeded: int = 0

    def succeeded_at(self, instant: float) -> int:
        return 0


class Witness(pybreaker.CircuitBreakerListener):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def failure(self, cb, exc):
        self.heard.append(("failure", exc))

    def success(self, cb):
        self.heard.append("success")

    def state_change(self, cb, old_state, new_state):
        self.heard.append((old_state.name, new_state.name, cb.current_state))


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
        assert breaker.retry_after(5.0) == 5.0  # when a lease ends

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
        witness = Witness()
        breaker = make(CircuitBreaker(failure_rate=None, consecutive=1, listeners=[witness]))
        breaker.settle(None, False, 0.0, Traffic(), error)

        assert breaker.state == "closed"
        assert witness.heard == []

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


class TestListeners:
    def test_they_hear_of_failures_changes_and_probes(self):
        witness, error = Witness(), ConnectionError()
        config = CircuitBreaker(failure_rate=None, consecutive=1, probes=1, listeners=[witness])
        breaker = make(config)
        breaker.settle(None, False, 0.0, Traffic(), error)
        breaker.settle(breaker.admit(5.0), True, 5.0, Traffic(1))

        assert witness.heard == [
            ("failure", error),
            ("closed", "open", "open"),  # told when the change is complete; stock pybreaker still shows the old state
            ("open", "half-open", "half-open"),
            ("half-open", "closed", "closed"),
            "success",
        ]

    def test_a_failure_without_an_error_has_one_that_names_the_breaker(self):
        witness = Witness()
        breaker = make(CircuitBreaker(failure_rate=None, consecutive=9, listeners=[witness]))
        breaker.settle(None, False, 0.0, Traffic())

        assert "greeter" in str(witness.heard[0][1])

    def test_one_that_raises_is_reported_and_stops_neither_the_others_nor_the_change(self):
        class Broken(pybreaker.CircuitBreakerListener):
            def failure(self, cb, exc):
                raise RuntimeError("failure")

            def state_change(self, cb, old_state, new_state):
                raise RuntimeError("state_change")

        witness, reported = Witness(), []
        breaker = make(
            CircuitBreaker(failure_rate=None, consecutive=1, listeners=[Broken(), witness]),
            on_listener_error=lambda error: reported.append(str(error)),
        )
        breaker.settle(None, False, 0.0, Traffic(), ConnectionError())

        assert breaker.state == "open"
        assert reported == ["failure", "state_change"]
        assert len(witness.heard) == 2

    def test_they_may_call_the_breaker_and_take_their_time(self):
        """No lock is held while they run: another thread gets its answer meanwhile."""
        inside, go_on = threading.Event(), threading.Event()

        class Slowly(pybreaker.CircuitBreakerListener):
            def failure(self, cb, exc):
                inside.set()
                go_on.wait(10)

        breaker = make(CircuitBreaker(failure_rate=None, consecutive=5, listeners=[Slowly()]))
        thread = threading.Thread(target=breaker.settle, args=(None, False, 0.0, Traffic()))
        thread.start()
        assert inside.wait(10)
        breaker.settle(None, False, 0.0, Traffic())  # would wait for ever if the lock were held
        permit = breaker.admit(0.0)
        go_on.set()
        thread.join()

        assert permit is not None

    def test_changes_are_told_in_order(self):
        changes: list[tuple[str, str]] = []
        breaker = opened(on_change=lambda old, new: changes.append((old, new)))
        breaker.settle(breaker.admit(5.0), False, 5.0, Traffic())
        breaker.settle(breaker.admit(10.0), True, 10.0, Traffic(1))

        assert changes == [
            ("closed", "open"),
            ("open", "half-open"),
            ("half-open", "open"),
            ("open", "half-open"),
            ("half-open", "closed"),
        ]

    def test_they_see_a_counter_that_means_something(self):
        counters: list[int] = []

        class Counter(pybreaker.CircuitBreakerListener):
            def before_call(self, cb, func, *args, **kwargs):
                counters.append(cb.fail_counter)

        breaker = make(CircuitBreaker(failure_rate=None, consecutive=4, listeners=[Counter()]))
        for _ in range(3):
            breaker.settle(None, False, 0.0, Traffic())

        assert counters == [1, 2, 3]


class TestStorage:
    def shared(self) -> tuple[pybreaker.CircuitMemoryStorage, CircuitBreaker]:
        storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        return storage, CircuitBreaker(failure_rate=None, consecutive=2, probes=1, scope="service", storage=storage)

    def fail_twice(self, breaker: Breaker) -> None:
        for _ in range(2):
            breaker.settle(None, False, 0.0, Traffic())

    def test_what_happens_is_written_to_it(self):
        storage, config = self.shared()
        breaker = make(config)
        self.fail_twice(breaker)

        assert (storage.state, storage.counter) == ("open", 2)
        assert storage.opened_at is not None
        breaker.settle(breaker.admit(5.0), True, 5.0, Traffic(1))
        assert (storage.state, storage.counter) == ("closed", 0)

    def test_a_circuit_that_others_opened_opens_here(self):
        _storage, config = self.shared()
        changes: list[tuple[str, str]] = []
        here, there = make(config, on_change=lambda old, new: changes.append((old, new))), make(config)
        here.sync(0.0)
        self.fail_twice(there)
        here.sync(1.0)

        assert here.admit(1.0) is None
        assert here.half_opens_at == 6.0
        assert changes == [("closed", "open")]

    def test_a_circuit_that_others_closed_closes_here(self):
        storage, config = self.shared()
        breaker = make(config)
        self.fail_twice(breaker)
        breaker.sync(1.0)
        storage.state = "closed"
        breaker.sync(2.0)

        assert breaker.state == "closed"

    def test_one_that_starts_open_is_taken_over(self):
        config = CircuitBreaker(storage=lambda name: pybreaker.CircuitMemoryStorage(pybreaker.STATE_OPEN))
        breaker = make(config)
        breaker.sync(3.0)

        assert breaker.state == "open"
        assert breaker.half_opens_at == 8.0

    def test_one_that_cannot_be_written_does_not_close_what_opened_here(self):
        class Broken(pybreaker.CircuitMemoryStorage):
            @property
            def state(self):
                return "closed"

            @state.setter
            def state(self, state):
                raise OSError("no route to storage")

        reported: list[Exception] = []
        config = CircuitBreaker(failure_rate=None, consecutive=2, storage=lambda name: Broken("closed"))
        breaker = make(config, on_listener_error=reported.append)
        breaker.sync(0.0)
        self.fail_twice(breaker)
        breaker.sync(1.0)

        assert breaker.state == "open"
        assert [type(error) for error in reported] == [OSError]

    def test_one_that_cannot_be_read_changes_nothing(self):
        class Unreadable(pybreaker.CircuitMemoryStorage):
            @property
            def state(self):
                raise OSError("no route to storage")

            @state.setter
            def state(self, state):
                pass

        reported: list[Exception] = []
        breaker = make(CircuitBreaker(storage=lambda name: Unreadable("closed")), on_listener_error=reported.append)
        breaker.sync(0.0)

        assert breaker.state == "closed"
        assert len(reported) == 1

    def test_what_talks_to_it_can_be_deferred(self):
        storage, config = self.shared()
        deferred: list[Any] = []
        breaker = make(config, defer=deferred.append)
        self.fail_twice(breaker)

        assert breaker.state == "open"
        assert storage.state == "closed"
        for deed in deferred:
            deed()
        assert storage.state == "open"

    def test_each_endpoint_gets_one_by_its_name(self):
        names: list[str] = []

        def storage(name: str) -> pybreaker.CircuitMemoryStorage:
            names.append(name)
            return pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)

        Breaker(CircuitBreaker(storage=storage), "greeter/10.0.0.1:80")

        assert names == ["greeter/10.0.0.1:80"]

    def test_a_function_that_makes_something_else_is_refused(self):
        with pytest.raises(ConfigError, match="^storage made"):
            make(CircuitBreaker(storage=lambda name: None))

    def test_without_one_syncing_does_nothing(self):
        breaker = opened()
        breaker.sync(99.0)

        assert breaker.state == "open"


@given(
    results=st.lists(st.sampled_from(["good", "bad", "wake"]), max_size=60),
    fail_max=st.integers(1, 4),
    threshold=st.integers(1, 3),
)
def test_one_call_at_a_time_it_goes_through_stock_pybreakers_states(results, fail_max, threshold):
    """In consecutive mode, the same sequence of results leads through the same states as stock pybreaker."""
    stock = pybreaker.CircuitBreaker(fail_max=fail_max, reset_timeout=1e6, success_threshold=threshold)
    config = CircuitBreaker(failure_rate=None, consecutive=fail_max, probes=threshold, open_for=1.0)
    ours, traffic, now = make(config), Traffic(), 0.0

    def fail() -> None:
        raise ConnectionError

    for result in results:
        if result == "wake":
            if stock.current_state == "open":
                stock.half_open()
            now += 1.0
            ours.wake(now)
        else:
            permit = ours.admit(now)
            assert (permit is None) == (stock.current_state == "open")
            traffic.succeeded += result == "good" and permit is not None
            if permit is not None:
                ours.settle(permit, result == "good", now, traffic, None if result == "good" else ConnectionError())
            try:
                stock.call(fail if result == "bad" else int)
            except (ConnectionError, pybreaker.CircuitBreakerError):
                pass
        assert ours.state == stock.current_state


class PermitLaws(RuleBasedStateMachine):
    """Whatever comes in whatever order: permits are bounded, and all of them are given back in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = make(CircuitBreaker(failure_rate=None, consecutive=2, probes=2, open_for=2.0))
        self.traffic, self.now, self.out = Traffic(), 0.0, []

    @rule()
    def admit(self):
        permit = self.breaker.admit(self.now)
        if permit is not None:
            self.out.append(permit)
        assert (permit is not None) or self.breaker.state != "closed"

    @precondition(lambda self: self.out)
    @rule(data=st.data(), good=st.sampled_from([True, False, None]))
    def settle(self, data, good):
        permit = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.traffic.succeeded += good is True
        self.breaker.settle(permit, good, self.now, self.traffic)

    @rule(good=st.sampled_from([True, False, None]))
    def success_path(self, good):
        self.traffic.succeeded += good is True
        self.breaker.settle(None, good, self.now, self.traffic)

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def permits_are_bounded(self):
        assert len(self.breaker._permits) <= 2
        assert self.breaker.state == "half-open" or not self.breaker._permits

    @invariant()
    def an_open_circuit_says_until_when(self):
        assert (self.breaker.half_opens_at is not None) == (self.breaker.state == "open")

    def teardown(self):
        for permit in self.out:
            self.breaker.settle(permit, None, self.now, self.traffic)
        assert not self.breaker._permits or self.breaker.admit(self.now + 10) is not None


TestPermitLaws = PermitLaws.TestCase


def test_threads_that_fail_together_open_it_once():
    changes: list[tuple[str, str]] = []
    breaker = make(on_change=lambda old, new: changes.append((old, new)))
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for _ in range(50):
            breaker.settle(None, False, 0.0, Traffic(), ConnectionError())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert changes == [("closed", "open")]
