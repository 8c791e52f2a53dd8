"""Breakers in a service: named for what they guard, in step with a shared storage, helped to close by a dial."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from typing import Any
from weakref import ref

import pybreaker
import pytest

from svcmesh.core.endpoint import PICKED, Endpoint
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.circuits import Knocker, new_breaker
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.gate import Gate
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.view import View
from svcmesh.policy import CircuitBreaker, Policy, Slow
from svcmesh.testing import FakeClock
from tests.engine.scripted import A, B, Stage, lost, unsent

ONE_FAILURE = CircuitBreaker(consecutive=1, failure_rate=None, open_for=60.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def runtimes(clock: FakeClock) -> Iterator[list[Runtime]]:
    """Two processes that share a storage, as far as breakers can tell."""
    made = [Runtime(clock), Runtime(clock)]
    yield made
    for runtime in made:
        runtime.close()
        runtime.worker.join()


def settle(view: View, outcome: Any) -> None:
    """Let one attempt at the only endpoint end so."""
    (member,) = view.cluster.members.values()
    member.started += 1
    view.settle(member, (), outcome, view.clock.now(), 0.0)


def turn(runtime: Runtime) -> None:
    """Wait until the worker has done what it was asked so far, and what that asked for in turn."""
    for _ in range(3):
        done = threading.Event()
        runtime.worker.call(lambda _, done=done: done.set())  # type: ignore[misc]
        assert done.wait(30)


def test_it_is_named_for_what_it_guards() -> None:
    """Users' listeners and storages know it by that name."""
    stage = Stage(Policy())
    member = stage.cluster.members[A.address]
    alone = Stage(Policy(), (PICKED,))

    assert new_breaker(stage.cluster, ONE_FAILURE, None).circuit.name == "service"
    assert new_breaker(stage.cluster, ONE_FAILURE, member).circuit.name == f"service {A.address}"
    (function,) = alone.cluster.members.values()
    assert new_breaker(alone.cluster, ONE_FAILURE, function).circuit.name == "service"


def test_a_listener_of_a_user_that_raises_is_reported() -> None:
    class Broken(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            raise LookupError("mine")

    breaker = CircuitBreaker(consecutive=1, failure_rate=None, listeners=[Broken()])
    stage = Stage(Policy(circuit_breaker=breaker)).listen("listener.failed")

    stage.fail(A, 1)

    assert [event.error for event in stage.events] == ["LookupError: mine"]


def asked(view: View) -> bool:
    """Return whether a call may go to the only endpoint, as the machine asks."""
    (member,) = view.cluster.members.values()
    gate, now = Gate(view), view.clock.now()
    return gate.admit(now) is None and view.admit(member, now) is not None


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
        views[0].service_breakers[0].settle(None, False, clock.now(), views[0].traffic, lost().error)
    else:
        settle(views[0], lost())
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
    assert view.admit(cluster.members[A.address], clock.now()) is not None
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
        permits = stage.view.admit(member, 0.0)
        assert permits is not None
        member.started += 1
        stage.view.settle(member, permits, Outcome(Kind.SUCCESS), 0.0, 1.5)

    assert stage.view.admit(member, 0.0) is None


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

    settle(view, lost())
    turn(runtimes[0])

    assert [b.state for b in view.breakers_of(cluster.members[A.address])] == ["open"]
    assert threading.current_thread() not in made_by
    assert "OSError: no route to storage" in {event.error for event in told}


def test_a_breaker_that_is_dropped_is_not_kept_by_its_storage(runtimes: list[Runtime], clock: FakeClock) -> None:
    """Endpoints come and go; each leaves nothing that looks at a storage for ever."""
    storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
    config = CircuitBreaker(consecutive=1, failure_rate=None, storage=lambda name: storage)
    weak = ref(new_breaker(Cluster("service", runtimes[0]), config, None))
    turn(runtimes[0])
    gc.collect()

    assert weak() is None
    clock.advance(1.5)
    turn(runtimes[0])
    assert clock.next_at() is None


def test_a_host_that_is_back_is_called_before_its_breaker_would_probe_it() -> None:
    """It refused connections, so the breaker opened for a minute; a dial in the background finds it answering."""
    runtime = Runtime()
    with socket.create_server(("127.0.0.1", 0)) as server:
        cluster = Cluster("service", runtime)
        cluster.apply(Snapshot((Endpoint(f"127.0.0.1:{server.getsockname()[1]}"),)))
        view = View(cluster, Policy(circuit_breaker=ONE_FAILURE))
        half_open = threading.Event()
        runtime.events.subscribe(lambda event: event.new == "half-open" and half_open.set(), "breaker.changed")  # type: ignore[attr-defined]
        try:
            settle(view, unsent())
            assert half_open.wait(30)
        finally:
            runtime.close()
            runtime.worker.join()


def test_each_breaker_is_knocked_for_once_at_a_time_and_a_function_never(
    runtimes: list[Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[Endpoint] = []

    async def probe(endpoint: Endpoint, *_: object) -> bool:
        dialled.append(endpoint)
        return False

    monkeypatch.setattr("svcmesh.engine.circuits.probe", probe)
    cluster = Cluster("service", runtimes[0])
    cluster.apply(Snapshot((A, PICKED)))
    member, function = cluster.members[A.address], cluster.members[PICKED.address]
    breaker, knocker = new_breaker(cluster, ONE_FAILURE, member), Knocker(cluster)

    def ask(_: object) -> None:  # on the worker, so that no dial ends in between
        for each in (member, member, function):
            knocker.knock(breaker, each)

    runtimes[0].worker.call(ask)
    turn(runtimes[0])

    assert dialled == [A]
