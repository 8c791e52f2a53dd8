"""The call machine: what it decides, one method call at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tenacity

from svcmesh.core.endpoint import Endpoint, Health
from svcmesh.core.errors import CircuitOpen, DeadlineExceeded
from svcmesh.core.info import info
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.circuits import new_breaker
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.effects import Discard, Done, Start, Wait
from svcmesh.engine.machine import Call
from svcmesh.engine.view import View
from svcmesh.policy import (
    Abort,
    CircuitBreaker,
    Delay,
    Fault,
    FaultTarget,
    OutlierDetection,
    Policy,
    Retry,
    RetryBudget,
)
from tests.engine.scripted import A, B, C, Exchange, Stage, drive, error, late, lost, status, success, unsent

RETRY = Policy(retry=Retry(budget=None), idempotent=True)
STANDARD = Policy.standard()


def ended(stage: Stage, *script: Any, **kwargs: Any) -> tuple[Outcome, Exchange]:
    exchange = Exchange(*script, **kwargs)
    return drive(stage.call(exchange), exchange, stage.clock), exchange


# -- where attempts go -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("idempotent", [True, False])
def test_what_surely_was_not_sent_goes_elsewhere_at_once(idempotent: bool) -> None:
    """Whether it may be repeated or not, to endpoints not tried yet, without waiting and without paying."""
    stage = Stage(Policy(retry=Retry(max_attempts=1, on=(), budget=RetryBudget(ratio=0, per_second=0))))

    outcome, exchange = ended(stage, unsent(), unsent(), idempotent=idempotent)

    assert outcome.kind is Kind.SUCCESS
    assert {attempt.member.endpoint for attempt in exchange.attempts} == {A, B, C}
    assert stage.clock.now() == 0


def test_unsent_attempts_are_bounded_by_the_number_of_endpoints() -> None:
    stage = Stage(Policy(retry=Retry(max_attempts=1)))

    outcome, exchange = ended(stage, *(unsent() for _ in range(9)))

    assert outcome.refused
    assert len(exchange.attempts) == 3


def test_without_a_retry_policy_nothing_is_repeated() -> None:
    """Under `Policy()` not even what surely was not sent."""
    outcome, exchange = ended(Stage(Policy()), unsent())

    assert outcome.refused
    assert len(exchange.attempts) == 1


@pytest.mark.parametrize("failure", [lost, late, status])
def test_what_may_have_been_executed_is_repeated_only_if_that_is_safe(failure: Callable[[], Outcome]) -> None:
    for idempotent, attempts in ((False, 1), (True, 2)):
        stage = Stage(RETRY).listen("retry.*")
        outcome, exchange = ended(stage, failure(), idempotent=idempotent)
        assert (outcome.kind is Kind.SUCCESS, len(exchange.attempts)) == (idempotent, attempts)
        assert stage.names == ["retry.scheduled" if idempotent else "retry.refused"]


def test_a_body_that_cannot_be_sent_again_is_not() -> None:
    stage = Stage(RETRY).listen("retry.refused")

    outcome, exchange = ended(stage, unsent(), replayable=False)

    assert outcome.refused
    assert len(exchange.attempts) == 1
    assert stage.events[0].reason == "body"


def test_retries_go_to_endpoints_not_tried_yet_and_then_to_anybody() -> None:
    stage = Stage(Policy(retry=Retry(max_attempts=6, budget=None)))

    _, exchange = ended(stage, *(lost() for _ in range(5)))

    asked = [attempt.member.endpoint for attempt in exchange.attempts]
    assert set(asked[:3]) == {A, B, C}
    assert len(asked) == 6


def test_an_unsent_request_does_not_circle_where_breakers_refuse_all_others() -> None:
    """It was free only as long as it went elsewhere; back to the first one it waits, and attempts and budget count."""
    breaker = CircuitBreaker(consecutive=1, failure_rate=None, open_for=1.0, probes=1)
    stage = Stage(Policy(retry=Retry(max_attempts=3, budget=None), circuit_breaker=breaker), (A, B))
    stage.fail(B, 1)
    stage.clock.advance(1.0)
    stage.cluster.look(stage.clock.now())
    other = stage.cluster.members[B.address]
    probe = stage.view.breakers.admit(other, stage.clock.now())
    assert probe is not None  # somebody else has it, and there is but one
    breaker_of_a = new_breaker(stage.cluster, breaker, stage.cluster.members[A.address])
    breaker_of_a.settle = lambda *_, **__: None  # type: ignore[method-assign] # A's stays closed
    stage.cluster.members[A.address].breakers[breaker] = breaker_of_a

    outcome, exchange = ended(stage, *(unsent() for _ in range(50)))

    assert outcome.refused
    assert [attempt.member.endpoint for attempt in exchange.attempts] == [A] * 3
    stage.view.breakers.release(probe, other, stage.clock.now())


def test_weight_zero_takes_no_traffic() -> None:
    idle = Endpoint(B.address, weight=0)
    stage = Stage(RETRY, (A, idle))

    _, exchange = ended(stage, lost(), lost())

    assert {attempt.member.endpoint for attempt in exchange.attempts} == {A}


def test_an_endpoint_that_discovery_calls_unhealthy_takes_traffic_only_in_a_panic() -> None:
    sick = Endpoint(B.address, health=Health.UNHEALTHY)
    calm, panicking = Stage(STANDARD, (A, Endpoint(C.address), sick)), Stage(STANDARD, (sick,))

    for _ in range(20):
        assert ended(calm, success())[1].attempts[0].member.endpoint != sick
    assert ended(panicking, success())[1].attempts[0].member.endpoint == sick
    assert panicking.view.panicking


# -- time ------------------------------------------------------------------------------------------------------------


def test_an_attempt_ends_at_its_own_limit_or_at_the_deadline() -> None:
    stage = Stage(Policy(timeout=10, per_try_timeout=3))
    call = stage.call()
    start = call.poll(0.0)
    assert isinstance(start, Start)
    assert (start.attempt.until, start.attempt.final) == (3.0, False)

    short = stage.call(timeout=2.0)
    start = short.poll(0.0)
    assert isinstance(start, Start)
    assert (start.attempt.until, start.attempt.final) == (2.0, True)
    for each in (call, short):
        each.abandon(0.0)


def test_the_deadline_blames_nobody_and_a_per_try_timeout_does() -> None:
    for timeout, kind, blames in ((3.0, Kind.DEADLINE, False), (10.0, Kind.TIMEOUT, True)):
        stage = Stage(Policy(timeout=timeout, per_try_timeout=3.0))
        exchange = Exchange(lambda attempt, stage=stage: stage.clock.advance(attempt.until) or late())
        outcome = drive(stage.call(exchange), exchange, stage.clock)
        assert (outcome.kind, outcome.blames) == (kind, blames)


@pytest.mark.parametrize("policy", [RETRY, RETRY.replace(timeout=10.0)])
def test_a_timeout_of_the_functions_own_is_no_deadline(policy: Policy) -> None:
    """A socket timeout of 0.1 s inside a call that has 10 s, or no limit at all, is a failure like any other."""
    stage = Stage(policy)

    outcome, exchange = ended(stage, lambda _: stage.clock.advance(0.1) or late())

    assert outcome.kind is Kind.SUCCESS
    assert len(exchange.attempts) == 2


def test_the_last_real_error_is_raised_at_once_when_a_retry_would_not_fit() -> None:
    stage = Stage(Policy(timeout=1.0, retry=Retry(wait=lambda _: 2.0, budget=None)))
    first = lost()

    outcome, _ = ended(stage, first)

    assert outcome is first
    assert stage.clock.now() == 0
    assert info(outcome.error).reason == "reset; deadline"


def test_a_late_failure_is_not_retried_and_a_late_result_is_returned() -> None:
    for late_end in (lost(), success("late")):
        stage = Stage(Policy(timeout=1.0, retry=Retry(budget=None)))
        outcome, exchange = ended(stage, lambda _, stage=stage, end=late_end: stage.clock.advance(5.0) or end)
        assert outcome is late_end
        assert len(exchange.attempts) == 1


def test_a_call_without_time_is_not_sent() -> None:
    stage = Stage(RETRY)
    exchange = Exchange()

    outcome = drive(Call(stage.view, exchange, 0.0, 0.0), exchange, stage.clock)

    assert isinstance(outcome.error, DeadlineExceeded)
    assert exchange.attempts == []


def test_retries_wait_and_are_told_of() -> None:
    stage = Stage(Policy(retry=Retry(wait=lambda _: 0.25, budget=None))).listen("retry.*")

    outcome, exchange = ended(stage, lost(), lost())

    assert outcome.kind is Kind.SUCCESS
    assert [attempt.started for attempt in exchange.attempts] == [0.0, 0.25, 0.5]
    assert [(e.attempt, e.delay, e.reason) for e in stage.events] == [(1, 0.25, "reset"), (2, 0.25, "reset")]


def test_retries_are_paid_from_the_budget() -> None:
    stage = Stage(Policy(retry=Retry(budget=RetryBudget(ratio=0, per_second=0.1, window=10)))).listen("retry.refused")

    first, second = ended(stage, lost())[0], ended(stage, lost())[0]

    assert first.kind is Kind.SUCCESS
    assert second.kind is Kind.LOST
    assert stage.events[0].reason == "budget"


# -- tenacity and results --------------------------------------------------------------------------------------------


def test_tenacity_objects_decide() -> None:
    retry = Retry(
        stop=tenacity.stop_after_attempt(4),
        wait=tenacity.wait_fixed(1) + tenacity.wait_fixed(0.5),
        retry=tenacity.retry_if_exception_type(KeyError),
        budget=None,
    )
    stage = Stage(Policy(retry=retry))

    outcome, exchange = ended(stage, *(error() for _ in range(9)))

    assert outcome.kind is Kind.ERROR
    assert len(exchange.attempts) == 4
    assert stage.clock.now() == 4.5


def test_try_again_asks_for_another_attempt() -> None:
    again = Outcome(Kind.ERROR, tenacity.TryAgain(), reason="TryAgain")

    assert ended(Stage(RETRY), again)[0].kind is Kind.SUCCESS


def test_a_predicate_of_results_repeats_results() -> None:
    """Each result is shown to it once; the last one stands when attempts are used up."""
    seen: list[int] = []
    predicate = tenacity.retry_if_result(lambda value: seen.append(value) or value < 9)  # type: ignore[func-returns-value]
    stage = Stage(Policy(retry=Retry(retry=predicate, budget=None)))

    assert ended(stage, success(1), success(9))[0].value == 9
    assert seen == [1, 9]
    assert ended(stage, success(1), success(2), success(3), success(4))[0].value == 3


def test_a_predicate_that_raises_costs_no_result() -> None:
    stage = Stage(Policy(retry=Retry(retry=tenacity.retry_if_result(lambda value: value["x"]), budget=None)))
    stage.listen("retry.refused")

    outcome, _ = ended(stage, success(5))

    assert outcome.value == 5
    assert stage.events[0].reason == "strategy: TypeError"


# -- faults ----------------------------------------------------------------------------------------------------------


def test_a_fault_of_scope_call_stands_before_everything() -> None:
    stage = Stage(RETRY.replace(faults=[Fault(delay=Delay(1.0), abort=Abort(503))])).listen("fault.injected")

    outcome, exchange = ended(stage)

    assert str(outcome.error) == "aborted"
    assert exchange.attempts == []
    assert stage.clock.now() == 1.0
    assert [event.kind for event in stage.events] == ["delay", "abort"]


def test_a_fault_of_scope_attempt_is_retried_like_a_failure() -> None:
    """A match sees the endpoint and the number of the attempt."""
    seen: list[FaultTarget] = []
    first_only = Fault(
        abort=Abort(503),
        scope="attempt",
        match=lambda target: seen.append(target) or target.attempt == 1,  # type: ignore[func-returns-value]
    )
    stage = Stage(RETRY.replace(faults=[first_only]))

    outcome, exchange = ended(stage)

    assert outcome.kind is Kind.SUCCESS
    assert len(exchange.attempts) == 1  # the first one never reached the transport
    assert [target.attempt for target in seen] == [1, 2]
    assert seen[0].endpoint != seen[1].endpoint


@pytest.mark.parametrize("scope", ["call", "attempt"])
def test_an_injected_delay_ends_with_the_deadline(scope: Any) -> None:
    stage = Stage(Policy(timeout=1.0, faults=[Fault(delay=Delay(60.0), scope=scope)]))

    outcome, exchange = ended(stage)

    assert isinstance(outcome.error, DeadlineExceeded)
    assert stage.clock.now() == 1.0
    assert exchange.attempts == []
    assert stage.in_flight == {}


def test_percentages_are_kept() -> None:
    stage = Stage(Policy(faults=[Fault(abort=Abort(503, percent=50), percent=50)]))

    aborted = sum(ended(stage)[0].error is not None for _ in range(2000))

    assert 400 < aborted < 600


# -- breakers --------------------------------------------------------------------------------------------------------


def test_a_service_breaker_refuses_probes_and_closes() -> None:
    breaker = CircuitBreaker(scope="service", consecutive=2, failure_rate=None, open_for=5.0, probes=1)
    stage = Stage(Policy(circuit_breaker=breaker)).listen("breaker.changed", "call.rejected")

    for _ in range(2):
        ended(stage, lost())
    refused = ended(stage)[0].error
    assert isinstance(refused, CircuitOpen)
    assert refused.retry_after == 5.0
    stage.clock.advance(5.0)
    assert ended(stage)[0].kind is Kind.SUCCESS
    changes = [(e.old, e.new, e.endpoint) for e in stage.events if e.name == "breaker.changed"]
    assert changes == [("closed", "open", None), ("open", "half-open", None), ("half-open", "closed", None)]
    assert [(e.reason, e.retry_after) for e in stage.events if e.name == "call.rejected"] == [("breaker", 5.0)]


def test_a_service_breaker_is_asked_again_before_each_retry() -> None:
    breaker = CircuitBreaker(scope="service", consecutive=1, failure_rate=None)
    stage = Stage(Policy(circuit_breaker=breaker, retry=Retry(wait=lambda _: 1.0, budget=None)))
    call = stage.call()
    first = call.poll(0.0)
    assert isinstance(first, Start)
    call.ended(first.attempt, lost(), 0.0)
    ended(stage, *(lost() for _ in range(3)))  # another call opens it meanwhile
    stage.clock.advance(1.0)

    done = call.poll(stage.clock.now())

    assert isinstance(done, Done)
    assert done.outcome.kind is Kind.LOST


def test_an_open_endpoint_breaker_leaves_the_endpoint_out_until_a_probe_succeeds() -> None:
    breaker = CircuitBreaker(consecutive=1, failure_rate=None, open_for=5.0, probes=1)
    stage = Stage(Policy(circuit_breaker=breaker), (A, B)).listen("breaker.changed")
    stage.fail(A, 1)

    assert {ended(stage)[1].attempts[0].member.endpoint for _ in range(20)} == {B}
    stage.clock.advance(5.0)
    assert {ended(stage)[1].attempts[0].member.endpoint for _ in range(20)} == {A, B}
    assert [event.new for event in stage.events] == ["open", "half-open", "closed"]


def test_all_breakers_open_is_said_until_when() -> None:
    breaker = CircuitBreaker(consecutive=1, failure_rate=None, open_for=5.0)
    stage = Stage(Policy(circuit_breaker=breaker), (A, B))
    stage.fail(A, 1)
    stage.clock.advance(1.0)
    stage.fail(B, 1)

    refused = ended(stage)[0].error

    assert isinstance(refused, CircuitOpen)
    assert refused.retry_after == 4.0
    assert "all 2 endpoints of service 'service'" in str(refused)


def test_the_breaker_of_the_only_endpoint_is_spoken_of_as_one() -> None:
    stage = Stage(Policy(circuit_breaker=CircuitBreaker(consecutive=1, failure_rate=None, open_for=5.0)), (A,))
    stage.fail(A, 1)

    refused = ended(stage)[0].error

    assert isinstance(refused, CircuitOpen)
    assert str(refused) == "the circuit breaker of the only endpoint of service 'service' is open, for 5 s more"
    assert refused.retry_after == 5.0


def test_a_breaker_and_an_ejection_are_both_named_and_the_first_to_end_is_waited_for() -> None:
    breaker = CircuitBreaker(consecutive=7, failure_rate=None, open_for=60.0)
    ejected = OutlierDetection(consecutive_gateway_failure=5)
    stage = Stage(Policy(circuit_breaker=breaker, outlier_detection=ejected), (A, B))
    stage.fail(A, 5)
    stage.fail(B, 7)

    refused = ended(stage)[0].error

    assert isinstance(refused, CircuitOpen)
    assert "from 1, ejections from 1 of the 2 endpoints" in str(refused)
    assert refused.retry_after is not None
    stage.clock.advance(refused.retry_after)
    assert ended(stage)[0].kind is Kind.SUCCESS


def test_a_call_whose_endpoints_are_all_being_probed_is_refused_as_such() -> None:
    breaker = CircuitBreaker(consecutive=1, failure_rate=None, open_for=5.0, probes=1)
    stage = Stage(Policy(circuit_breaker=breaker), (A,))
    stage.fail(A, 1)
    stage.clock.advance(5.0)
    probe = stage.call()
    assert isinstance(probe.poll(5.0), Start)

    refused = ended(stage)[0].error

    assert isinstance(refused, CircuitOpen)
    assert "probes" in str(refused) or refused.retry_after
    probe.abandon(5.0)


# -- answers that nobody sees ----------------------------------------------------------------------------------------


def test_an_answer_that_another_replaces_is_discarded() -> None:
    stage = Stage(RETRY)
    first = Outcome(Kind.STATUS, value="503", reason="503", blames=True)

    outcome, exchange = ended(stage, first, success("200"))

    assert outcome.value == "200"
    assert exchange.discarded == [first]


def test_an_answer_is_discarded_before_the_attempt_that_replaces_it() -> None:
    """It may hold the only connection; one that may still be the caller's, since no other may follow, is kept."""
    stage = Stage(Policy(retry=Retry(wait=lambda _: 1.0, budget=None)))
    call = stage.call()
    first = call.poll(0.0)
    assert isinstance(first, Start)
    replaced = Outcome(Kind.STATUS, value="503", reason="503", blames=True)
    call.ended(first.attempt, replaced, 0.0)
    assert isinstance(call.poll(0.0), Wait)

    assert call.poll(1.0) == Discard(replaced)
    second = call.poll(1.0)
    assert isinstance(second, Start)

    call.ended(second.attempt, success("200"), 1.0)
    assert call.poll(1.0) == Done(success("200"))


