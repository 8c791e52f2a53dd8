"""The state of a service as plain values: what JSON can hold, and what is true at the moment."""

from __future__ import annotations

import json

import pytest

from svcmesh.core.endpoint import Endpoint, Locality
from svcmesh.engine.state import describe
from svcmesh.engine.view import View
from svcmesh.policy import Abort, CircuitBreaker, Fault, Policy
from tests.engine.scripted import A, B, C, Stage, lost

STANDARD = Policy.standard()


def test_json_can_hold_it() -> None:
    far = Endpoint("10.0.0.9:80", weight=2.5, locality=Locality("eu", "a"), priority=1)
    stage = Stage(STANDARD, (A, far))

    found = json.loads(json.dumps(describe(stage.view)))

    assert found["service"] == "service"
    assert found["endpoints"][1]["locality"] == ["eu", "a", ""]
    assert found["policy"]["timeout"] == 10.0
    assert found["policy"]["load_balancer"] == "LeastRequest"
    assert found["discovery"]["ready"] is True
    json.dumps(describe(Stage(Policy(), ()).view), allow_nan=False)


def test_it_tells_what_is_in_flight_ejected_and_open() -> None:
    breaker = CircuitBreaker(consecutive=5, failure_rate=None)
    stage = Stage(STANDARD.replace(circuit_breaker=(breaker, CircuitBreaker(scope="service"))))
    member = stage.cluster.members[B.address]
    member.started += 1
    stage.fail(A, 5)
    stage.cluster.arm(Fault(abort=Abort(503)))
    stage.clock.advance(1.0)

    found = describe(stage.view)
    member.finished += 1
    ejected, busy, idle = found["endpoints"]

    assert ejected["ejected"]["reason"] == "consecutive_gateway_failure"
    assert ejected["ejected"]["for"] == pytest.approx(4.25, abs=0.26)
    assert (ejected["breakers"], ejected["unsuccessful"]) == (["open"], 5)
    assert (busy["in_flight"], found["in_flight"]) == (1, 1)
    assert (idle["address"], idle["ejected"], idle["breakers"]) == (C.address, None, [])
    assert (found["breakers"], found["faults"], found["panic"]) == (["closed"], 1, False)
    assert found["retry_tokens"] == 100.0
    assert found["discovery"]["age"] == 1.0


def test_other_policies_of_the_service_are_told_with_what_they_keep_calls_from() -> None:
    """That of a function, of a client: calls under it may be refused while all is well under the service's own."""
    stage = Stage(STANDARD)
    strict = STANDARD.replace(circuit_breaker=CircuitBreaker(consecutive=1, failure_rate=None), timeout=5.0)
    views = [View(stage.cluster, strict), View(stage.cluster, strict, port=A.port)]
    member = stage.cluster.members[A.address]
    member.started += 1
    views[0].settle(member, (), lost(), stage.clock.now(), 0.0)

    found = json.loads(json.dumps(describe(stage.view)))
    (other,) = found["other_policies"]

    assert [each["breakers"] for each in found["endpoints"]] == [[], [], []]
    assert other["policy"]["timeout"] == 5.0
    assert [(each["address"], each["breakers"]) for each in other["held_back"]] == [(A.address, ["open"])]
