"""One service as this process sees it: snapshots in force, members that stay, leave and come back."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from svcmesh.balance import (
    LeastRequest,
    LoadReport,
    Maglev,
    OrcaWeightedRoundRobin,
    PeakEwma,
    PickFirst,
    RoundRobin,
)
from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import LoadBalancer, Picker, Reported, Rng
from svcmesh.balance.wrapping import named
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.member import Member
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.view import View
from svcmesh.policy import Abort, CircuitBreaker, Fault, OutlierDetection, Policy
from svcmesh.testing import FakeClock
from tests.engine.scripted import A, B, C, Stage, lost
from tests.engine.test_member import Kept, Renewed

STANDARD = Policy.standard()


def test_members_that_stay_keep_their_state() -> None:
    stage = Stage(STANDARD).listen("endpoints.changed")
    member = stage.cluster.members[A.address]
    member.started = member.finished = 5

    stage.clock.advance(2.0)
    stage.set(Endpoint(A.address, weight=3), B)

    assert stage.cluster.members[A.address] is member
    assert member.endpoint.weight == 3
    (event,) = stage.events
    assert (event.added, event.removed, event.changed, event.age) == ((), (C,), (member.endpoint,), 2.0)


def test_the_same_list_again_is_no_change() -> None:
    stage = Stage(STANDARD).listen("endpoints.changed")

    stage.set(C, B, A)

    assert stage.events == []


def test_another_order_is_heeded_by_who_goes_by_order() -> None:
    """It sticks to whom it has, and goes on to who is next by now."""
    stage = Stage(STANDARD.replace(load_balancer=PickFirst()))
    found = []
    for listed in ([A, B, C], [C, B, A], [C, B]):
        stage.set(*listed)
        cell = stage.view.choose()
        found.append(cell and cell.endpoint)

    assert found == [A, A, C]


def test_an_endpoint_that_left_and_came_back_starts_afresh() -> None:
    """Counts, breaker and ejection are those of a new one, and late failures of the old one are not held against it."""
    stage = Stage(STANDARD.replace(circuit_breaker=CircuitBreaker(consecutive=5, failure_rate=None)))
    old = stage.cluster.members[A.address]
    stage.fail(A, 5)
    assert stage.view.ejections()

    stage.set(B, C)
    stage.set(A, B, C)

    new = stage.cluster.members[A.address]
    assert new is not old
    assert (new.started, new.breakers, dict(stage.view.ejections())) == (0, {}, {})
    for _ in range(9):
        old.started += 1
        stage.view.settle(old, (), lost(), stage.clock.now(), 0.0)
    assert dict(stage.view.ejections()) == {}


@pytest.mark.parametrize("balancer", [LeastRequest(), PeakEwma(), OrcaWeightedRoundRobin(), Maglev(1009)], ids=named)
def test_one_who_left_is_gone_and_nothing_of_it_is_left_to_the_garbage_collector(balancer: LoadBalancer) -> None:
    """Thousands may come and go, and while the collector looks for them every thread waits."""
    gone = Endpoint("10.99.0.1:80")
    stage = Stage(Policy(load_balancer=balancer), (A, B, gone))
    if isinstance(balancer, Reported):
        stage.view.report(stage.cluster.members[gone.address], LoadReport(rps_fractional=1.0, cpu_utilization=0.5))
    gc.disable()
    try:
        stage.set(A, B)
        stage.set(A, C)
        left = [found for found in gc.get_objects() if isinstance(found, Member) and found.endpoint == gone]
    finally:
        gc.enable()

    assert left == []


def test_those_who_left_are_closed_when_their_last_call_has_ended() -> None:
    stage = Stage(STANDARD)
    stage.runtime.call_at = lambda when, do: stage.clock.at(when, do).cancel  # type: ignore[method-assign]
    busy, idle = stage.cluster.members[A.address], stage.cluster.members[B.address]
    kept = [member.attachment("key", Renewed) for member in (busy, idle)]
    busy.started += 1

    stage.set(C)
    assert [k.closed for k in kept] == [0, 1]
    stage.clock.advance(1.0)
    assert kept[0].closed == 0
    assert stage.cluster.draining == {busy}
    busy.finished += 1
    stage.clock.advance(0.3)

    assert kept[0].closed == 1
    assert stage.cluster.draining == set()


def test_no_call_is_cut_off_because_its_endpoint_left() -> None:
    """Connections that no call needs are closed at once; the others when the last call has ended."""
    stage = Stage(STANDARD)
    stage.runtime.call_at = lambda when, do: stage.clock.at(when, do).cancel  # type: ignore[method-assign]
    member = stage.cluster.members[A.address]
    pooled, channel = member.attachment("pool", Kept), member.attachment("channel", Renewed)
    member.started += 1

    stage.set(B)
    assert (pooled.closed, channel.closed) == (1, 0)
    stage.clock.advance(3600.0)
    assert (pooled.closed, channel.closed) == (1, 0)
    assert stage.cluster.draining == {member}
    member.finished += 1
    stage.clock.advance(10.0)

    assert (pooled.closed, channel.closed) == (1, 1)
    assert stage.cluster.draining == set()


def test_closing_closes_all_that_is_kept() -> None:
    stage = Stage(STANDARD)
    kept = [member.attachment("key", Kept) for member in stage.cluster.members.values()]
    stage.cluster.members[A.address].started += 1
    stage.set(B, C)

    stage.cluster.close()

    assert [k.closed for k in kept] == [1, 1, 1]


def test_a_listener_may_call_back_from_any_event() -> None:
    """No lock is held: another thread may change the service while a listener waits for that thread."""
    stage = Stage(STANDARD.replace(circuit_breaker=CircuitBreaker(consecutive=2, failure_rate=None)))
    heard: list[str] = []
    blocked: list[str] = []

    def listener(event: object) -> None:
        heard.append(event.name)  # type: ignore[attr-defined]
        other = threading.Thread(
            target=lambda: (stage.cluster.rebuild(), stage.runtime.events.subscribe(print).close())
        )
        other.start()
        other.join(30)
        if other.is_alive():
            blocked.append(heard[-1])

    stage.runtime.events.subscribe(listener, "endpoint*", "breaker*", "panic*")
    stage.cluster.rebuild()
    stage.fail(A, 5)
    stage.fail(B, 5)
    stage.clock.advance(20.0)
    stage.cluster.look(20.0)
    stage.set(C)

    assert blocked == []
    assert {"endpoints.changed", "endpoint.ejected", "endpoint.restored", "breaker.changed"} <= set(heard)


def test_arming_and_disarming_equal_faults_is_counted() -> None:
    stage = Stage(STANDARD)
    fault = Fault(abort=Abort(503))
    first, second = stage.cluster.arm(fault), stage.cluster.arm(fault)

    first()
    assert stage.cluster.faults == (fault,)
    second()
    assert stage.cluster.faults == ()


def test_due_things_are_done_by_the_next_call_where_no_worker_runs() -> None:
    """The worker of these stages has been closed: calls alone bring an ejected endpoint and a breaker back."""
    breaker = CircuitBreaker(consecutive=5, failure_rate=None, open_for=3.0, probes=1)
    stage = Stage(STANDARD.replace(circuit_breaker=breaker), (A,))
    stage.fail(A, 5)
    stage.clock.advance(3.0)

    assert stage.perform().error is None


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    made = Runtime()
    yield made
    made.close()
    made.worker.join()


def test_the_worker_does_them_where_no_call_comes(runtime: Runtime) -> None:
    cluster = Cluster("service", runtime)
    cluster.apply(Snapshot((A, B)))
    view = View(cluster, Policy(circuit_breaker=CircuitBreaker(consecutive=1, failure_rate=None, open_for=0.05)))
    changed = threading.Event()
    runtime.events.subscribe(lambda event: event.new == "half-open" and changed.set(), "breaker.changed")  # type: ignore[attr-defined]
    member = cluster.members[A.address]
    member.started += 1

    view.settle(member, (), lost(), runtime.clock.now(), 0.0)

    assert changed.wait(30)


def test_a_host_that_refuses_is_probed_and_taken_back_at_once(runtime: Runtime) -> None:
    """It is back long before its ejection is over."""
    import socket

    from tests.engine.scripted import unsent

    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = Endpoint(f"127.0.0.1:{server.getsockname()[1]}")
        cluster = Cluster("service", runtime)
        cluster.apply(Snapshot((endpoint, B)))
        ejecting = OutlierDetection(base_ejection_time=300.0)
        view = View(cluster, Policy.standard().replace(outlier_detection=ejecting))
        restored = threading.Event()
        runtime.events.subscribe(lambda _: restored.set(), "endpoint.restored")
        began = runtime.clock.now()
        for _ in range(5):
            cluster.members[endpoint.address].started += 1
            view.settle(cluster.members[endpoint.address], (), unsent(), began, 0.0)
        assert view.ejections()

        assert restored.wait(60)
        assert not view.ejections()


def test_an_ejection_that_is_over_ends_every_back_off() -> None:
    """The host may have come back since it was last asked, and would be ejected again for what nobody dialled."""

    class Waiting:
        def renew(self) -> bool:
            return True

        def retire(self) -> None: ...

        def close(self) -> None: ...

    stage = Stage(STANDARD)
    member = stage.cluster.members[A.address]
    member.attachment("channel", Waiting)
    stage.fail(A, 5)
    assert member.attached("channel") is not None

    stage.clock.advance(20.0)
    stage.cluster.look(20.0)

    assert member.attached("channel") is None


def test_a_child_keeps_what_was_known_but_counts_and_connects_for_itself() -> None:
    stage = Stage(STANDARD)
    parent = stage.cluster.members[A.address]
    parent.started += 1
    stage.fail(B, 5)

    stage.cluster.reset_after_fork()

    assert set(stage.cluster.members) == {A.address, B.address, C.address}
    assert stage.cluster.members[A.address] is not parent
    assert stage.in_flight == {}
    assert dict(stage.view.ejections()) == {}
    assert stage.goes_straight()


@dataclass(frozen=True)
class Slow(RoundRobin):
    """Takes its time to build, in which others look at the service."""

    look: Callable[[], object] = print

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:
        """Let them look first."""
        self.look()
        return super().over(cells, rng, clock)


def test_endpoints_are_there_for_those_who_wait_when_calls_can_go_to_them() -> None:
    """A table may take seconds; a call that begins meanwhile waits, and is not told that there is nobody."""
    seen: list[tuple[bool, int]] = []
    cluster = Cluster("service", Runtime(FakeClock()))
    view = View(cluster, Policy(load_balancer=Slow(look=lambda: seen.append((cluster.ready, len(cluster.offered))))))
    cluster.apply(Snapshot((A, B)))

    assert set(seen) == {(False, 0)}
    assert (cluster.ready, cluster.offered) == (True, (A, B))
    assert view.choose() is not None
