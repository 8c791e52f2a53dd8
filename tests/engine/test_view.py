"""What callers under one policy see: who is offered to a plain call, who to the machine, and who to nobody."""

from __future__ import annotations

import gc
from weakref import ref

import pytest
import tenacity

from svcmesh.balance import LoadReport, OrcaWeightedRoundRobin
from svcmesh.core.deadline import deadline
from svcmesh.core.endpoint import Endpoint, Health
from svcmesh.core.outcome import Kind
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.view import View
from svcmesh.policy import Abort, CircuitBreaker, Fault, HealthCheck, OutlierDetection, Policy, Retry, Slow
from svcmesh.policy.health.finding import Unwell
from tests.engine.health.asked import Asked
from tests.engine.scripted import A, B, C, Exchange, Stage, drive, lost, success, unsent

STANDARD = Policy.standard()


def offered(stage: Stage) -> set[str]:
    return {cell.endpoint.address for cell in stage.view.picker.cells}


def test_a_plain_call_enters_and_is_counted() -> None:
    stage = Stage(STANDARD)

    member = stage.view.enter(0.0)

    assert member is not None
    assert stage.in_flight == {member.endpoint.address: 1}
    assert stage.view.budget.calls == 1
    member.finished += 1


@pytest.mark.parametrize(
    "policy",
    [
        Policy(faults=[Fault(abort=Abort(503), percent=1)]),
        Policy(retry=Retry(retry=tenacity.retry_if_result(bool))),
        Policy(circuit_breaker=CircuitBreaker(slow=Slow(seconds=1.0))),
    ],
)
def test_what_looks_at_every_call_sends_every_call_to_the_machine(policy: Policy) -> None:
    assert not Stage(policy).goes_straight()
    assert Stage(Policy()).goes_straight()


def test_listening_to_every_call_ends_the_straight_path_and_closing_brings_it_back() -> None:
    stage = Stage(STANDARD)
    stage.runtime.listeners_changed.append(stage.cluster.rebuild)

    with stage.runtime.events.subscribe(print, "call.finished"):
        assert not stage.goes_straight()
    assert stage.goes_straight()


def test_an_armed_fault_ends_it_too() -> None:
    stage = Stage(STANDARD)

    disarm = stage.cluster.arm(Fault(abort=Abort(503)))
    assert not stage.goes_straight()
    disarm()
    assert stage.goes_straight()


def test_five_failures_in_a_row_eject_and_the_time_brings_back() -> None:
    stage = Stage(STANDARD).listen("endpoint.*")

    stage.fail(A, 5)
    assert offered(stage) == {B.address, C.address}
    assert stage.events[0].endpoint == A
    assert stage.events[0].seconds == pytest.approx(5.25, abs=0.26)
    stage.clock.advance(5.6)
    assert stage.goes_straight(stage.clock.now())  # a plain call at another endpoint looks after it
    assert offered(stage) == {A.address, B.address, C.address}
    assert stage.names == ["endpoint.ejected", "endpoint.restored"]


def test_the_last_endpoint_is_never_ejected() -> None:
    stage = Stage(STANDARD.replace(panic_threshold=0.0))

    for endpoint in (A, B, C):
        stage.fail(endpoint, 10)

    assert len(offered(stage)) == 1


def test_in_a_panic_the_ejected_are_offered_again_but_not_those_that_refuse_connections() -> None:
    stage = Stage(STANDARD.replace(circuit_breaker=None)).listen("panic.*")
    refusing = stage.cluster.members[A.address]
    for _ in range(5):
        refusing.started += 1
        outcome = Exchange().classify(OSError())
        outcome.reason, outcome.blames = "connect-failure", True
        stage.view.settle(refusing, (), outcome, stage.clock.now(), 0.0)
    assert offered(stage) == {B.address, C.address}

    stage.fail(B, 5)  # one of three is well

    assert stage.view.panicking
    assert offered(stage) == {B.address, C.address}
    assert stage.names == ["panic.entered"]
    stage.clock.advance(6.0)
    stage.cluster.look(stage.clock.now())
    assert stage.names == ["panic.entered", "panic.left"]


def test_a_panic_is_told_once_however_many_policies_there_are() -> None:
    """It begins with the first one that panics, and is over with the last."""
    stage = Stage(STANDARD).listen("panic.*")
    eager = View(stage.cluster, STANDARD.replace(panic_threshold=0.9))
    alike = View(stage.cluster, STANDARD.replace(timeout=5.0))

    stage.fail(A, 5)  # two of three are well
    assert ([*eager.panicking], [*alike.panicking], stage.names) == ([0], [], ["panic.entered"])
    stage.fail(B, 5)
    assert ([*alike.panicking], [*stage.view.panicking], stage.names) == ([0], [0], ["panic.entered"])

    stage.clock.advance(6.0)
    stage.cluster.look(stage.clock.now())
    assert stage.names == ["panic.entered", "panic.left"]


