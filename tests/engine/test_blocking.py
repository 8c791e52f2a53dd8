"""The blocking driver: effects performed on the caller's thread, in virtual time."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from svcmesh.core.errors import SvcmeshError
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine import blocking
from svcmesh.engine.exchange import Attempt
from svcmesh.policy import Delay, Fault, Policy, Retry
from tests.engine.scripted import A, Blocking, Stage, lost, success, unsent

RETRY = Policy(timeout=10.0, retry=Retry(wait=lambda _: 1.0, budget=None))


def test_a_value_is_returned_and_an_error_raised() -> None:
    stage = Stage(RETRY)

    assert blocking.run(stage.call(exchange := Blocking(lost(), success(7))), exchange) == 7
    assert stage.clock.now() == 1.0
    with pytest.raises(ConnectionResetError):
        blocking.run(stage.call(exchange := Blocking(lost(), lost(), lost())), exchange)
    assert stage.in_flight == {}


def test_going_on_after_the_success_path_makes_the_second_attempt() -> None:
    stage = Stage(RETRY)
    member = stage.view.enter(0.0)
    assert member is not None
    exchange = Blocking(success("second"))
    exchange.classify = lambda error: Outcome(Kind.LOST, error, reason="reset", blames=True)  # type: ignore[method-assign]

    assert blocking.resume(stage.view, exchange, member, 0.0, 10.0, OSError()) == "second"
    assert exchange.attempts[0].number == 2
    assert exchange.attempts[0].member is not member
    assert stage.view.budget.calls == 1


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_gives_everything_back_and_is_raised(interrupt: type[BaseException]) -> None:
    stage = Stage(RETRY)

    def interrupted(attempt: Attempt) -> Outcome:
        raise interrupt

    with pytest.raises(interrupt):
        blocking.run(stage.call(exchange := Blocking(interrupted)), exchange)
    member = stage.view.enter(0.0)
    assert member is not None
    with pytest.raises(interrupt):
        blocking.resume(stage.view, Blocking(), member, 0.0, 10.0, interrupt())
    assert stage.in_flight == {}


def test_an_interrupt_in_a_wait_releases_the_answer_that_was_held() -> None:
    stage = Stage(RETRY)
    member_of: list[Any] = []

    def answer(attempt: Attempt) -> Outcome:
        member_of.append(attempt.member)
        return Outcome(Kind.STATUS, value=attempt.member, reason="503", blames=True)

    exchange = Blocking(answer, deferred=True)
    stage.clock.wait = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]

    with pytest.raises(KeyboardInterrupt):
        blocking.run(stage.call(exchange), exchange)

    assert len(exchange.discarded) == 1
    assert stage.in_flight == {}


def test_a_wait_for_endpoints_ends_when_they_come() -> None:
    """Also when they come between the machine's look and the wait."""
    stage = Stage(RETRY, ())
    stage.cluster.ready = False
    stage.cluster.need = lambda: stage.set(A)

    assert blocking.run(stage.call(exchange := Blocking(success(1))), exchange) == 1
    assert stage.clock.now() == 0

    late = Stage(RETRY, ())
    late.cluster.ready = False
    late.clock.at(2.0, lambda: late.set(A))
    assert blocking.run(late.call(exchange := Blocking(success(1))), exchange) == 1
    assert late.clock.now() == 2.0
    assert late.cluster._waiters == set()


def test_admit_hands_out_an_attempt_or_raises() -> None:
    stage = Stage(Policy(faults=[Fault(delay=Delay(1.0), scope="attempt")]))

    attempt = blocking.admit(stage.call())

    assert stage.clock.now() == 1.0
    assert stage.in_flight == {attempt.member.endpoint.address: 1}
    with pytest.raises(Exception, match="no endpoint"):
        blocking.admit(Stage(RETRY, ()).call())
    attempt.member.finished += 1


def test_many_threads_leave_no_count_behind() -> None:
    """Failures, retries and interrupts from sixteen threads at once: in flight and permits return to zero."""
    stage = Stage(Policy.standard().replace(retry=Retry(wait=lambda _: 0.0, budget=None)))

    def work(seed: int) -> None:
        for n in range(150):
            kind = (seed + n) % 4
            script: list[Any] = [[success()], [lost(), success()], [unsent(), unsent(), unsent()], [_interrupt]][kind]
            try:
                blocking.run(stage.call(exchange := Blocking(*script, idempotent=True)), exchange)
            except (OSError, SvcmeshError, KeyboardInterrupt):
                continue

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert stage.in_flight == {}
    for member in stage.cluster.members.values():
        assert member.started == member.finished >= member.unsuccessful
        assert all(not breaker._permits for breaker in member.breakers.values())


def _interrupt(attempt: Attempt) -> Outcome:
    raise KeyboardInterrupt
