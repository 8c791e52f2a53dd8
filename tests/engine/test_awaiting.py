"""The awaiting driver: the same effects in the caller's task, which may be cancelled at every await."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.clock import sleep_until
from svcmesh.core.errors import DeadlineExceeded
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine import awaiting
from svcmesh.engine.exchange import Attempt
from svcmesh.policy import CircuitBreaker, Delay, Fault, Policy, Retry
from svcmesh.testing.sim import run
from tests.engine.scripted import A, Awaiting, Stage, lost, success

RETRY = Policy(timeout=10.0, per_try_timeout=2.0, retry=Retry(wait=lambda _: 1.0, budget=None))


def played(stage: Stage, main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in the stage's virtual time."""
    return run(main, kernel=stage.clock)


def waiting(stage: Stage, seconds: float) -> Any:
    """What an exchange awaits that takes so long."""
    return lambda _: sleep_until(stage.clock, stage.clock.now() + seconds)


def test_a_value_is_returned_and_an_error_raised() -> None:
    stage = Stage(RETRY)

    assert played(stage, awaiting.run(stage.call(exchange := Awaiting(lost(), success(7))), exchange)) == 7
    with pytest.raises(ConnectionResetError):
        played(stage, awaiting.run(stage.call(exchange := Awaiting(*(lost() for _ in range(3)))), exchange))
    assert stage.in_flight == {}


def test_an_attempt_is_cut_off_at_its_limit_and_the_call_at_its_deadline() -> None:
    """Three attempts of two seconds with waits of one in between: the last real end is a per-try timeout."""
    stage = Stage(RETRY).listen("attempt.finished")
    exchange = Awaiting()
    exchange.before = waiting(stage, 60.0)

    with pytest.raises(DeadlineExceeded, match="attempt 3 .* within 2 s"):
        played(stage, awaiting.run(stage.call(exchange), exchange))

    assert stage.clock.now() == 8.0
    assert [event.outcome for event in stage.events] == ["timeout"] * 3
    assert stage.in_flight == {}


def test_a_library_that_turns_our_cancellation_into_an_error_of_its_own_is_understood() -> None:
    stage = Stage(Policy(timeout=1.0))
    exchange = Awaiting()

    async def stubborn(attempt: Attempt) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise OSError("cancelled inside") from None

    exchange.before = stubborn
    with pytest.raises(DeadlineExceeded):
        played(stage, awaiting.run(stage.call(exchange, 1.0), exchange))


@given(st.integers(0, 90), st.booleans())
def test_a_cancellation_at_any_moment_gives_everything_back(tick: int, deferred: bool) -> None:
    """Before an attempt, in it, in an injected delay, in the wait for another, in the release of an answer."""
    breaker = CircuitBreaker(consecutive=1, failure_rate=None, open_for=0.1, probes=1)
    policy = RETRY.replace(faults=[Fault(delay=Delay(0.5), scope="attempt")], circuit_breaker=breaker)
    stage = Stage(policy)

    def answer(attempt: Attempt) -> Outcome:
        return Outcome(Kind.STATUS, value=attempt.member, reason="503", blames=True)

    exchange = Awaiting(answer, answer, lambda a: success(a.member), deferred=deferred)
    exchange.before = waiting(stage, 1.0)
    real = exchange.discard

    async def slowly(outcome: Outcome) -> None:
        await real(outcome)
        await sleep_until(stage.clock, stage.clock.now() + 0.3)

    exchange.discard = slowly  # type: ignore[method-assign]

    async def main() -> None:
        task = asyncio.ensure_future(awaiting.run(stage.call(exchange), exchange))
        await sleep_until(stage.clock, tick / 10)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(result, BaseException):
            exchange.release(success(result))
        else:
            assert isinstance(result, asyncio.CancelledError)
            assert tick < 75

    played(stage, main())
    assert stage.in_flight == {}
    assert all(not b._permits for m in stage.cluster.members.values() for b in m.breakers.values())


def test_a_cancellation_by_somebody_else_at_the_very_limit_is_not_a_timeout() -> None:
    stage = Stage(Policy(timeout=1.0))
    exchange = Awaiting()
    exchange.before = waiting(stage, 60.0)

    async def main() -> None:
        task = asyncio.ensure_future(awaiting.run(stage.call(exchange), exchange))
        await sleep_until(stage.clock, 1.0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        played(stage, main())
    assert stage.in_flight == {}


def test_a_timeout_around_the_call_stays_its_callers() -> None:
    stage = Stage(RETRY)
    exchange = Awaiting()
    exchange.before = waiting(stage, 60.0)

    async def main() -> None:
        async with asyncio.timeout(0.5):
            await awaiting.run(stage.call(exchange), exchange)

    with pytest.raises(TimeoutError) as caught:
        played(stage, main())
    assert not isinstance(caught.value, DeadlineExceeded)
    assert stage.in_flight == {}


def test_a_coroutine_that_is_closed_gives_everything_back() -> None:
    """Nothing can be awaited then, and the reaper must not cancel the task later."""
    stage = Stage(RETRY)

    async def main() -> None:
        exchange = Awaiting()
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def before(attempt: Attempt) -> None:
            await never

        exchange.before = before
        call = awaiting.run(stage.call(exchange), exchange)
        call.send(None)
        call.close()
        await sleep_until(stage.clock, 5.0)
        assert stage.runtime.reapers.of(asyncio.get_running_loop()).open == {}

    played(stage, main())
    assert stage.in_flight == {}


def test_a_wait_for_endpoints_ends_when_they_come() -> None:
    stage = Stage(RETRY, ())
    stage.cluster.ready = False
    stage.clock.at(2.0, lambda: stage.set(A))

    assert played(stage, awaiting.run(stage.call(exchange := Awaiting(success(1))), exchange)) == 1
    assert stage.clock.now() == 2.0
    assert stage.cluster._waiters == set()


def test_admit_hands_out_an_attempt_or_raises() -> None:
    stage = Stage(RETRY)

    attempt = played(stage, awaiting.admit(stage.call()))

    assert stage.in_flight == {attempt.member.endpoint.address: 1}
    with pytest.raises(Exception, match="no endpoint"):
        played(empty := Stage(RETRY, ()), awaiting.admit(empty.call()))
    attempt.member.finished += 1


def test_going_on_after_the_success_path() -> None:
    """A late first attempt is a timeout, a failed one is read, a cancelled one ends the call."""
    for error, late, attempts in ((asyncio.CancelledError(), True, 2), (ValueError(), False, 1)):
        stage = Stage(RETRY).listen("attempt.finished")
        member = stage.cluster.members[A.address]
        member.started += 1
        stage.clock.advance(2.0)
        exchange = Awaiting(success("second"))
        going_on = awaiting.resume(stage.view, exchange, member, 0.0, 10.0, error, late=late)
        if late:
            assert played(stage, going_on) == "second"
        else:
            with pytest.raises(ValueError):
                played(stage, going_on)
        assert len(stage.events) == attempts
        assert stage.in_flight == {}
