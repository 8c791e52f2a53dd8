"""How a cluster learns of its endpoints: at once where they are given, by one watch from its first need where not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.static import StaticDiscovery
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.follow import Follower
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.view import View
from svcmesh.policy import Policy
from tests.engine.scripted import A, B, Blocking, lost, success, unsent


class Registry:
    """Counts its watches; fails where it has nothing."""

    def __init__(self, *endpoints: object) -> None:
        self.endpoints = endpoints
        self.watches = 0

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        self.watches += 1
        if not self.endpoints:
            raise OSError("registry down")
        yield Snapshot(self.endpoints)  # type: ignore[arg-type]
        await asyncio.get_running_loop().create_future()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    made = Runtime()
    yield made
    made.close()
    made.worker.join()


def until(condition: object) -> None:
    """Poll a condition to a deadline of half a minute."""
    event = threading.Event()
    for _ in range(3000):
        if condition():  # type: ignore[operator]
            return
        event.wait(0.01)
    pytest.fail("it did not happen within 30 s")


def test_what_is_given_starts_nothing(runtime: Runtime) -> None:
    cluster = Cluster("service", runtime)
    follower = Follower(cluster, StaticDiscovery([A]), "service")
    follower.prime()
    cluster.need()

    assert cluster.ready
    assert cluster.offered == (A,)
    assert not runtime.worker.running


def test_a_watch_starts_at_the_first_need_and_only_once(runtime: Runtime) -> None:
    cluster, registry = Cluster("service", runtime), Registry(A, B)
    Follower(cluster, registry, "service").prime()
    assert not runtime.worker.running

    for _ in range(5):
        cluster.need()
    until(lambda: cluster.ready)

    assert cluster.offered == (A, B)
    assert registry.watches == 1


def test_a_watch_that_could_not_start_starts_at_the_next_need(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was out of files at its first call would wait for endpoints for ever."""
    cluster, registry = Cluster("service", runtime), Registry(A)
    Follower(cluster, registry, "service").prime()

    def refuse() -> None:
        raise OSError("Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "new_event_loop", refuse)
        with pytest.raises(OSError, match="Too many"):
            cluster.need()
    cluster.need()
    until(lambda: cluster.ready)

    assert registry.watches == 1


def test_a_failure_is_known_until_a_snapshot_comes(runtime: Runtime) -> None:
    cluster, registry = Cluster("service", runtime), Registry()
    Follower(cluster, registry, "service")
    cluster.need()
    until(lambda: cluster.failure)
    assert "registry down" in str(cluster.failure)

    registry.endpoints = (A,)
    until(lambda: cluster.ready)
    assert cluster.failure is None


def test_a_listener_of_the_first_change_may_ask_for_more(runtime: Runtime) -> None:
    """It is told with no lock held, so another thread that needs the same service is not kept waiting."""
    cluster = Cluster("service", runtime)
    follower = Follower(cluster, StaticDiscovery([A]), "service")
    waited: list[bool] = []

    def listener(_: object) -> None:
        other = threading.Thread(target=cluster.need)
        other.start()
        other.join(30)
        waited.append(other.is_alive())

    runtime.events.subscribe(listener, "endpoints.changed")
    follower.prime()

    assert waited == [False]


def test_a_child_uses_what_is_known_and_its_first_call_starts_a_watch() -> None:
    """Else a pre-forked server would call the endpoints of the moment of the fork for ever."""
    runtime = Runtime()
    cluster, registry = Cluster("service", runtime), Registry(A)
    follower = Follower(cluster, registry, "service")
    view = View(cluster, Policy())
    cluster.need()
    until(lambda: cluster.ready)
    parent = runtime.worker
    parent.close()
    parent.join()
    child = type(parent)("child")
    runtime.worker = child
    try:
        cluster.reset_after_fork()
        assert cluster.offered == (A,)
        assert view.enter(0.0) is None  # the machine is where a watch is started

        from svcmesh.engine import blocking
        from svcmesh.engine.machine import Call

        exchange = Blocking(success(1))
        assert blocking.run(Call(view, exchange, runtime.clock.now()), exchange) == 1
        until(lambda: registry.watches == 2)
        member = view.enter(runtime.clock.now())
        assert member is not None
        member.finished += 1
        assert follower.state.answered
    finally:
        child.close()
        child.join()


class Polled(Registry):
    """Asks now and then, and can be asked to do it now."""

    def __init__(self, *endpoints: object) -> None:
        super().__init__(*endpoints)
        self.refreshed: list[tuple[str, str]] = []

    def refresh(self, service: str) -> None:
        self.refreshed.append((service, threading.current_thread().name))


def connect_failure(view: View, times: int) -> None:
    """Let attempts at A find nobody listening."""
    member = view.cluster.members[A.address]
    for _ in range(times):
        member.started += 1
        view.settle(member, (), unsent(), view.clock.now(), 0.0)


def test_a_registry_that_polls_is_asked_again_on_the_worker_when_a_connect_fails(runtime: Runtime) -> None:
    cluster, registry = Cluster("service", runtime), Polled(A)
    Follower(cluster, registry, "service")
    view = View(cluster, Policy())
    cluster.need()
    until(lambda: cluster.ready)
    connect_failure(view, 1)

    until(lambda: registry.refreshed)
    assert registry.refreshed == [("service", "svcmesh-worker")]


def test_connect_failures_that_come_together_are_said_once(runtime: Runtime) -> None:
    cluster, registry = Cluster("service", runtime), Polled(A)
    Follower(cluster, registry, "service")
    view = View(cluster, Policy())
    cluster.need()
    until(lambda: cluster.ready)
    held, released = threading.Event(), threading.Event()
    runtime.worker.call(lambda _: (held.set(), released.wait(30)))
    held.wait(30)
    connect_failure(view, 50)
    released.set()
    until(lambda: registry.refreshed)

    connect_failure(view, 1)
    until(lambda: len(registry.refreshed) == 2)


def test_other_failures_are_no_doubt(runtime: Runtime) -> None:
    """An endpoint that answers, or breaks off, is where discovery says it is."""
    cluster, registry = Cluster("service", runtime), Polled(A)
    Follower(cluster, registry, "service")
    view = View(cluster, Policy())
    cluster.need()
    until(lambda: cluster.ready)
    member = cluster.members[A.address]
    member.started += 1
    view.settle(member, (), lost(), runtime.clock.now(), 0.0)
    passed = threading.Event()
    runtime.worker.call(lambda _: passed.set())
    passed.wait(30)

    assert registry.refreshed == []