def test_a_caller_who_leaves_while_an_answer_is_discarded_leaves_nothing() -> None:
    """The attempt that was to follow was counted, and is settled."""
    stage = Stage(RETRY)
    call = stage.call()
    first = call.poll(0.0)
    assert isinstance(first, Start)
    call.ended(first.attempt, Outcome(Kind.STATUS, value="503", reason="503", blames=True), 0.0)
    wait = call.poll(0.0)
    assert isinstance(wait, Wait)
    assert isinstance(call.poll(wait.until), Discard)

    call.abandon(wait.until)

    assert isinstance(call.poll(wait.until), Done)
    assert stage.in_flight == {}


def test_an_answer_held_for_a_retry_is_discarded_when_the_caller_leaves() -> None:
    stage = Stage(Policy(retry=Retry(wait=lambda _: 1.0, budget=None)))
    call = stage.call()
    start = call.poll(0.0)
    assert isinstance(start, Start)
    held = Outcome(Kind.STATUS, value="503", reason="503", blames=True)
    call.ended(start.attempt, held, 0.0)
    assert isinstance(call.poll(0.0), Wait)

    call.abandon(0.5)

    assert call.poll(0.5) == Discard(held)
    assert isinstance(call.poll(0.5), Done)


def test_an_answer_that_was_won_and_never_handed_over_is_discarded() -> None:
    """The caller left before it was told that the call is over."""
    stage = Stage(RETRY)
    call = stage.call()
    start = call.poll(0.0)
    assert isinstance(start, Start)
    call.ended(start.attempt, winner := success("200"), 0.0)

    call.abandon(0.0)

    assert call.poll(0.0) == Discard(winner)


