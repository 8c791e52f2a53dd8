"""Retry decides in a fixed order, and money changes hands last."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.errors import ConfigError
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.policy.backoff import FullJitter
from svcmesh.policy.budget import Budget, RetryBudget
from svcmesh.policy.retry import Again, Ask, Retry, Stop

UNAVAILABLE = Outcome(Kind.STATUS, ConnectionError("down"), reason="UNAVAILABLE", blames=True)
REFUSED = Outcome(Kind.UNSENT, ConnectionRefusedError(), reason="connect-failure", blames=True)


class Draw:
    """Always draws the same number."""

    def __init__(self, number: float = 0.5) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


def ask(outcome: Outcome = UNAVAILABLE, **fields: Any) -> Ask:
    plain = {"attempts": 1, "untried": True, "safe": True, "sendable": True, "began": 0.0, "now": 1.0, "deadline": None}
    return Ask(outcome, **{**plain, **fields})


def budget(tokens: int = 100) -> Budget:
    return Budget(RetryBudget(ratio=0, per_second=tokens / 10), 0.0)


def decide(retry: Retry, question: Ask, paid_from: Budget | None = None, draw: float = 0.5) -> Again | Stop:
    return retry.decide(question, paid_from or budget(), Draw(draw))


def test_a_failure_that_is_safe_to_repeat_is_repeated_after_a_jittered_wait():
    assert decide(Retry(), ask()) == Again(0.0125)
    assert decide(Retry(max_attempts=9), ask(attempts=5), draw=0.8) == Again(0.2)


@pytest.mark.parametrize("kind", [Kind.CANCELLED, Kind.DEADLINE, Kind.REJECTED])
def test_what_nobody_but_the_caller_or_we_ended_is_never_repeated(kind):
    retry = Retry(retry=tenacity.retry_always)

    assert decide(retry, ask(Outcome(kind, TimeoutError(), reason="UNAVAILABLE"))) == Stop("not-retryable")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"outcome": Outcome(Kind.STATUS, reason="INTERNAL")}, "not-retryable"),
        ({"sendable": False, "safe": False}, "body"),
        ({"safe": False}, "not-idempotent"),
        ({"attempts": 3}, "attempts"),
        ({"outcome": dataclasses.replace(UNAVAILABLE, retry_after=-1)}, "pushback"),
        ({"deadline": 1.0125}, "deadline"),
        ({"deadline": 0.5}, "deadline"),
    ],
)
def test_each_question_can_stop_it_and_costs_no_token(fields, reason):
    paid_from = budget()

    assert decide(Retry(), ask(**fields), paid_from) == Stop(reason)
    assert paid_from.tokens(1.0) == 100


def test_the_questions_are_asked_in_order():
    """What is final and cheap comes first: each answer hides those below it."""
    hopeless: dict[str, Any] = {
        "outcome": Outcome(Kind.STATUS, reason="INTERNAL", retry_after=-1),
        "sendable": False,
        "safe": False,
        "attempts": 3,
        "deadline": 1.0,
    }
    cures = [
        ("not-retryable", {"outcome": dataclasses.replace(UNAVAILABLE, retry_after=-1)}),
        ("body", {"sendable": True}),
        ("not-idempotent", {"safe": True}),
        ("attempts", {"attempts": 2}),
        ("stop", {}),
        ("pushback", {"outcome": UNAVAILABLE}),
        ("deadline", {"deadline": 99.0}),
        ("budget", {}),
    ]
    retry, strict = Retry(max_attempts=3), Retry(max_attempts=3, stop=tenacity.stop_after_attempt(1))
    for reason, cure in cures:
        asked = strict if reason in {"not-retryable", "body", "not-idempotent", "attempts", "stop"} else retry
        assert decide(asked, ask(**hopeless), budget(0)) == Stop(reason)
        hopeless.update(cure)
    assert decide(retry, ask(**hopeless)) == Again(0.025)


def test_an_empty_budget_stops_it():
    paid_from = budget(1)

    assert isinstance(decide(Retry(), ask(), paid_from), Again)
    assert decide(Retry(), ask(), paid_from) == Stop("budget")


def test_no_budget_is_no_limit():
    assert isinstance(decide(Retry(budget=None), ask(), budget(0)), Again)
    assert isinstance(Retry().decide(ask(), None, Draw()), Again)


class TestUnsent:
    """A request that was surely not sent harms nobody elsewhere."""

    def test_it_goes_elsewhere_at_once_whatever_the_rest_says(self):
        never = Retry(max_attempts=1, retry=tenacity.retry_never, stop=tenacity.stop_after_attempt(1))
        paid_from = budget(0)

        assert decide(never, ask(REFUSED, safe=False, attempts=7), paid_from) == Again(0.0)

    def test_not_past_the_deadline(self):
        assert decide(Retry(), ask(REFUSED, deadline=1.0)) == Stop("deadline")

    def test_not_when_the_body_is_gone(self):
        assert decide(Retry(), ask(REFUSED, safe=False, sendable=False)) == Stop("body")

    def test_when_all_were_tried_the_usual_rules_hold_but_it_counts_as_safe(self):
        paid_from = budget(1)
        everywhere = ask(REFUSED, untried=False, safe=False)

        assert decide(Retry(), everywhere, paid_from) == Again(0.0125)
        assert decide(Retry(), everywhere, paid_from) == Stop("budget")
        assert decide(Retry(), ask(REFUSED, untried=False, safe=False, attempts=3)) == Stop("attempts")
        assert decide(Retry(on=[503]), everywhere) == Stop("not-retryable")


class TestServersWish:
    def test_it_is_a_floor(self):
        asked = ask(dataclasses.replace(UNAVAILABLE, retry_after=2.0))

        assert decide(Retry(), asked) == Again(2.0)
        assert decide(Retry(wait=tenacity.wait_fixed(5)), asked) == Again(5.0)

    def test_one_that_reaches_the_deadline_ends_the_call_now(self):
        """The real error at once is worth more than the same error later."""
        asked = ask(dataclasses.replace(UNAVAILABLE, retry_after=2.0), deadline=3.0)

        assert decide(Retry(), asked) == Stop("deadline")


class TestOn:
    def test_a_function_is_asked(self):
        retry = Retry(on=lambda outcome: outcome.reason == "INTERNAL")

        assert isinstance(decide(retry, ask(Outcome(Kind.STATUS, reason="INTERNAL"))), Again)
        assert decide(retry, ask()) == Stop("not-retryable")

    def test_an_exception_class_covers_plain_functions(self):
        outcome = Outcome(Kind.ERROR, ConnectionResetError(), reason="ConnectionResetError")

        assert isinstance(decide(Retry(on=(OSError,)), ask(outcome)), Again)

    def test_a_success_is_not_repeated(self):
        assert not Retry(on=lambda outcome: True).matches(Outcome(Kind.SUCCESS, value=1))

    def test_the_order_of_a_collection_makes_no_difference(self):
        assert Retry(on=[503, "reset"]) == Retry(on=("reset", 503))
        assert hash(Retry(on=[503, "reset"])) == hash(Retry(on={"reset", 503}))


class TestTenacity:
    def test_retry_replaces_on(self):
        retry = Retry(retry=tenacity.retry_if_exception_type(ValueError))

        assert isinstance(decide(retry, ask(Outcome(Kind.ERROR, ValueError()))), Again)
        assert decide(retry, ask()) == Stop("not-retryable")

    def test_results_are_looked_at_when_the_strategy_wants_them(self):
        retry = Retry(retry=tenacity.retry_if_result(lambda value: value is None))

        assert retry.wants_results
        assert isinstance(decide(retry, ask(Outcome(Kind.SUCCESS))), Again)
        assert decide(retry, ask(Outcome(Kind.SUCCESS, value=1))) == Stop("not-retryable")
        assert not Retry(retry=tenacity.retry_if_exception_type(OSError)).wants_results
        assert not Retry().wants_results

    def test_a_result_is_not_asked_for_again_when_that_is_not_safe(self):
        retry = Retry(retry=tenacity.retry_if_result(lambda value: value is None))

        assert decide(retry, ask(Outcome(Kind.SUCCESS), safe=False)) == Stop("not-idempotent")

    def test_try_again_is_a_wish_that_only_safety_overrules(self):
        wish = Outcome(Kind.ERROR, tenacity.TryAgain())

        assert isinstance(decide(Retry(), ask(wish)), Again)
        assert isinstance(decide(Retry(retry=tenacity.retry_never), ask(wish)), Again)
        assert decide(Retry(), ask(wish, safe=False)) == Stop("not-idempotent")

    def test_stop_alone_decides_when_no_number_was_given(self):
        retry = Retry(stop=tenacity.stop_after_attempt(5))

        assert isinstance(decide(retry, ask(attempts=4)), Again)
        assert decide(retry, ask(attempts=5)) == Stop("stop")

    def test_stop_and_a_number_that_was_given_both_hold(self):
        retry = Retry(max_attempts=3, stop=tenacity.stop_after_attempt(5))

        assert decide(retry, ask(attempts=3)) == Stop("attempts")

    def test_stop_still_decides_alone_in_a_copy(self):
        retry = dataclasses.replace(Retry(), stop=tenacity.stop_after_attempt(5))

        assert isinstance(decide(retry, ask(attempts=4)), Again)

    def test_the_wait_is_known_before_stop_is_asked(self):
        retry = Retry(wait=tenacity.wait_fixed(2), stop=tenacity.stop_before_delay(4))

        assert decide(retry, ask(now=1.0)) == Again(2.0)
        assert decide(retry, ask(now=2.5)) == Stop("stop")

    def test_time_is_the_meshs(self):
        retry = Retry(stop=tenacity.stop_after_delay(10), wait=tenacity.wait_none())

        assert decide(retry, ask(began=1000.0, now=1009.0)) == Again(0.0)
        assert decide(retry, ask(began=1000.0, now=1010.0)) == Stop("stop")

    @pytest.mark.parametrize("wait", [-3, float("nan"), float("-inf")])
    def test_a_wait_that_is_no_time_is_none(self, wait):
        assert decide(Retry(wait=lambda state: wait), ask()) == Again(0.0)

    def test_strategies_see_the_call(self):
        seen = []

        def look(state):
            seen.append((state.fn, state.args, state.kwargs, state.idle_for, state.retry_object))
            return False

        retry = Retry(retry=look)
        decide(retry, ask(fn=len, args=("x",), kwargs={"y": 1}, waited=0.7))

        assert seen == [(len, ("x",), {"y": 1}, 0.7, retry)]

    def test_a_strategy_that_raises_stops_and_hides_nothing(self):
        """The caller gets the call's error; which kind of error the strategy raised is told in the reason."""

        def broken(state):
            raise KeyError("a secret")

        for retry in (Retry(retry=broken), Retry(stop=broken), Retry(wait=broken), Retry(on=broken)):
            assert decide(retry, ask()) == Stop("strategy: KeyError")

    def test_a_wait_of_our_own_is_drawn_from_the_meshs_chance(self):
        assert decide(Retry(wait=FullJitter(base=1, cap=1)), ask(), draw=0.25) == Again(0.25)


