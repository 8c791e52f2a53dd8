"""Who has a breaker, from when on, and what becomes of circuits that others open."""

from __future__ import annotations

import threading
from typing import Any

import pybreaker
import pytest

from svcmesh.core.endpoint import Endpoint
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.gate import Gate
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.view import View
from svcmesh.policy import CircuitBreaker, Delay, Fault, Policy, Slow
from svcmesh.testing import FakeClock
from tests.engine.scripted import A, B, Stage, ended, lost, success, turn

ONE_FAILURE = CircuitBreaker(consecutive=1, failure_rate=None, open_for=60.0)


def asked(view: View, endpoint: Endpoint = A) -> bool:
    """Return whether a call may go there, as the machine asks."""
    member = view.cluster.members[endpoint.address]
    gate, now = Gate(view), view.clock.now()
    return gate.admit(now) is None and view.breakers.admit(member, now) is not None


@pytest.mark.parametrize("scope", ["service", "endpoint"])
def test_a_circuit_that_one_process_opens_is_open_in_the_other_within_a_second(
    runtimes: list[Runtime], clock: FakeClock, scope: Any
) -> None:
    """Also where no call of the other has failed. Nothing is started before its first call, which is no plain one."""
    made: dict[str, pybreaker.CircuitMemoryStorage] = {}

    def storage(name: str) -> pybreaker.CircuitMemoryStorage:
        return made.setdefault(name, pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED))

    breaker = CircuitBreaker(scope=scope, consecutive=1, failure_rate=None, open_for=60.0, storage=storage)
    views = []
    for runtime in runtimes:
        cluster = Cluster("service", runtime)
        cluster.apply(Snapshot((A,)))
        views.append(View(cluster, Policy(circuit_breaker=breaker)))
        assert not runtime.worker.running
        assert views[-1].enter(clock.now()) is None
        assert asked(views[-1])
        turn(runtime)  # it has looked once
    assert views[1].choose() is not None
    if scope == "service":
        views[0].breakers.of_service[0].settle(None, False, clock.now(), views[0].traffic, lost().error)
    else:
        ended(views[0], lost())
    turn(runtimes[0])
    assert [storage.state for storage in made.values()] == ["open"]
    clock.advance(1.1)
    turn(runtimes[1])

    assert views[1].enter(clock.now()) is None
    assert not asked(views[1])


def test_an_endpoint_that_joins_later_is_followed_from_the_next_call_on(
    runtimes: list[Runtime], clock: FakeClock
) -> None:
    config = CircuitBreaker(
        consecutive=1, storage=lambda _: pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED), failure_rate=None
    )
    cluster = Cluster("service", runtimes[0])
    cluster.apply(Snapshot((A,)))
    view = View(cluster, Policy(circuit_breaker=config))
    assert asked(view)
    cluster.apply(Snapshot((A, B)))

    assert view.enter(clock.now()) is None
    assert view.breakers.admit(cluster.members[A.address], clock.now()) is not None
    assert [len(member.breakers) for member in cluster.members.values()] == [1, 1]
    assert view.choose() is not None
    turn(runtimes[0])


def test_slow_answers_open_a_circuit_though_none_fails() -> None:
    """From the first slow one on: there need not be a failure before."""
    slow = CircuitBreaker(failure_rate=None, slow=Slow(seconds=1.0, rate=0.5), minimum_calls=4)
    stage = Stage(Policy(circuit_breaker=slow), (A,))
    (member,) = stage.view.members()

    for _ in range(4):
        assert stage.view.enter(0.0) is None  # each is timed by the machine
        permits = stage.view.breakers.admit(member, 0.0)
        assert permits is not None
        member.started += 1
        stage.view.settle(member, permits, Outcome(Kind.SUCCESS), 0.0, 1.5)

    assert stage.view.breakers.admit(member, 0.0) is None


def test_a_storage_that_cannot_be_made_takes_nothing_from_calls(runtimes: list[Runtime], clock: FakeClock) -> None:
    """It is made on the worker, with no lock held; callers get the errors of their calls, and an event tells of it."""

    def storage(name: str) -> pybreaker.CircuitMemoryStorage:
        made_by.append(threading.current_thread())
        raise OSError("no route to storage")

    made_by: list[threading.Thread] = []
    told: list[Any] = []
    runtimes[0].events.subscribe(told.append, "listener.failed")
    cluster = Cluster("service", runtimes[0])
    cluster.apply(Snapshot((A,)))
    view = View(cluster, Policy(circuit_breaker=CircuitBreaker(consecutive=1, failure_rate=None, storage=storage)))

    ended(view, lost())
    turn(runtimes[0])

    assert [b.state for b in view.breakers.of(cluster.members[A.address])] == ["open"]
    assert threading.current_thread() not in made_by
    assert "OSError: no route to storage" in {event.error for event in told}


def test_an_endpoint_has_no_breaker_until_an_end_counts_against_it() -> None:
    """So that ten thousand which are well cost nothing."""
    stage = Stage(Policy(circuit_breaker=ONE_FAILURE), (A,))
    (member,) = stage.view.members()

    assert stage.view.breakers.admit(member, 0.0) == ()
    stage.view.breakers.settle(member, (), success(), True, 0.0, 0.1)
    assert stage.view.breakers.of(member) == []
    stage.view.breakers.settle(member, (), lost(), False, 0.0, 0.1)
    assert [breaker.state for breaker in stage.view.breakers.of(member)] == ["open"]


def test_who_joins_while_a_fault_is_armed_is_followed_too(runtimes: list[Runtime]) -> None:
    """Calls take the machine then anyway; its question must not find that all are followed."""
    config = CircuitBreaker(
        consecutive=1, storage=lambda _: pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED), failure_rate=None
    )
    cluster = Cluster("service", runtimes[0])
    cluster.apply(Snapshot((A,)))
    view = View(cluster, Policy(circuit_breaker=config))
    assert asked(view)
    disarm = cluster.arm(Fault(delay=Delay(1.0)))
    cluster.apply(Snapshot((A, B)))

    assert asked(view)
    assert [len(member.breakers) for member in cluster.members.values()] == [1, 1]
    disarm()
    assert view.choose() is not None
    turn(runtimes[0])
