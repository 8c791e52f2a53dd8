"""The state in words: whom a call would go to, and why not to the others."""

from __future__ import annotations

from dataclasses import replace

from svcmesh.core.endpoint import Endpoint, Health
from svcmesh.engine.state import describe
from svcmesh.engine.view import View
from svcmesh.observe.explain import explain
from svcmesh.policy import Abort, CircuitBreaker, Fault, OutlierDetection, Policy
from tests.engine.scripted import A, B, C, Stage, lost

STANDARD = Policy.standard()


def told(stage: Stage) -> str:
    return explain(describe(stage.view))


def test_all_is_well() -> None:
    text = told(Stage(STANDARD))

    assert text.startswith("service service: 3 of 3 endpoints take calls\n")
    assert "10.0.0.1:80: takes calls; 0 in flight, 0 started, 0 unsuccessful" in text
    assert "timeout 10 s, per try 3 s, 3 attempts, 100.0 retries in the budget, LeastRequest" in text


def test_each_endpoint_says_why_it_takes_no_calls() -> None:
    stage = Stage(STANDARD, (A, B, C, Endpoint("h:1", weight=0), Endpoint("h:2", health=Health.UNHEALTHY)))
    stage.fail(A, 5)
    text = told(stage)

    assert "10.0.0.1:80: ejected for 5." in text
    assert "(consecutive_gateway_failure)" in text
    assert "h:1: weight 0" in text
    assert "h:2: unhealthy in the registry" in text
    assert "2 of 5 endpoints take calls" in text


def test_breakers_faults_and_panic_are_told() -> None:
    breaker = CircuitBreaker(consecutive=1, failure_rate=None, probes=1)
    stage = Stage(STANDARD.replace(circuit_breaker=breaker))
    stage.fail(A, 1)
    assert "10.0.0.1:80: circuit breaker open" in told(stage)
    stage.clock.advance(5.0)
    stage.cluster.look(5.0)
    assert "10.0.0.1:80: probed by its breaker" in told(stage)

    panicking = Stage(STANDARD)
    panicking.fail(A, 5)
    panicking.fail(B, 5)
    panicking.cluster.arm(Fault(abort=Abort(503)))
    assert "panic: only 1 of 3 endpoints are well" in told(panicking)
    assert "  priority 0: panic, 100 % of the calls to all its endpoints; 1 of 3 endpoints are well\n" in told(
        panicking
    )
    assert "1 faults are armed" in told(panicking)

    refused = Stage(Policy(circuit_breaker=CircuitBreaker(scope="service", consecutive=1, failure_rate=None)))
    refused.perform(lost())
    assert "its circuit breaker is open" in told(refused)


def test_a_panic_counts_as_the_priorities_do() -> None:
    """An open breaker keeps calls away and is no reason for a panic: one line said 0 of 3, the next one 1 of 3."""
    once = CircuitBreaker(consecutive=1, failure_rate=None)
    stage = Stage(Policy.standard().replace(circuit_breaker=once, retry=None))
    for endpoint in (A, B, C):
        stage.fail(endpoint, 1)
    for endpoint in (A, B):
        stage.fail(endpoint, 5)

    text = told(stage)

    assert text.startswith("service service: panic: only 1 of 3 endpoints are well, so others that answer")
    assert "to all its endpoints; 1 of 3 endpoints are well" in text
    assert "10.0.0.3:80: circuit breaker open" in text


def test_discovery_is_told_with_its_age_and_its_failure() -> None:
    stage = Stage(Policy(), ())
    stage.clock.advance(2.0)
    stage.cluster.failure = "registry down"
    assert "no endpoint is known, so calls are refused" in told(stage)
    assert "last change 2.0 s ago; it fails: registry down; what was known stays in force" in told(stage)

    stage.cluster.ready = False
    assert "no endpoint is known, so a call waits for the first answer of discovery" in told(stage)
    assert "no answer yet; it fails: registry down" in told(stage)
    assert "timeout none" in told(stage)