@given(
    outcome=st.builds(
        Outcome,
        st.sampled_from(Kind),
        st.sampled_from([None, OSError()]),
        reason=st.sampled_from(["", "503", "UNAVAILABLE", "connect-failure"]),
        retry_after=st.sampled_from([None, -1.0, 0.0, 3.0]),
    ),
    attempts=st.integers(1, 5),
    untried=st.booleans(),
    idempotent=st.booleans(),
    sendable=st.booleans(),
    left=st.one_of(st.none(), st.floats(-1, 5)),
    seed=st.integers(0, 9),
)
def test_no_decision_breaks_the_promises(outcome, attempts, untried, idempotent, sendable, left, seed):
    """Whatever the question: nothing unsafe is repeated, no deadline is crossed, no number of attempts exceeded."""
    paid_from, before = budget(), 100
    deadline = None if left is None else 1.0 + left
    question = ask(
        outcome,
        attempts=attempts,
        untried=untried,
        safe=idempotent and sendable,
        sendable=sendable,
        deadline=deadline,
    )
    answer = Retry().decide(question, paid_from, random.Random(seed))
    paid = before - paid_from.tokens(1.0)

    if isinstance(answer, Stop):
        assert paid == 0
        return
    elsewhere = outcome.kind is Kind.UNSENT and untried
    assert sendable
    assert idempotent or outcome.kind is Kind.UNSENT
    assert deadline is None or 1.0 + answer.seconds < deadline
    assert attempts < 3 or elsewhere
    assert paid == (0 if elsewhere else 1)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 2.5}, "max_attempts"),
        ({"max_attempts": True}, "max_attempts"),
        ({"buffer_response": -1}, "buffer_response"),
        ({"budget": 0.2}, "budget"),
        ({"on": "reset"}, "on"),
        ({"on": ["rset"]}, "on"),
        ({"on": 7}, "on"),
        ({"stop": tenacity.wait_fixed(1)}, "stop"),
        ({"stop": FullJitter()}, "stop"),
        ({"wait": tenacity.stop_never}, "wait"),
        ({"wait": 0.1}, "wait"),
        ({"retry": ConnectionError}, "retry"),
    ],
)
def test_a_wrong_field_is_named(settings, named):
    with pytest.raises(ConfigError, match=rf"^{named}\b"):
        Retry(**settings)


def test_the_default_is_the_contracts():
    retry = Retry()

    assert (retry.max_attempts, retry.budget, retry.buffer_response) == (3, RetryBudget(), 65536)
    assert (retry.stop, retry.wait, retry.retry) == (None, None, None)
    assert "max_attempts=3" in repr(retry)
