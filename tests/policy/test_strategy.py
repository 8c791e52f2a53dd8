"""tenacity's strategies: all built-in ones accept our state, and wrong kinds are told from right ones."""

from __future__ import annotations

import functools
import threading

import pytest
import tenacity
from tenacity import asyncio as tenacity_asyncio

from svcmesh.core.errors import ConfigError
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.policy import Retry, strategy
from svcmesh.policy.strategy import Ended, State

FAILED = Ended(Outcome(Kind.ERROR, ConnectionError("gone")), 2)
ANSWERED = Ended(Outcome(Kind.SUCCESS, value="ok"), 2)


def state(outcome: Ended = FAILED, **fields: object) -> State:
    return State(
        **{
            "retry_object": None,
            "outcome": outcome,
            "attempt_number": 2,
            "start_time": 100.0,
            "outcome_timestamp": 103.0,
            "upcoming_sleep": 0.5,
            **fields,
        }
    )


STOPS = [
    (tenacity.stop_never, False),
    (tenacity.stop_after_attempt(2), True),
    (tenacity.stop_after_attempt(3), False),
    (tenacity.stop_after_delay(3), True),
    (tenacity.stop_after_delay(3.1), False),
    (tenacity.stop_before_delay(3.5), True),
    (tenacity.stop_before_delay(3.6), False),
    (tenacity.stop_when_event_set(threading.Event()), False),
    (tenacity.stop_after_attempt(9) | tenacity.stop_after_delay(3), True),
    (tenacity.stop_after_attempt(2) & tenacity.stop_after_delay(9), False),
    (tenacity.stop_any(tenacity.stop_never), False),
    (tenacity.stop_all(tenacity.stop_after_attempt(1)), True),
]


@pytest.mark.parametrize(("stop", "expected"), STOPS)
def test_every_stop_strategy_reads_our_state(stop, expected):
    strategy.check("stop", stop)

    assert strategy.ask(stop, state()) is expected


WAITS = [
    (tenacity.wait_none(), 0, 0),
    (tenacity.wait_fixed(2), 2, 2),
    (tenacity.wait_random(1, 2), 1, 2),
    (tenacity.wait_incrementing(1, 10), 11, 11),
    (tenacity.wait_exponential(multiplier=1), 2, 2),
    (tenacity.wait_random_exponential(multiplier=1), 0, 2),
    (tenacity.wait_full_jitter(multiplier=1), 0, 2),
    (tenacity.wait_exponential_jitter(initial=1, jitter=1), 2, 3),
    (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(7)), 7, 7),
    (tenacity.wait_combine(tenacity.wait_fixed(1), tenacity.wait_fixed(2)), 3, 3),
    (tenacity.wait_fixed(1) + tenacity.wait_random(0, 1), 1, 2),
    *(
        (newer(lambda error: 4 if isinstance(error, ConnectionError) else 0), 4, 4)
        for newer in [getattr(tenacity, "wait_exception", None)]  # 8.4 has none yet
        if newer is not None
    ),
]


@pytest.mark.parametrize(("wait", "low", "high"), WAITS)
def test_every_wait_strategy_reads_our_state(wait, low, high):
    strategy.check("wait", wait)

    assert low <= strategy.ask(wait, state()) <= high


CHAINED = OSError("outer")
CHAINED.__cause__ = ConnectionError("inner")

RETRIES = [  # strategy, after an exception, after a result, wants results
    (tenacity.retry_never, False, False, False),
    (tenacity.retry_always, True, True, True),
    (tenacity.retry_if_exception(lambda error: "gone" in str(error)), True, False, False),
    (tenacity.retry_if_exception_type(ConnectionError), True, False, False),
    (tenacity.retry_if_exception_type(ValueError), False, False, False),
    (tenacity.retry_if_not_exception_type(ValueError), True, False, False),
    (tenacity.retry_unless_exception_type(ConnectionError), False, True, True),
    (tenacity.retry_if_exception_cause_type(ConnectionError), False, False, False),
    (tenacity.retry_if_result(lambda value: value == "ok"), False, True, True),
    (tenacity.retry_if_not_result(lambda value: value == "ok"), False, False, True),
    (tenacity.retry_if_exception_message(match="go"), True, False, False),
    (tenacity.retry_if_not_exception_message(message="gone"), False, True, True),
    (tenacity.retry_any(tenacity.retry_never, tenacity.retry_if_exception_type()), True, False, False),
    (tenacity.retry_any(tenacity.retry_never, tenacity.retry_if_result(bool)), False, True, True),
    (tenacity.retry_all(tenacity.retry_always, tenacity.retry_if_exception_type()), True, False, False),
    (tenacity.retry_all(tenacity.retry_always, tenacity.retry_if_result(bool)), False, True, True),
    (tenacity.retry_if_exception_type(ValueError) | tenacity.retry_if_result(bool), False, True, True),
    (tenacity.retry_if_exception_type(OSError) & tenacity.retry_if_exception_message("gone"), True, False, False),
    (lambda state: state.outcome.failed, True, False, True),
]


