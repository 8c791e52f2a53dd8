"""A service's breakers and one call: each permit is given back once, and only news of the service counts."""

from __future__ import annotations

import pytest

from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.gate import Gate
from svcmesh.policy import CircuitBreaker, Policy
from tests.engine.scripted import Stage, lost, status, success

BREAKER = CircuitBreaker(scope="service", consecutive=1, failure_rate=None, open_for=5.0, probes=1)


def gate_of(stage: Stage) -> Gate:
    gate = Gate(stage.view)
    assert gate.admit(stage.clock.now()) is None
    return gate


@pytest.mark.parametrize(
    ("outcome", "late", "opens"),
    [
        (success(), False, False),
        (lost(), False, True),
        (status("404"), False, False),
        (Outcome(Kind.CANCELLED), True, False),
        (Outcome(Kind.REJECTED), True, False),
        (Outcome(Kind.DEADLINE), True, True),
        (Outcome(Kind.DEADLINE), False, False),
    ],
)
def test_only_what_speaks_of_the_service_opens_it(outcome: Outcome, late: bool, opens: bool) -> None:
    stage = Stage(Policy(circuit_breaker=BREAKER))
    gate = gate_of(stage)

    gate.settle(outcome, 0.0, 1.0, late=late)

    assert gate.shut is opens
    assert (Gate(stage.view).admit(1.0) == 4.0) is opens


def test_a_probe_has_one_place_and_gives_it_back_once() -> None:
    stage = Stage(Policy(circuit_breaker=BREAKER))
    gate_of(stage).settle(lost(), 0.0, 1.0, late=False)
    stage.clock.advance(5.0)
    probe = gate_of(stage)
    assert Gate(stage.view).admit(5.0) == 0.0, "refused, and nobody knows when the probe ends"

    probe.settle(Outcome(Kind.CANCELLED), 5.0, 0.0, late=False)
    again = gate_of(stage)
    probe.settle(success(), 5.0, 0.0, late=False)

    assert stage.view.breakers.of_service[0].state == "half-open", "a second end of the first probe is nothing"
    again.settle(success(), 5.0, 0.0, late=False)
    assert stage.view.breakers.of_service[0].state == "closed"


def test_a_call_of_the_success_path_counts_without_having_asked() -> None:
    stage = Stage(Policy(circuit_breaker=BREAKER))
    gate = Gate(stage.view)
    gate.adopt()

    gate.settle(lost(), 0.0, 1.0, late=False)

    assert gate.shut
