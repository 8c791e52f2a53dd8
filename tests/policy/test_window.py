"""Failures in a row, and rates of a window, against a model that remembers every single end."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from svcmesh.policy.circuit import CircuitBreaker, Slow
from svcmesh.policy.window import Window


@dataclass
class Traffic:
    """Successes, each with its instant: the exact thing that a timeline approximates."""

    instants: list[float] = field(default_factory=list)

    @property
    def succeeded(self) -> int:
        return len(self.instants)

    def succeeded_at(self, instant: float) -> int:
        return sum(1 for when in self.instants if when <= instant)


def fail(window: Window, traffic: Traffic, now: float) -> bool:
    return window.count(window.look(now, traffic), failed=True, slow=False)


def test_a_run_counts_failures_with_no_success_between():
    window, traffic = Window(CircuitBreaker(failure_rate=None, consecutive=3)), Traffic()

    assert [fail(window, traffic, 0), fail(window, traffic, 1)] == [False, False]
    traffic.instants.append(1.5)
    assert [fail(window, traffic, 2), fail(window, traffic, 3), fail(window, traffic, 4)] == [False, False, True]


def test_successes_that_left_with_their_endpoint_break_no_run():
    """A total that shrinks is no success: only growth is."""
    window, traffic = Window(CircuitBreaker(failure_rate=None, consecutive=2)), Traffic([0.0] * 10)
    fail(window, traffic, 1)
    traffic.instants.clear()

    assert fail(window, traffic, 2)


def test_a_total_that_catches_up_breaks_no_run():
    """Of calls that fail together, some are missing from the total while the first of them is judged."""
    window, traffic, opened = Window(CircuitBreaker(failure_rate=None, consecutive=6)), Traffic([0.0] * 9), []
    for missing in (1, 2, 3, 1, 2, 3):
        short = Traffic(traffic.instants[missing:])
        opened.append(fail(window, short, 1))

    assert opened == [False] * 5 + [True]


def test_a_rate_needs_its_minimum_of_calls():
    window, traffic = Window(CircuitBreaker(failure_rate=0.5, minimum_calls=4)), Traffic([0.5])

    assert [fail(window, traffic, 1), fail(window, traffic, 2), fail(window, traffic, 3)] == [False, False, True]


def test_a_rate_below_the_limit_does_not_open():
    window, traffic = Window(CircuitBreaker(failure_rate=0.5, minimum_calls=4)), Traffic([0.5] * 4)

    assert [fail(window, traffic, n) for n in (1, 2, 3, 4)] == [False, False, False, True]


def test_slow_calls_have_a_rate_of_their_own():
    window = Window(CircuitBreaker(failure_rate=None, minimum_calls=3, slow=Slow(seconds=1, rate=1)))
    traffic = Traffic()
    opened = []
    for now in (1.0, 2.0, 3.0):
        traffic.instants.append(now)
        opened.append(window.count(window.look(now, traffic), failed=False, slow=True))

    assert opened == [False, False, True]


def test_what_was_before_a_restart_no_longer_counts():
    window, traffic = Window(CircuitBreaker(failure_rate=0.5, minimum_calls=2)), Traffic()
    fail(window, traffic, 1)
    window.restart(2)

    assert [fail(window, traffic, 3), fail(window, traffic, 4)] == [False, True]


@given(ends=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=80))
def test_the_rate_is_that_of_a_model_which_remembers_everything(ends):
    """On whole ticks nothing is lost by sampling: same verdict as counting every end of the window."""
    config = CircuitBreaker(failure_rate=0.5, minimum_calls=5, window=10.0)
    window, traffic, now, failures = Window(config), Traffic(), 0.0, []
    for pause, good in ends:
        now += pause
        if good:
            traffic.instants.append(now)
            continue
        verdict = fail(window, traffic, now)
        failures.append(now)
        # Failures at the very edge fall out with their tick, successes with their instant.
        bad = sum(1 for when in failures if when >= now - 10.0)
        calls = bad + traffic.succeeded - traffic.succeeded_at(now - 10.0)
        assert verdict == (calls >= 5 and bad >= 0.5 * calls)


class TestSlow:
    """Slow calls go by the same window as failures."""

    def slow(self, window: Window, traffic: Traffic, now: float, fast: int = 0) -> bool:
        """Let some calls succeed at ``now``, the last one slowly; return whether that was too much."""
        traffic.instants.extend([now] * (fast + 1))
        return window.count(window.look(now, traffic), failed=False, slow=True)

    def config(self, rate: float) -> CircuitBreaker:
        return CircuitBreaker(failure_rate=None, minimum_calls=4, window=10, slow=Slow(seconds=1, rate=rate))

    def test_each_counts_once_and_fast_ones_count_against_them(self):
        window, traffic = Window(self.config(0.75)), Traffic()

        assert [self.slow(window, traffic, now, fast) for now, fast in ((1, 2), (2, 0), (3, 0))] == [False] * 3
        assert [self.slow(window, traffic, 4) for _ in range(3)] == [False, False, True]

    def test_those_before_the_window_do_not_count(self):
        for restarted in (False, True):
            window, traffic = Window(self.config(0.5)), Traffic()
            if restarted:
                window.restart(0)
            for now in (1.0, 2.0, 3.0):
                self.slow(window, traffic, now)

            assert not self.slow(window, traffic, 30.0, fast=3)


def test_failures_before_the_window_do_not_count_after_a_restart_either():
    window, traffic = Window(CircuitBreaker(failure_rate=0.5, minimum_calls=3)), Traffic()
    window.restart(2)

    assert [fail(window, traffic, now) for now in (3, 4, 60)] == [False] * 3


def test_what_is_shown_is_the_run_or_the_failures_of_the_window():
    in_a_row, by_rate = Window(CircuitBreaker(failure_rate=None, consecutive=9)), Window(CircuitBreaker())
    traffic, shown = Traffic(), []
    for now in (0, 1, 2):
        fail(in_a_row, traffic, now)
        fail(by_rate, traffic, now)
        shown.append((in_a_row.shown, by_rate.shown))
        traffic.instants.extend([now] * (now == 1))  # a success before the third failure

    assert shown == [(1, 1), (2, 2), (1, 3)]