def test_with_nobody_well_and_no_panic_those_listed_are_offered() -> None:
    """Fewer were left by discovery than were ejected: to call nobody would help nobody."""
    stage = Stage(STANDARD.replace(panic_threshold=0.0), (A, B))
    stage.fail(A, 5)

    stage.set(A)

    assert offered(stage) == {A.address}


def test_weight_zero_and_bad_health_are_not_offered() -> None:
    stage = Stage(Policy(), (A, Endpoint(B.address, weight=0), Endpoint(C.address, health=Health.UNHEALTHY)))

    assert offered(stage) == {A.address}


def test_breakers_are_shared_between_policies_with_equal_settings_and_not_with_others() -> None:
    breaker = CircuitBreaker(consecutive=1, failure_rate=None)
    stage = Stage(Policy(circuit_breaker=breaker))
    same, other = View(stage.cluster, Policy(timeout=1.0, circuit_breaker=breaker)), View(stage.cluster, Policy())

    stage.fail(A, 1)

    assert A.address not in {cell.endpoint.address for cell in same.picker.cells}
    assert A.address in {cell.endpoint.address for cell in other.picker.cells}


def test_a_view_that_is_dropped_is_not_rebuilt_any_more() -> None:
    stage = Stage(STANDARD)
    weak = ref(View(stage.cluster, Policy()))
    gc.collect()

    assert weak() is None


def test_the_deadline_is_the_earliest_of_policy_caller_and_surroundings() -> None:
    stage = Stage(Policy(timeout=10.0))

    assert stage.view.deadline(1.0) == 11.0
    assert stage.view.deadline(1.0, 30.0) == 31.0
    with deadline(2.0):
        assert stage.view.deadline(0.0, 30.0) == 2.0


def test_a_probe_that_fails_opens_the_circuit_again_for_all() -> None:
    breaker = CircuitBreaker(consecutive=1, failure_rate=None, open_for=5.0, probes=1)
    stage = Stage(Policy(circuit_breaker=breaker), (A,)).listen("breaker.changed")
    stage.fail(A, 1)
    stage.clock.advance(5.0)

    stage.perform(lost())

    assert [event.new for event in stage.events] == ["open", "half-open", "open"]
    assert offered(stage) == set()
    stage.clock.advance(5.0)
    assert stage.perform(success()).error is None
    assert stage.goes_straight(stage.clock.now())


def test_a_failure_rate_is_that_of_the_window_and_not_of_all_time() -> None:
    """Also where every call takes the machine: a thousand old successes do not hide that all of today's fail."""
    breaker = CircuitBreaker(failure_rate=0.5, minimum_calls=10, window=30.0)
    stage = Stage(Policy(circuit_breaker=breaker), (A,)).listen("call.finished")
    for _ in range(1000):
        stage.perform()
        stage.clock.advance(0.02)
    stage.clock.advance(60.0)

    for _ in range(10):
        stage.perform(lost())
        stage.clock.advance(0.1)

    assert offered(stage) == set()


def test_ejection_by_share_needs_a_share() -> None:
    detection = OutlierDetection(consecutive_gateway_failure=None, failure_percentage_request_volume=10)
    stage = Stage(Policy(outlier_detection=detection))
    for _ in range(10):
        member = stage.cluster.members[A.address]
        member.started += 1
        member.finished += 1
    stage.fail(A, 10)
    assert A.address in offered(stage)

    stage.fail(A, 60)

    assert A.address not in offered(stage)


def test_a_view_of_one_port_has_those_endpoints_and_shares_what_is_known_of_them() -> None:
    """The same view as long as there is such an endpoint: its pickers and budgets are kept."""
    other = Endpoint("10.0.0.4:81")
    stage = Stage(STANDARD, (A, B, other))
    view = stage.view.on_port(80)

    assert view is stage.view.on_port(80)
    assert {cell.endpoint for cell in view.picker.cells} == {A, B}
    stage.fail(A, 5)
    assert {cell.endpoint for cell in view.picker.cells} == {B}, "ejected in one view is ejected in all"
    assert {cell.endpoint for cell in stage.view.picker.cells} == {B, other}
    assert view.budget is stage.view.budget

    stage.set(other)
    assert view.enter(0.0) is None
    assert stage.view.on_port(81) is not view
    gone = ref(view)
    del view
    gc.collect()
    assert gone() is None


def succeeded(policy: Policy, sent: object) -> Stage:
    """Return a service whose discovery sends this after a while."""
    stage = Stage(Policy())
    stage.runtime.asker = lambda *_: Asked()
    stage.view = View(stage.cluster, policy, yields=True)
    stage.cluster.apply(Snapshot((A, B, C), policy=sent))
    return stage


def test_a_call_that_is_under_way_ends_by_the_policy_it_began_with() -> None:
    """Its permits, its budget and its attempts are those of the view that it entered."""
    stage = succeeded(STANDARD, None)
    call, exchange = stage.call(), Exchange()
    member = stage.view.enter(0.0)
    assert member is not None
    stage.cluster.apply(Snapshot((A, B, C), policy={"retry": None}))

    assert stage.view.enter(0.0) is None
    assert drive(call, exchange, stage.clock).kind is Kind.SUCCESS
    member.finished += 1
    stage.clock.advance(60.0)
    assert stage.in_flight == {}
    assert stage.view.current.policy == STANDARD.replace(retry=None)
    stage.view = stage.view.current
    assert stage.goes_straight(stage.clock.now())


