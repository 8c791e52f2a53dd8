"""`Mesh(max_stale=…)`: what is known is dropped when the registry could not be asked for too long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from svcmesh import ConfigError, Endpoint, Mesh, NoEndpoints, Service, Snapshot
from svcmesh.discovery import union


class Failing:
    """Answers once, and fails from the moment that it is told to."""

    def __init__(self) -> None:
        self.answered = False
        self.told = threading.Event()

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        if self.answered:
            raise ConnectionError("registry down")
        self.answered = True
        yield Snapshot((Endpoint("127.0.0.1:1"),))
        while not self.told.is_set():  # noqa: ASYNC110 - told by another thread
            await asyncio.sleep(0.01)
        raise ConnectionError("registry down")


def refused(service: Service) -> str:
    """Return why there is nobody to call, once there is nobody: the change may be a moment behind its event."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            service.pick()
        except NoEndpoints as error:
            return str(error)
        time.sleep(0.01)
    raise AssertionError("it is still called")


def test_calls_fail_and_say_why() -> None:
    """The event comes once, and so does what `Mesh.explain` says of it."""
    expired, registry = threading.Event(), Failing()
    with Mesh(discovery=registry, max_stale=0.2) as mesh:
        mesh.events.subscribe(lambda event: expired.set(), "discovery.expired")
        service = mesh.service("orders")
        service.wait_ready(30)
        assert service.pick().address == "127.0.0.1:1"
        registry.told.set()
        assert expired.wait(30)
        error = refused(service)
        assert "registry down" in error
        assert "what was known is not used any more (max_stale)" in error
        assert "so what was known is not used any more (max_stale)" in mesh.explain("orders")
        assert mesh.state()["services"]["orders"]["discovery"]["expired"]


def test_the_age_of_a_part_that_fails_beside_others_is_visible() -> None:
    """Although the watch holds, and the part keeps what it said."""
    registry = Failing()
    with Mesh(union(registry, {"orders": ["127.0.0.1:2"]})) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        registry.told.set()

        def discovery() -> dict[str, Any]:
            found: dict[str, Any] = mesh.state()["services"]["orders"]["discovery"]
            return found

        until = time.monotonic() + 30
        while discovery()["error"] is None and time.monotonic() < until:
            time.sleep(0.01)
        assert "1 of 2 sources: ConnectionError: registry down" in discovery()["error"]
        first = discovery()["stale_for"]
        time.sleep(0.05)
        assert discovery()["stale_for"] >= first + 0.05
        assert "sources: ConnectionError: registry down; what was known stays in force" in mesh.explain("orders")
        assert len(service.endpoints) == 2


@pytest.mark.parametrize("limit", [0, -1, float("nan"), "soon"])
def test_a_limit_is_a_number_of_seconds(limit: object) -> None:
    with pytest.raises((ConfigError, TypeError), match="max_stale"):
        Mesh({"orders": ["127.0.0.1:1"]}, max_stale=limit)  # type: ignore[arg-type]