def test_what_a_function_returns_is_left_as_it_is() -> None:
    """Answers carry `info`; the result of somebody's function is nobody's to write on."""

    class Result:
        pass

    for function, told in ((None, True), (print, False)):
        value = Result()
        ended(Stage(RETRY), lost(), success(value), function=function)
        assert (info(value) is not None) is told


def test_a_failure_always_says_why_it_is_one() -> None:
    """Also where nothing retries, and where the outcome itself has no word for it."""
    nameless = Outcome(Kind.ERROR, ValueError())

    for policy, why in ((Policy(), "error"), (RETRY, "error; not-retryable")):
        outcome, _ = ended(Stage(policy), nameless)
        assert info(outcome.error).reason == why


def test_what_a_call_took_includes_what_held_it_up() -> None:
    """An injected delay before the first attempt is time that the caller has waited."""
    stage = Stage(RETRY.replace(faults=(Fault(delay=Delay(0.5), scope="call"),)))

    outcome, _ = ended(stage, status("INTERNAL"))

    assert info(outcome.error).elapsed == 0.5


def test_an_attempt_that_was_cut_off_while_connecting_goes_elsewhere() -> None:
    """Its request was surely not sent, so whether it may be repeated does not matter."""
    stage = Stage(STANDARD)
    call = stage.call(exchange := Exchange(idempotent=False))
    start = call.poll(0.0)
    assert isinstance(start, Start)
    exchange.unsent = True

    call.ended(start.attempt, call.timed_out(start.attempt), 3.0)

    assert isinstance(call.poll(3.0), Start)
    call.abandon(3.0)


def test_a_call_that_found_nobody_waits_although_the_first_snapshot_has_come_just_then() -> None:
    """It was in force only after the call had looked: there may be somebody now."""
    stage = Stage(Policy())
    cluster = Cluster("service", stage.runtime)
    stage.view = View(cluster, Policy())
    call, held_back = stage.call(), stage.view.held_back

    def come(now: float) -> Any:
        cluster.apply(Snapshot((A,)))
        return held_back(now)

    stage.view.held_back = come  # type: ignore[method-assign]
    effect = call.poll(0.0)
    assert isinstance(effect, Wait)
    assert effect.seen != cluster.news, "so that the driver asks again at once"
    del stage.view.held_back
    assert isinstance(call.poll(0.0), Start)
    call.abandon(0.0)
