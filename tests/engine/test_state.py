"""The state of a service as plain values: what JSON can hold, and what is true at the moment."""

from __future__ import annotations

import json

import pytest

from svcmesh.core.endpoint import Endpoint, Locality
from svcmesh.engine.state import describe
from svcmesh.policy import Abort, CircuitBreaker, Fault, Policy
from tests.engine.scripted import A, B, C, Stage

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
