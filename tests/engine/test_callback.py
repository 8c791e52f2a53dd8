"""The callback driver: ends, timers and cancellations from any thread, one after the other, each settled once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.callback import CallbackDriver
from svcmesh.engine.exchange import Attempt
from svcmesh.policy import Delay, Fault, Policy, Retry
from tests.engine.scripted import A, Exchange, Stage, lost, success, unsent

RETRY = Policy(timeout=10.0, retry=Retry(wait=lambda _: 1.0, budget=None))


class Starting(Exchange):
    """Its attempts are started, and end when the test says, or at once where the script holds something."""

    def __init__(self, *script: Any, **kwargs: Any) -> None:
        super().__init__(*script, **kwargs)
        self.open: dict[Attempt, Callable[[Outcome], None]] = {}
        self.cancelled: list[Attempt] = []

    def start(self, attempt: Attempt, ended: Callable[[Outcome], None]) -> Callable[[], object]:
        if self.script:
            ended(self.end(attempt))
        else:
            self.open[attempt] = ended
        return lambda: self.cancelled.append(attempt)

    def finish(self, outcome: Outcome) -> None:
        attempt, ended = self.open.popitem()
        self.attempts.append(attempt)
        ended(outcome)


class Played:
    """A driver on a stage whose timers are the clock's own."""

    def __init__(self, policy: Policy, exchange: Starting, endpoints: Any = None) -> None:
        self.stage = Stage(policy) if endpoints is None else Stage(policy, endpoints)
        self.stage.runtime.call_at = lambda when, do: self.stage.clock.at(when, do).cancel  # type: ignore[method-assign]
        self.exchange = exchange
        self.results: list[Outcome] = []
        self.driver = CallbackDriver(self.stage.call(exchange), exchange, self.results.append)


def test_ends_that_come_while_starting_are_taken_in_turn() -> None:
    played = Played(RETRY, Starting(unsent(), unsent(), success(5)))

    played.driver.go()

    assert [outcome.value for outcome in played.results] == [5]
    assert played.stage.in_flight == {}


def test_a_retry_waits_on_a_timer_and_not_on_a_thread() -> None:
    played = Played(RETRY, Starting(lost()))
    played.driver.go()
    assert played.exchange.open == {}

    played.stage.clock.advance(1.0)
    played.exchange.finish(success(5))

    assert played.results[0].value == 5


def test_cancelling_settles_and_cancels_what_is_open_and_tells_nobody() -> None:
    played = Played(RETRY, Starting())
    played.driver.go()
    (attempt,) = played.exchange.open

    played.driver.cancel()
    played.driver.cancel()
    played.exchange.finish(success())

    assert played.exchange.cancelled == [attempt]
    assert played.results == []
    assert played.stage.in_flight == {}


def test_cancelling_in_a_wait_releases_the_answer_that_was_held() -> None:
    answer = Outcome(Kind.STATUS, value="503", reason="503", blames=True)
    played = Played(RETRY, Starting(answer))
    played.driver.go()

    played.driver.cancel()
    played.stage.clock.advance(10.0)

    assert played.exchange.discarded == [answer]
    assert played.results == []


def test_an_adopted_attempt_is_reported_like_one_of_its_own() -> None:
    played = Played(RETRY, Starting())
    call = played.driver._call
    member = played.stage.view.enter(0.0)
    assert member is not None
    attempt = call.adopt(member, 0.0)
    played.driver.adopt(attempt, lambda: None)

    played.driver.ended(attempt, unsent())
    played.exchange.finish(success(1))

    assert played.results[0].value == 1
    assert played.stage.in_flight == {}


def test_a_start_that_raises_is_the_end_of_its_attempt() -> None:
    played = Played(RETRY, Starting())
    played.exchange.start = lambda *_: (_ for _ in ()).throw(ValueError("no channel"))  # type: ignore[method-assign]

    played.driver.go()

    assert isinstance(played.results[0].error, ValueError)
    assert played.stage.in_flight == {}


def test_code_of_users_that_raises_ends_the_call_with_what_it_raised() -> None:
    """A match of a fault is the caller's own; nobody above the driver would hear of its error."""
    fault = Fault(delay=Delay(1.0), scope="attempt", match=lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    played = Played(Policy(faults=[fault]), Starting())

    played.driver.go()

    assert isinstance(played.results[0].error, ZeroDivisionError)
    assert played.stage.in_flight == {}


def test_a_done_that_raises_does_not_stop_the_driver_for_ever() -> None:
    played = Played(RETRY, Starting(success()))
    played.driver._done = lambda _: 1 / 0  # type: ignore[assignment]

    with pytest.raises(ZeroDivisionError):
        played.driver.go()

    assert not played.driver._busy
    assert played.stage.in_flight == {}


def test_endpoints_that_come_wake_it() -> None:
    played = Played(RETRY, Starting(success(1)), ())
    played.stage.cluster.ready = False
    played.driver.go()
    assert played.results == []

    played.stage.set(A)

    assert played.results[0].value == 1
    assert played.stage.cluster._waiters == set()


@given(st.lists(st.sampled_from(["end", "fail", "tick", "cancel", "go"]), max_size=12), st.booleans())
def test_every_order_of_events_settles_each_attempt_once(events: list[str], results: bool) -> None:
    retry = Retry(retry=tenacity.retry_if_result(bool), budget=None) if results else Retry(budget=None)
    played = Played(Policy(timeout=5.0, retry=retry), Starting(idempotent=True))
    played.driver.go()
    for event in events:
        if event == "tick":
            played.stage.clock.advance(0.3)
        elif event == "cancel":
            played.driver.cancel()
        elif event == "go":
            played.driver.go()
        elif played.exchange.open:
            played.exchange.finish(success(1) if event == "end" else lost())
    while played.exchange.open or played.stage.clock.next_at() is not None:
        if played.exchange.open:
            played.exchange.finish(success())
        else:
            played.stage.clock.advance(0.5)
    assert len(played.results) <= 1
    assert "cancel" in events or len(played.results) == 1
    assert played.stage.in_flight == {}


def test_ends_from_many_threads_are_taken_one_at_a_time() -> None:
    """The machine is not thread-safe: two at once would remove an attempt twice."""
    for _ in range(50):
        played = Played(RETRY, Starting())
        played.driver.go()
        ((attempt, ended),) = played.exchange.open.items()
        outcomes = [success(n) for n in range(8)]
        threads = [threading.Thread(target=ended, args=(outcome,)) for outcome in outcomes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(played.results) == 1
        assert attempt.member.in_flight == 0
