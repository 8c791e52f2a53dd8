"""Every event of the design is there with its fields, and frozen."""

from __future__ import annotations

import dataclasses

import pytest

from svcmesh.observe.events import EVENTS, PER_CALL, PanicEntered

DESIGN = {
    "endpoints.changed": {"added", "removed", "age"},
    "discovery.failed": {"error", "retry_in"},
    "discovery.recovered": set(),
    "discovery.cached": {"age"},
    "discovery.expired": {"age"},
    "endpoint.ejected": {"endpoint", "reason", "seconds"},
    "endpoint.restored": {"endpoint"},
    "endpoint.unhealthy": {"endpoint", "reason", "first"},
    "endpoint.healthy": {"endpoint", "first"},
    "health_check.finished": {"endpoint", "seconds", "passed", "reason"},
    "breaker.changed": {"endpoint", "old", "new"},
    "panic.entered": set(),
    "panic.left": set(),
    "retry.scheduled": {"attempt", "endpoint", "delay", "reason"},
    "retry.refused": {"reason"},
    "call.rejected": {"reason", "retry_after"},
    "fault.injected": {"kind"},
    "attempt.finished": {"endpoint", "seconds", "outcome"},
    "call.finished": {"attempts", "seconds", "outcome"},
    "registration.registered": set(),
    "registration.lost": set(),
    "registration.left": set(),
    "config.reloaded": set(),
    "config.warning": set(),
    "listener.failed": set(),
}


@pytest.mark.parametrize("name", DESIGN)
def test_it_has_its_fields(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(EVENTS[name])}  # type: ignore[arg-type]

    assert fields >= DESIGN[name] | {"time", "service"}
    assert EVENTS[name].name == name  # type: ignore[attr-defined]


def test_events_are_frozen_and_say_their_name() -> None:
    event = PanicEntered(time=1.0, service="s")

    assert event.name == "panic.entered"
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.time = 2.0  # type: ignore[misc]


def test_events_of_every_call_are_known_as_such() -> None:
    assert set(EVENTS) >= PER_CALL == {"attempt.finished", "call.finished"}
