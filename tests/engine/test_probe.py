"""Whether a host that refused connections is back."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from pathlib import Path

import pytest

from svcmesh.core.endpoint import Endpoint
from svcmesh.engine import probe as module
from svcmesh.engine import resolve as resolving
from svcmesh.engine.probe import FIRST_WAIT, LONGEST_WAIT, answers, probe
from svcmesh.testing import FakeClock
from svcmesh.testing.sim import run
from tests.servers.ports import HeldPort


async def test_a_listening_socket_answers_and_a_closed_one_does_not(tmp_path: Path) -> None:
    with HeldPort() as port:
        with socket.create_server((port.host, port.number)):
            assert await answers(Endpoint(port.address))
        assert not await answers(Endpoint(port.address))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        assert await answers(Endpoint(f"unix:{tmp_path}/s"))
    assert not await answers(Endpoint(f"unix:{tmp_path}/none"))


async def test_a_name_is_asked_without_a_thread() -> None:
    """At any of its addresses; a scope of IPv6, which only the system's resolver reads, is not asked."""
    before = threading.active_count()
    with HeldPort() as port:
        endpoint = Endpoint(f"localhost:{port.number}")
        with socket.create_server((port.host, port.number)):
            assert await answers(endpoint)
        assert not await answers(endpoint)
    assert not await answers(Endpoint("[fe80::1%lo]:1"))
    assert threading.active_count() == before


async def test_a_name_that_takes_too_long_to_resolve_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit holds for all of it."""

    async def silent(host: str) -> list[str]:
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(resolving, "resolve", silent)

    assert not await answers(Endpoint("slow.example:1"), timeout=0.01)


def test_it_asks_at_growing_intervals_until_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first soon, and never more than a good second apart, so that traffic is back within two."""
    clock = FakeClock()
    asked: list[float] = []

    async def answer(endpoint: Endpoint) -> bool:
        asked.append(clock.now())
        return len(asked) == 12

    monkeypatch.setattr(module, "answers", answer)

    assert run(probe(Endpoint("10.0.0.1:1"), clock, random.Random(1), lambda: True), kernel=clock)
    gaps = [after - before for before, after in zip([0.0, *asked], asked, strict=False)]
    assert gaps[0] <= FIRST_WAIT * 1.2
    assert all(gap <= LONGEST_WAIT * 1.2 for gap in gaps)
    assert gaps[-1] >= LONGEST_WAIT * 0.8


def test_it_stops_asking_when_nobody_wants_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()

    async def answer(endpoint: Endpoint) -> bool:
        raise AssertionError

    monkeypatch.setattr(module, "answers", answer)
    wanted = iter([True, False, False])

    assert not run(probe(Endpoint("10.0.0.1:1"), clock, random.Random(1), lambda: next(wanted)), kernel=clock)
