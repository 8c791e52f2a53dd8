"""Laws of the breaker: stock pybreaker's states, permits that come back, threads that agree."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import Any

import pybreaker
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from svcmesh.policy.breaker import Breaker
from svcmesh.policy.circuit import CircuitBreaker


@dataclass
class Traffic:
    """Successes of a model endpoint, all of them recent."""

    succeeded: int = 0

    def succeeded_at(self, instant: float) -> int:
        return 0


THREE = CircuitBreaker(failure_rate=None, consecutive=3, probes=1)


def make(config: CircuitBreaker = THREE, **kwargs: Any) -> Breaker:
    return Breaker(config, "greeter", **kwargs)


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
            with contextlib.suppress(ConnectionError, pybreaker.CircuitBreakerError):
                stock.call(fail if result == "bad" else int)
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
TestPermitLaws.settings = settings(max_examples=60, stateful_step_count=40)


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
