"""Who listens to what: patterns, failing listeners, listeners that come and go while they are told."""

from __future__ import annotations

from typing import Any

import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.observe.bus import Events
from svcmesh.observe.events import Event
from svcmesh.testing import FakeClock


def heard(events: Events, *patterns: str) -> list[Event]:
    found: list[Event] = []
    events.subscribe(found.append, *patterns)
    return found


def test_patterns_choose_events_and_without_one_all_are_heard() -> None:
    events = Events(FakeClock(3.0))
    panics, everything = heard(events, "panic.*"), heard(events)

    events.emit("panic.entered", "s")
    events.emit("retry.refused", "s", reason="budget")

    assert [event.name for event in panics] == ["panic.entered"]
    assert [(event.name, event.time, event.service) for event in everything] == [
        ("panic.entered", 3.0, "s"),
        ("retry.refused", 3.0, "s"),
    ]


@pytest.mark.parametrize(("listener", "pattern"), [(print, "nothing.*"), (print, ""), (3, "*")])
def test_what_could_never_be_heard_is_refused(listener: Any, pattern: str) -> None:
    with pytest.raises(ConfigError, match="pattern|listener"):
        Events(FakeClock()).subscribe(listener, pattern)


def test_nothing_is_built_that_nobody_wants() -> None:
    """The fields are wrong, and nobody notices."""
    events = Events(FakeClock())
    events.emit("retry.refused", "s", nonsense=1)

    with events.subscribe(print, "panic.*"):
        events.emit("retry.refused", "s", nonsense=1)
    assert events.wanted == frozenset()


def test_a_listener_that_raises_is_reported_and_the_others_are_told() -> None:
    events = Events(FakeClock())
    events.subscribe(lambda _: 1 / 0)
    others, failures = heard(events, "panic.*"), heard(events, "listener.failed")

    events.emit("panic.left", "s")

    assert len(others) == 1
    assert [(f.service, f.error) for f in failures] == [("s", "ZeroDivisionError: division by zero")]  # type: ignore[attr-defined]


def test_listeners_may_come_and_go_while_they_are_told() -> None:
    events = Events(FakeClock())
    told: list[str] = []

    def once(event: Event) -> None:
        told.append(event.name)
        subscription.close()
        subscription.close()
        events.subscribe(lambda _: told.append("new"), "panic.left")

    subscription = events.subscribe(once, "panic.*")
    events.emit("panic.left", "s")
    events.emit("panic.left", "s")

    assert told == ["panic.left", "new"]


def test_changes_of_listeners_are_told_with_no_lock_held() -> None:
    counts: list[int] = []

    def changed() -> None:
        counts.append(len(events.wanted))
        if len(counts) == 1:
            events.subscribe(print, "panic.left").close()

    events = Events(FakeClock(), changed)
    events.subscribe(print, "panic.entered")

    assert counts == [1, 2, 1]