@pytest.mark.parametrize(("retry", "on_error", "on_result", "_"), RETRIES)
def test_every_retry_strategy_reads_our_state(retry, on_error, on_result, _):
    strategy.check("retry", retry)

    assert bool(strategy.ask(retry, state(FAILED))) is on_error
    assert bool(strategy.ask(retry, state(ANSWERED))) is on_result


@pytest.mark.parametrize(("retry", "_", "on_result", "wants"), RETRIES)
def test_a_strategy_that_is_not_asked_about_results_never_wants_one_repeated(retry, _, on_result, wants):
    assert strategy.wants_results(retry) is wants
    assert wants or not on_result


def test_a_subclass_that_answers_for_itself_is_asked_about_results():
    class Picky(tenacity.retry_if_exception_type):
        def __call__(self, retry_state):
            return not retry_state.outcome.failed

    assert strategy.wants_results(Picky())


def test_a_cause_is_found_through_our_state():
    retry = tenacity.retry_if_exception_cause_type(ConnectionError)

    assert strategy.ask(retry, state(Ended(Outcome(Kind.ERROR, CHAINED), 1)))


def test_the_state_has_what_tenacitys_own_has():
    """Nothing that a user's strategy reads of tenacity's state may be missing from ours."""
    real = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    public = {name for name in dir(real) if not name.startswith("_")}
    public -= {"prepare_for_next_attempt", "set_result", "set_exception"}  # for its engine

    assert public <= set(dir(state()))


def test_the_state_tells_the_function_by_name():
    def charge():
        pass

    assert state(fn=charge).get_fn_name().endswith("charge")
    assert state().get_fn_name() == "<unknown>"


def test_an_ended_attempt_reads_like_a_finished_future():
    assert (FAILED.failed, FAILED.done(), FAILED.attempt_number) == (True, True, 2)
    assert str(FAILED.exception()) == "gone"
    assert (ANSWERED.failed, ANSWERED.exception(), ANSWERED.result()) == (False, None, "ok")
    with pytest.raises(ConnectionError, match="gone"):
        FAILED.result()


async def later(state):
    return True


class AsyncCallable:
    async def __call__(self, state):
        return True


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        ("stop", tenacity.wait_fixed(1), "pass it as wait="),
        ("stop", tenacity.retry_always, "pass it as retry="),
        ("wait", tenacity.stop_after_attempt(3), "pass it as stop="),
        ("retry", tenacity.stop_never, "pass it as stop="),
        ("stop", tenacity.stop_after_attempt, "make an instance"),
        ("retry", ConnectionError, "make an instance"),
        ("wait", 1.5, "not 1.5"),
        ("stop", "never", "not 'never'"),
        ("retry", lambda: True, "cannot be called with one argument"),
        ("retry", lambda one, two: True, "cannot be called with one argument"),
        ("retry", later, "asynchronous"),
        ("retry", AsyncCallable(), "asynchronous"),
        ("retry", functools.partial(later), "asynchronous"),
        ("retry", tenacity_asyncio.retry_if_exception(later), "asynchronous"),
        ("retry", tenacity.retry_any(tenacity.retry_never, later), "asynchronous"),
    ],
)
def test_a_strategy_of_the_wrong_kind_is_refused(kind, wrong, said):
    with pytest.raises(ConfigError, match=f"^{kind} must.*{said}"):
        strategy.check(kind, wrong)


def test_plain_functions_and_builtins_that_hide_their_signature_are_taken():
    strategy.check("stop", lambda state: True)
    strategy.check("wait", functools.partial(lambda seconds, state: seconds, 3))
    strategy.check("retry", max)


def test_combined_strategies_come_apart():
    one, two, three = tenacity.wait_fixed(1), tenacity.wait_fixed(2), tenacity.wait_fixed(3)

    assert list(strategy.leaves(tenacity.wait_chain(one, two + three))) == [one, two, three]


@pytest.mark.parametrize("kind", ["stop", "wait", "retry"])
def test_tenacitys_engine_is_no_strategy(kind: str) -> None:
    """It takes one argument as well, but would start to retry by itself, for ever."""
    with pytest.raises(ConfigError, match=f"{kind} must be.*not the engine"):
        Retry(**{kind: tenacity.Retrying()})


@pytest.mark.parametrize("kind", ["stop", "wait", "retry"])
@pytest.mark.parametrize("decorator", [tenacity.retry(stop=tenacity.stop_after_attempt(3)), tenacity.retry])
def test_tenacitys_decorator_is_no_strategy(kind: str, decorator: object) -> None:
    """It takes one argument, a function, and what it makes of that is always true."""
    with pytest.raises(ConfigError, match=f"{kind} must be.*not the decorator.*pass what it was made of"):
        Retry(**{kind: decorator})
