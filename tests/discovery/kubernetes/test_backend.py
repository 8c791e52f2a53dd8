"""From slices to snapshots, in virtual time: paced where they come fast, and never deaf to what breaks."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from random import Random

import pytest

from svcmesh.core.clock import sleep_until
from svcmesh.core.emit import silent
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.kubernetes import backend
from svcmesh.discovery.kubernetes.access import Access
from svcmesh.discovery.kubernetes.answers import Event, Page
from svcmesh.discovery.kubernetes.backend import KubernetesDiscovery
from svcmesh.discovery.kubernetes.errors import KubernetesError
from svcmesh.discovery.kubernetes.slices import Entry, Port, Slice
from svcmesh.discovery.kubernetes.watch import Surface
from svcmesh.discovery.lines import Server
from svcmesh.testing.sim import run, virtual_clock


def of(number, *, ready=True, service="orders"):
    entries = (Entry(f"10.0.0.{number}", ready=ready, draining=False),)
    return Slice("x", service, str(number), 4, (Port("http", 80),), entries)


def changed(number, **more):
    return [Event(of(number, **more), str(number))]


class Script:
    """A client with one slice, whose watch says these things: pauses (seconds), events, and perhaps an error."""

    def __init__(self, *steps, first=None):
        self.first, self.steps, self.lists = first or of(0), steps, 0

    @asynccontextmanager
    async def open(self):
        yield

    async def page(self, scope, more="", limit=0, known=None):
        self.lists += 1
        return Page((self.first,), "1", "")

    async def watch(self, scope, version, seconds):
        clock = virtual_clock()
        for step in self.steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, float):
                await sleep_until(clock, clock.now() + step)
            else:
                yield step


@pytest.fixture(params=[20, 0], ids=["alone", "together"])
def watched(request, monkeypatch):
    """Return what watches for so long: ``(instant, hosts)`` of snapshots, and what ended it."""
    monkeypatch.setattr(backend, "MOST_SINGLE", request.param)

    def watching(script, seconds=1000.0, service="orders"):
        found = []

        async def main():
            clock = virtual_clock()
            discovery = KubernetesDiscovery(Access(Server("http://x:1")), clock=clock)
            discovery._surface = Surface(script, clock, silent, Random(1), 300.0)

            async def follow():
                async with aclosing(discovery.watch(service)) as snapshots:
                    async for snapshot in snapshots:
                        found.append((round(clock.now(), 3), [e.host for e in snapshot.endpoints]))  # noqa: PERF401 - also before an error

            task = asyncio.ensure_future(follow())
            limit = asyncio.ensure_future(sleep_until(clock, seconds))
            await asyncio.wait([task, limit], return_when="FIRST_COMPLETED")
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
                return None
            return task.exception()

        return found, run(main())

    return watching


def test_a_change_is_told_at_once(watched):
    found, _ = watched(Script(5.0, changed(1), 5.0, changed(2), 1e9))

    assert found == [(0, ["10.0.0.0"]), (5, ["10.0.0.1"]), (10, ["10.0.0.2"])]


def test_the_same_endpoints_again_are_no_news(watched):
    found, _ = watched(Script(5.0, changed(0), 5.0, [Event(None, "9")], 1e9))

    assert found == [(0, ["10.0.0.0"])]


def test_many_changes_are_told_at_a_pace_and_the_last_one_is_not_lost(watched):
    steps = [step for number in range(1, 201) for step in (0.01, changed(number % 250))]
    found, _ = watched(Script(*steps, 1e9))

    assert len(found) < 40
    assert found[-1][1] == ["10.0.0.200"]
    assert found[-1][0] <= 2.0 + 0.21


@pytest.mark.parametrize("changes", [0, 1, 25, 60])
def test_what_breaks_is_told_also_while_news_are_held_back(watched, changes):
    steps = [step for number in range(1, changes + 1) for step in (0.001, changed(number))]
    _, error = watched(Script(*steps, 0.001, KubernetesError("no leader")))

    assert str(error) == "no leader"


def test_a_port_that_is_not_there_is_an_error(watched):
    _, error = watched(Script(1e9), service="orders:grpc")

    assert isinstance(error, DiscoveryError)
    assert "no port 'grpc'" in str(error)


def test_changes_of_other_services_are_none_of_ours(watched):
    found, _ = watched(Script(5.0, [Event(of(7, service="billing")._replace(name="y"), "7")], 1e9))

    assert found == [(0, ["10.0.0.0"])]
