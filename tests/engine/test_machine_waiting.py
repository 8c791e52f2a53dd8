"""Where there is nobody to ask, or not yet: what a call waits for, for how long, and what it says when it does not."""

from __future__ import annotations

from typing import Any

import pytest

from svcmesh.core.errors import CircuitOpen, DeadlineExceeded, NoEndpoints
from svcmesh.core.info import info
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.circuits import new_breaker
from svcmesh.engine.effects import Discard, Done, Start, Wait
from svcmesh.engine.machine import PATIENCE
from svcmesh.policy import CircuitBreaker, Delay, Fault, Policy, Retry
from tests.engine.scripted import A, B, Exchange, Stage, drive, lost, success, unsent

STANDARD = Policy.standard()


def patient(*script: Any) -> Exchange:
    """Return a call that waits for endpoints, as one of gRPC with wait_for_ready does."""
    exchange = Exchange(*script)
    exchange.patient = True
    return exchange


def unheard_of(policy: Policy) -> Stage:
    """Return a service of which discovery has said nothing yet."""
    stage = Stage(policy)
    stage.cluster.ready = False
    stage.cluster.members = {}
    stage.cluster.rebuild()
    return stage


def test_no_endpoint_is_said_with_the_name_and_what_to_do() -> None:
    outcome = Stage(STANDARD, ()).listen().perform(success())

    assert isinstance(outcome.error, NoEndpoints)
    assert "'service'" in str(outcome.error)
    assert "Is the name right" in str(outcome.error)
    assert info(outcome.error).attempts == 0


def test_a_call_waits_for_the_first_snapshot_and_not_for_a_second() -> None:
    stage = unheard_of(STANDARD)
    needed: list[int] = []
    stage.cluster.need = lambda: needed.append(1)
    call = stage.call()

    assert call.poll(0.0) == Wait(10.0, seen=stage.cluster.news)
    assert needed
    stage.set(A)
    assert isinstance(call.poll(0.1), Start)
    call.abandon(0.1)


def test_a_call_that_may_connect_for_so_long_waits_no_longer_for_somebody_to_connect_to() -> None:
    """Whatever else its deadline allows, and whatever fails meanwhile."""
    stage = unheard_of(Policy())
    exchange = Exchange()
    exchange.lookup = 0.2
    call = stage.call(exchange)

    assert call.poll(0.0) == Wait(0.2, seen=stage.cluster.news)
    stage.cluster.failure = "registry down"
    stage.cluster.wake()
    assert call.poll(0.1) == Wait(0.2, seen=stage.cluster.news), "an attempt to look that failed gives no more time"
    effect = call.poll(0.2)

    assert isinstance(effect, Done)
    assert isinstance(effect.outcome.error, DeadlineExceeded)
    assert "'service' in the 0.2 s" in str(effect.outcome.error)
    assert "registry down" in str(effect.outcome.error)
    assert effect.outcome.kind is Kind.DEADLINE


def test_that_wait_ends_with_the_first_endpoint_and_with_an_earlier_deadline() -> None:
    stage = unheard_of(Policy(timeout=0.1))
    exchange = Exchange()
    exchange.lookup = 0.2
    call, late = stage.call(exchange), stage.call(exchange)

    assert call.poll(0.0) == late.poll(0.0) == Wait(0.1, seen=stage.cluster.news)
    effect = late.poll(0.1)
    assert isinstance(effect, Done)
    assert "waiting for its endpoints" in str(effect.outcome.error)
    stage.set(A)
    assert isinstance(call.poll(0.05), Start)
    call.abandon(0.05)


def test_an_injected_delay_takes_nothing_from_that_wait() -> None:
    """It delays the call, as a slow network would, and discovery is not asked before it is over."""
    stage = unheard_of(Policy(faults=Fault(delay=Delay(1.0), scope="call")))
    exchange = Exchange()
    exchange.lookup = 0.2
    call = stage.call(exchange)

    assert call.poll(0.0) == Wait(1.0, seen=stage.cluster.news)
    assert call.poll(1.0) == Wait(1.2, seen=stage.cluster.news)
    call.abandon(1.0)


def test_a_closed_mesh_refuses_instead_of_waiting() -> None:
    stage = Stage(Policy(), ())
    stage.cluster.ready = False
    stage.runtime.close()

    outcome = stage.perform()

    assert isinstance(outcome.error, NoEndpoints)
    assert "closed" in str(outcome.error)


def test_a_patient_call_waits_where_discovery_lists_nobody() -> None:
    stage = Stage(Policy(timeout=5.0), ())
    exchange = patient()

    outcome = drive(stage.call(exchange), exchange, stage.clock)

    assert isinstance(outcome.error, DeadlineExceeded)
    assert stage.clock.now() == 5.0


def test_a_patient_call_asks_again_until_somebody_is_there() -> None:
    stage = Stage(Policy(timeout=5.0), (A, B))
    exchange = patient(unsent(), unsent(), unsent())

    assert drive(stage.call(exchange), exchange, stage.clock).kind is Kind.SUCCESS
    assert [attempt.started for attempt in exchange.attempts] == pytest.approx([0, 0, PATIENCE, 2 * PATIENCE])