def test_those_who_drain_are_counted() -> None:
    stage = Stage(STANDARD)
    leaving = stage.cluster.members[A.address]
    leaving.started += 1
    stage.runtime.call_at = lambda *_: lambda: None  # type: ignore[method-assign]
    stage.set(B, C)

    assert "1 endpoints left discovery and are finishing their calls" in told(stage)
    leaving.finished += 1


def test_what_other_policies_of_the_service_do_is_told() -> None:
    stage = Stage(STANDARD)
    once = CircuitBreaker(consecutive=1, failure_rate=None)
    per_endpoint = View(stage.cluster, Policy(circuit_breaker=once))
    member = stage.cluster.members[A.address]
    member.started += 1
    per_endpoint.settle(member, (), lost(), stage.clock.now(), 0.0)
    whole = View(stage.cluster, Policy(timeout=2.0, circuit_breaker=replace(once, scope="service")))
    whole.breakers.of_service[0].settle(None, False, 0.0, whole.traffic)
    calm = View(stage.cluster, Policy(timeout=3.0))

    text = told(stage)

    assert "3 of 3 endpoints take calls" in text
    assert (
        "another policy: timeout none, per try none, 1 attempts, LeastRequest: 10.0.0.1:80 circuit breaker open" in text
    )
    assert "another policy: timeout 2 s, per try none, 1 attempts, LeastRequest: its circuit breaker is open" in text
    assert "timeout 3 s, per try none, 1 attempts, LeastRequest: no endpoint is ejected or has an open breaker" in text
    assert calm.policy.timeout == 3.0


def test_a_closed_mesh_refuses_calls() -> None:
    stage = Stage(STANDARD)
    stage.fail(A, 5)
    stage.runtime.close()

    text = told(stage)

    assert text.startswith("service service: its mesh has been closed, so calls are refused\n")
    assert "10.0.0.1:80: ejected for 5." in text
    assert "10.0.0.2:80: well; 0 in flight" in text
    assert "takes calls" not in text


def test_behind_an_open_circuit_of_the_service_no_endpoint_takes_calls() -> None:
    stage = Stage(Policy(circuit_breaker=CircuitBreaker(scope="service", consecutive=1, failure_rate=None)))
    stage.perform(lost())

    assert "10.0.0.1:80: well;" in told(stage)
    assert "takes calls" not in told(stage)


def test_where_all_are_ejected_and_a_panic_is_not_wanted_they_take_calls() -> None:
    """The readings of Envoy and gRPC let all go. Whom registry and checks call well is then called all the same."""
    all_of_them = OutlierDetection.grpc(consecutive_gateway_failure=5, max_ejection_percent=100)
    ill = Endpoint("h:1", health=Health.UNHEALTHY)
    stage = Stage(Policy(outlier_detection=all_of_them), (A, B, ill))
    stage.fail(A, 5)
    assert "1 of 3 endpoints take calls" in told(stage)
    stage.fail(B, 5)

    text = told(stage)

    picked = {cell.endpoint for cell in (stage.view.choose_from(None, (), ()) for _ in range(50)) if cell}
    assert picked == {A, B}
    assert text.startswith("service service: none of 3 endpoints is well, so 2 that are only ejected take calls\n")
    assert "10.0.0.1:80: takes calls, although ejected for 3" in text
    assert "h:1: unhealthy in the registry" in text


def test_a_panic_among_the_endpoints_of_a_port_is_told() -> None:
    ported = [Endpoint(f"10.0.0.{n}:{8080 if n < 3 else 8081}") for n in range(1, 9)]
    stage = Stage(STANDARD, tuple(ported))
    stage.view.on_port(8080)
    for endpoint in ported[:2]:
        stage.fail(endpoint, 5)

    assert "6 of 8 endpoints take calls; panic among those of a port: there others that answer" in told(stage)
