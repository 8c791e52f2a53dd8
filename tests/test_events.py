"""The public face of events: everything that can be heard has a type there."""

from __future__ import annotations

from svcmesh import Event, Mesh, events
from svcmesh.observe.events import EVENTS


def test_every_event_has_a_public_type_and_none_is_missing() -> None:
    public = {found for found in vars(events).values() if isinstance(found, type) and issubclass(found, Event)}

    assert public - {Event} == set(EVENTS.values())
    assert {found.__name__ for found in public} <= set(events.__all__)
    assert all((found.__doc__ or "").strip() for found in public)


def test_a_listener_tells_events_by_their_type() -> None:
    heard: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, events.AttemptFinished):
            heard.append(event.seconds)

    with Mesh({"orders": ["127.0.0.1:1"]}) as mesh, mesh.events.subscribe(listen):
        mesh.service("orders").guard(lambda: 1)()

    assert len(heard) == 1