def test_an_empty_answer_that_comes_while_a_call_is_about_to_wait_is_not_missed() -> None:
    """It may come between the machine's look and the driver's wait, and there may be no second one to wake anybody."""
    stage = Stage(STANDARD)
    stage.cluster.ready = False
    stage.cluster.members = {}
    stage.cluster.rebuild()
    call = stage.call()
    waits = call.poll(0.0)
    assert isinstance(waits, Wait)
    assert waits.seen == stage.cluster.news

    stage.set()

    assert waits.seen != stage.cluster.news
    effect = call.poll(0.0)
    assert isinstance(effect, Done)
    assert isinstance(effect.outcome.error, NoEndpoints)


def test_a_patient_call_waits_for_the_probe_of_somebody_else() -> None:
    """Breakers let a probe through by themselves, so it looks again soon, and does not wait for discovery."""
    breaker = CircuitBreaker(consecutive=1, failure_rate=None, open_for=60.0)
    stage = Stage(Policy(timeout=5.0, circuit_breaker=breaker), (A,))
    stage.fail(A, 1)

    assert stage.call(patient()).poll(0.0) == Wait(PATIENCE, seen=stage.cluster.news)
    assert stage.call(patient(), timeout=0.05).poll(0.0) == Wait(0.05, seen=stage.cluster.news)
    assert isinstance(stage.perform().error, CircuitOpen), "an impatient one is told at once"


def test_a_patient_call_does_not_circle_where_breakers_refuse_all_others() -> None:
    """It was to go on at once to somebody new; back at the first one it waits like any other turn."""
    breaker = CircuitBreaker(consecutive=1, failure_rate=None, open_for=60.0)
    stage = Stage(Policy(timeout=5.0, circuit_breaker=breaker), (A, B))
    a = stage.cluster.members[A.address]
    a.breakers[breaker] = steady = new_breaker(stage.cluster, breaker, a)
    steady.settle = lambda *_, **__: None  # type: ignore[method-assign] # A's stays closed
    call = stage.call(exchange := patient())
    start = call.poll(0.0)
    assert isinstance(start, Start)
    while start.attempt.member is not a:  # whoever is drawn first
        call.abandon(0.0)
        call = stage.call(exchange)
        start = call.poll(0.0)
        assert isinstance(start, Start)
    stage.fail(B, 1)

    call.ended(start.attempt, unsent(), 0.0)

    assert call.poll(0.0) == Wait(PATIENCE, seen=stage.cluster.news)
    again = call.poll(PATIENCE)
    assert isinstance(again, Start)
    assert again.attempt.member is a
    call.abandon(PATIENCE)


def test_a_driver_that_comes_too_late_gets_the_last_real_error() -> None:
    """Time was up before the next attempt could start; that says less than why the one before it failed."""
    stage = Stage(Policy(timeout=1.0, retry=Retry(wait=lambda _: 0.5, budget=None), idempotent=True))
    call = stage.call()
    start = call.poll(0.0)
    assert isinstance(start, Start)
    failure = lost()
    call.ended(start.attempt, failure, 0.1)
    assert call.poll(0.1) == Wait(0.6, seen=stage.cluster.news)

    effect = call.poll(1.5)

    assert effect == Done(failure)
    assert info(failure.error).reason == "deadline"


def closed() -> Outcome:
    return Outcome(Kind.CANCELLED, RuntimeError("closed"), reason="closed")


def test_a_call_that_waits_for_an_endpoint_ends_when_its_client_is_closed() -> None:
    stage = Stage(Policy(), ())
    call = stage.call(exchange := patient())
    wait = call.poll(0.0)
    assert isinstance(wait, Wait)

    exchange.closed = end = closed()
    stage.cluster.wake()

    assert stage.cluster.news != wait.seen, "the driver looks again"
    assert call.poll(0.0) == Done(end)


def test_a_call_between_two_attempts_ends_when_its_client_is_closed() -> None:
    """What it had got is released, and nothing else is tried."""
    stage = Stage(Policy(retry=Retry(wait=lambda _: 0.5, budget=None), idempotent=True))
    call = stage.call(exchange := Exchange())
    start = call.poll(0.0)
    assert isinstance(start, Start)
    call.ended(start.attempt, failure := lost(), 0.1)
    failure.value = "half an answer"
    assert call.poll(0.1) == Wait(0.6, seen=stage.cluster.news)

    exchange.closed = end = closed()

    assert call.poll(0.2) == Discard(failure)
    assert call.poll(0.2) == Done(end)
    assert start.attempt.member.in_flight == 0


def test_a_call_between_two_attempts_says_that_its_mesh_was_closed() -> None:
    stage = Stage(Policy(retry=Retry(wait=lambda _: 0.5, budget=None), idempotent=True))
    call = stage.call()
    start = call.poll(0.0)
    assert isinstance(start, Start)
    call.ended(start.attempt, failure := lost(), 0.1)

    stage.runtime.close()

    assert call.poll(0.2) == Done(failure)
    assert info(failure.error).reason == "closed"


@pytest.mark.parametrize("what", ["mesh", "client"])
def test_an_attempt_that_a_fault_holds_back_is_not_made_any_more_once_all_is_closed(what: str) -> None:
    stage = Stage(Policy(faults=[Fault(delay=Delay(5.0), scope="attempt")]))
    call = stage.call(exchange := Exchange())
    wait = call.poll(0.0)
    assert wait == Wait(5.0, seen=stage.cluster.news)

    if what == "mesh":
        stage.runtime.close()
    else:
        exchange.closed = closed()
    effect = call.poll(1.0)

    assert isinstance(effect, Done)
    assert "closed" in str(effect.outcome.error)
    assert all(member.in_flight == 0 for member in stage.view.members())
