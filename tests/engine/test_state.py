"""The state of a service as plain values: what JSON can hold, and what is true at the moment."""

from __future__ import annotations

import json

import pytest

from svcmesh.balance import RoundRobin
from svcmesh.core.endpoint import Endpoint, Locality
from svcmesh.engine.breakers import Breakers
from svcmesh.engine.member import Member
from svcmesh.engine.state import describe
from svcmesh.engine.view import View
from svcmesh.policy import Abort, CircuitBreaker, Fault, Policy
from svcmesh.policy.breaker import Breaker
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


def test_endpoints_that_are_well_are_not_looked_at_again_for_each_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard for each of a hundred functions, and a thousand endpoints: that is the sum, and not the product."""
    looked_at: list[Member] = []
    compared: list[object] = []
    ask, equal = Breakers.of, Policy.__eq__

    def of(breakers: Breakers, member: Member) -> list[Breaker]:
        looked_at.append(member)
        return ask(breakers, member)

    def compare(one: Policy, other: object) -> bool:
        compared.append(other)
        return equal(one, other)

    monkeypatch.setattr(Breakers, "of", of)
    monkeypatch.setattr(Policy, "__eq__", compare)
    stage = Stage(STANDARD, tuple(Endpoint(f"10.0.0.{n}:80") for n in range(1, 31)))
    stage.fail(A, 5)
    views = [View(stage.cluster, STANDARD.replace(timeout=5.0 + n)) for n in range(20)]
    looked_at.clear()

    found = describe(stage.view)["other_policies"]

    assert [[each["address"] for each in other["held_back"]] for other in found] == [[A.address]] * len(views)
    assert len(looked_at) == 30 + len(views)
    assert len(compared) < 2 * len(views)


def test_policies_that_cannot_be_hashed_are_told_once_each() -> None:
    """They may hold something of the user's, such as a balancer with settings in a list."""

    class Unhashable(RoundRobin):
        __hash__ = None  # type: ignore[assignment]

    stage = Stage(STANDARD)
    held = [Policy(load_balancer=Unhashable(), timeout=timeout) for timeout in (1.0, 1.0, 2.0)]
    views = [View(stage.cluster, policy) for policy in held]

    found = describe(stage.view)["other_policies"]

    with pytest.raises(TypeError):
        hash(held[0])
    assert sorted(other["policy"]["timeout"] for other in found) == [1.0, 2.0]
    assert len(describe(views[0])["other_policies"]) == 2


def test_a_panic_among_the_endpoints_of_one_port_is_one_of_the_policy() -> None:
    """The event tells of it, and callers of a URL with that port feel it."""
    ported = [Endpoint(f"10.0.0.{n}:{8080 if n < 3 else 8081}") for n in range(1, 9)]
    stage = Stage(STANDARD, tuple(ported)).listen("panic.*")
    other = View(stage.cluster, STANDARD.replace(timeout=5.0))
    stage.view.on_port(8080)
    for endpoint in ported[:2]:
        stage.fail(endpoint, 5)

    found = describe(stage.view)

    assert stage.names == ["panic.entered"]
    assert [level["panic"] for level in found["priorities"]] == [False]
    assert found["panic"] is True
    assert [each["panic"] for each in found["other_policies"]] == [False]
    assert describe(other)["other_policies"][0]["panic"] is True