def test_who_holds_an_old_successor_finds_the_newest_and_the_first_again() -> None:
    stage = succeeded(STANDARD, {"timeout": 1.0})
    first = stage.view.current
    stage.cluster.apply(Snapshot((A,), policy={"timeout": 2.0}))
    second = first.current
    assert (first.policy.timeout, second.policy.timeout) == (1.0, 2.0)
    assert stage.view.current is second.current is second
    stage.cluster.apply(Snapshot((A,)))

    assert first.current is second.current is stage.view.current is stage.view
    assert stage.goes_straight()
    assert first.choose() is second.choose() is None


def test_a_policy_that_comes_to_the_same_changes_nothing() -> None:
    stage = succeeded(STANDARD, {"timeout": STANDARD.timeout, "timeout_ends_streams": False})
    assert stage.view.current is stage.view
    assert stage.goes_straight()


def wanting(view: View) -> list[object]:
    """Return for whom the checks of a view's policy are made."""
    assert view.checking is not None
    return list(view.checking.wanted)


def test_a_call_that_is_under_way_goes_by_the_checks_of_its_policy() -> None:
    """Whom they found unwell before another policy came is no better for it."""
    stage = succeeded(Policy(health_check=HealthCheck(custom_health_check=print)), None)
    checking = stage.view.checking
    assert checking is not None
    checking.failing = {B.address: Unwell("no answer"), C.address: Unwell("no answer")}
    stage.cluster.rebuild()
    stage.cluster.apply(Snapshot((A, B, C), policy={"timeout": 1.0}))
    stage.cluster.rebuild()

    assert offered(stage) == {A.address}


def test_health_is_checked_as_the_policy_in_force_says() -> None:
    """And no more as one says that it took the place of."""
    own, other = HealthCheck(custom_health_check=print), HealthCheck(custom_health_check=repr)
    stage = succeeded(Policy(health_check=own), {"health_check": other})
    first = stage.view.current

    assert wanting(stage.view) == []
    assert wanting(first) == [first]
    stage.cluster.apply(Snapshot((A,)))
    assert wanting(first) == []
    assert wanting(stage.view) == [stage.view]


def test_a_fork_keeps_the_policy_in_force() -> None:
    stage = succeeded(
        Policy(health_check=HealthCheck(custom_health_check=print)), {"timeout": 1.0, "health_check": None}
    )
    stage.cluster.reset_after_fork()
    assert wanting(stage.view) == []
    assert not stage.goes_straight()
    assert stage.view.current.policy == Policy(timeout=1.0)


@pytest.mark.parametrize(
    ("own", "sent", "then"),
    [
        (Policy(), None, Policy()),
        (Policy(timeout=3.0), Policy(timeout=9.0), Policy(timeout=9.0)),
        (Policy(timeout=3.0, per_try_timeout=2.0), {"timeout": 1.0}, Policy(timeout=1.0, per_try_timeout=1.0)),
        (Policy(timeout=3.0), {"per_try_timeout": 5.0}, Policy(timeout=3.0, per_try_timeout=3.0)),
        (Policy(per_try_timeout=2.0), {"timeout": None}, Policy(per_try_timeout=2.0)),
    ],
)
def test_what_discovery_sends_is_laid_over_the_policy(own: Policy, sent: object, then: Policy) -> None:
    """A per-try timeout above the timeout is no limit (Envoy ignores it), and no error."""
    assert succeeded(own, sent).view.current.policy == then


def test_a_request_that_waited_for_the_first_snapshot_finds_its_port_under_the_policy_that_came_with_it() -> None:
    stage = succeeded(STANDARD, {"timeout": 1.0})
    on_port = stage.view.on_port(80)
    assert (on_port.policy.timeout, on_port.port) == (1.0, 80)
    assert on_port is stage.view.current.on_port(80)


@pytest.mark.parametrize(("end", "begun_anew"), [(unsent, True), (lost, False), (success, False)])
def test_a_balancer_that_goes_by_reports_is_told_of_refused_connections(end, begun_anew) -> None:
    """Another process answers when the endpoint is back; of a connection that was lost nobody knows why."""
    balancer = OrcaWeightedRoundRobin(blackout_period=10)
    stage = Stage(Policy(load_balancer=balancer), (A,))
    member = stage.cluster.members[A.address]
    stage.view.report(member, LoadReport(rps_fractional=100, cpu_utilization=0.5))
    stage.clock.advance(10)
    member.started += 1
    stage.view.settle(member, (), end(), 10.0, 0.0)
    stage.view.report(member, LoadReport(rps_fractional=100, cpu_utilization=0.5))

    assert balancer.load_of(member).since == (10.0 if begun_anew else 0.0)
