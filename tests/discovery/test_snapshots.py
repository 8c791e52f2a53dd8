"""A backend is anybody's code: what is wrong with it is an error of its own watch, and nobody else's."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

import svcmesh
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery import union
from svcmesh.discovery.snapshots import snapshots_of

ONE = Snapshot((Endpoint("10.0.0.1:1"),))
ENDS = [SystemExit(3), KeyboardInterrupt(), BaseException("out"), asyncio.CancelledError()]


class Ending:
    """Says something, and then ends like this where ``service`` is called ``bad``."""

    def __init__(self, error):
        self.error = error

    async def watch(self, service):
        yield ONE
        if service == "bad":
            raise self.error
        await asyncio.get_running_loop().create_future()


async def heard(discovery, service="bad"):
    """Return the snapshots that come, and the error that ends them."""
    found = []

    async def hear():
        async with aclosing(snapshots_of(discovery, service)) as snapshots:
            async for snapshot in snapshots:
                found.append(snapshot)  # noqa: PERF401 - what came before an error counts

    (ended,) = await asyncio.gather(hear(), return_exceptions=True)
    return found, ended


@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_what_would_end_more_than_a_watch_is_an_error(error):
    found, raised = asyncio.run(heard(Ending(error)))

    assert found == [ONE]
    assert isinstance(raised, DiscoveryError)
    assert str(raised) == f"Ending.watch raised {error!r}"


@pytest.mark.parametrize("combined", [False, True])
@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_a_backend_that_exits_harms_no_other_service(error, combined):
    backend = Ending(error)
    with svcmesh.Mesh(union(backend, {"bad": [], "good": []}) if combined else backend) as mesh:
        told = []
        mesh.events.subscribe(told.append, "discovery.failed")
        for name in ("bad", "good"):
            mesh.service(name).wait_ready(30)
            assert len(mesh.service(name).endpoints) == 1
    assert all("Ending.watch raised" in event.error for event in told)


def test_errors_come_through():
    error = OSError("gone")

    assert asyncio.run(heard(Ending(error))) == ([ONE], error)


def test_a_watch_that_is_no_generator_is_told_what_it_should_be():
    class Mistaken:
        def __init__(self, watch):
            self.watch = watch

    async def coroutine(service):
        return [service]

    for watch, kind in ((coroutine, "coroutine"), (lambda service: [service], "list")):
        _, error = asyncio.run(heard(Mistaken(watch)))
        assert str(error) == (
            f"Mistaken.watch returned a {kind}: make it an async generator, which is 'async def' with a 'yield'"
        )


def test_one_that_never_waits_lets_the_others_run():
    class Flood:
        async def watch(self, service):
            while True:
                yield ONE

    async def main():
        flood = asyncio.ensure_future(heard(Flood()))
        for _ in range(3):
            await asyncio.sleep(0)
        flood.cancel()
        await asyncio.wait([flood])

    asyncio.run(main())


@pytest.mark.parametrize("error", [SystemExit(3), ValueError("x")], ids=repr)
def test_whatever_closing_raises_is_nobodys_business(error):
    class Clumsy:
        async def watch(self, service):
            try:
                yield ONE
                await asyncio.get_running_loop().create_future()
            finally:
                raise error

    async def main():
        async with aclosing(snapshots_of(Clumsy(), "x")) as snapshots:
            return await anext(snapshots)

    assert asyncio.run(main()) is ONE
