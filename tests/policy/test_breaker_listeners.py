"""A breaker's listeners and storages: told in order, outside every lock, and unable to break it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pybreaker
import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.policy.breaker import Breaker
from svcmesh.policy.circuit import CircuitBreaker


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
                go_on.wait(30)

        breaker = make(CircuitBreaker(failure_rate=None, consecutive=5, listeners=[Slowly()]))
        thread = threading.Thread(target=breaker.settle, args=(None, False, 0.0, Traffic()))
        thread.start()
        assert inside.wait(30)
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

    def test_it_is_not_read_while_it_is_written(self):
        """What it would say then may be older than what is known here."""

        class Nosy(pybreaker.CircuitMemoryStorage):
            reads = 0

            @property
            def state(self):
                Nosy.reads += 1
                return "closed"

            @state.setter
            def state(self, state):
                breaker.sync(0.0)

        breaker = make(CircuitBreaker(failure_rate=None, consecutive=2, storage=lambda name: Nosy("closed")))
        self.fail_twice(breaker)

        assert breaker.state == "open"
        assert Nosy.reads == 0

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

    def test_each_endpoint_gets_one_by_its_name_when_it_is_first_needed(self):
        """Making one may block, as reading it may: pybreaker's for Redis asks Redis at once."""
        names: list[str] = []

        def storage(name: str) -> pybreaker.CircuitMemoryStorage:
            names.append(name)
            return pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)

        breaker = Breaker(CircuitBreaker(storage=storage), "greeter/10.0.0.1:80")
        assert names == []
        breaker.sync(0.0)
        breaker.sync(1.0)

        assert names == ["greeter/10.0.0.1:80"]

    def test_one_that_cannot_be_made_is_tried_again_and_does_not_close_what_opened_here(self):
        answers: list[Any] = [OSError("no route to storage"), None, pybreaker.CircuitMemoryStorage("closed")]

        def storage(name: str) -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        reported: list[Exception] = []
        deferred: list[Any] = []
        config = CircuitBreaker(failure_rate=None, consecutive=1, storage=storage)
        breaker = make(config, on_listener_error=reported.append, defer=deferred.append)
        breaker.sync(0.0)
        breaker.sync(1.0)
        self.fail_twice(breaker)

        assert breaker.state == "open"
        assert [type(error) for error in reported] == [OSError, ConfigError]
        assert str(reported[1]).startswith("storage made None for")
        breaker._stored._deeds.clear()  # what was to be written has been lost
        breaker.sync(2.0)
        assert breaker.state == "open"

    def test_without_one_syncing_does_nothing(self):
        breaker = opened()
        breaker.sync(99.0)

        assert breaker.state == "open"


def test_a_listener_reads_the_failures_that_a_stock_breaker_counts() -> None:
    """The state is that of now: listeners are told when no lock is held, and the last failure has opened it by then."""

    class Reader(pybreaker.CircuitBreakerListener):
        def __init__(self) -> None:
            self.counters: list[int] = []
            self.states: list[str] = []

        def failure(self, cb: pybreaker.CircuitBreaker, exc: BaseException) -> None:
            self.counters.append(cb.fail_counter)
            self.states.append(cb.current_state)

    ours, stock = Reader(), Reader()
    breaker = Breaker(CircuitBreaker(consecutive=3, failure_rate=None, listeners=[ours]), "breaker")
    circuit = pybreaker.CircuitBreaker(fail_max=3, listeners=[stock], throw_new_error_on_trip=False)
    for now in range(3):
        breaker.settle(breaker.admit(now), False, now, Traffic(), ConnectionError())
        with pytest.raises(ZeroDivisionError):
            circuit.call(lambda: 1 / 0)

    assert ours.counters == stock.counters == [1, 2, 3]
    assert ours.states == ["closed", "closed", "open"]
