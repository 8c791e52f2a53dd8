"""Breakers in a service: named for what they guard, in step with a shared storage, helped to close by a dial."""

from __future__ import annotations

import gc
import socket
import threading
from typing import Any
from weakref import ref

import pybreaker
import pytest

from svcmesh.core.endpoint import PICKED, Endpoint
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.circuits import Knocker, new_breaker
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.view import View
from svcmesh.policy import CircuitBreaker, Policy
from svcmesh.testing import FakeClock
from tests.engine.scripted import A, Stage, ended, turn, unsent

ONE_FAILURE = CircuitBreaker(consecutive=1, failure_rate=None, open_for=60.0)


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
            ended(view, unsent())
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
