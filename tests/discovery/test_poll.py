"""A function as a registry: asked again and again, and never in the way of anything else."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest

import svcmesh
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery import poll
from svcmesh.discovery.uri_parts import Surroundings
from svcmesh.testing.sim import run, virtual_clock


async def first_of(discovery, service="web"):
    watch = discovery.watch(service)
    try:
        return await anext(watch)
    finally:
        await watch.aclose()


def test_the_function_is_asked_again_after_a_spread_pause():
    asked = []

    async def fn(service):
        asked.append((service, virtual_clock().now()))
        return [f"10.0.0.{len(asked)}:80"]

    async def main():
        watch = poll(fn, 10.0).opened(Surroundings(virtual_clock(), lambda *_, **__: None, {})).watch("web")
        found = [(await anext(watch)).endpoints[0].address for _ in range(3)]
        await watch.aclose()
        return found

    assert run(main()) == ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
    (_, one), (_, two), (service, three) = asked
    assert service == "web"
    assert 9 <= two - one <= 11
    assert 9 <= three - two <= 11
    assert two - one != three - two


class Callable:
    def __call__(self, service):
        return [f"{service}:80"]


class AsyncCallable:
    async def __call__(self, service):
        return [f"{service}:80"]


async def coroutine(service):
    return [f"{service}:80"]


@pytest.mark.parametrize(
    "fn",
    [
        lambda service: [f"{service}:80"],
        lambda service: (Endpoint(f"{service}:80"),),
        lambda service: (address for address in [f"{service}:80"]),
        lambda service: Snapshot((Endpoint(f"{service}:80"),)),
        lambda service: coroutine(service),  # noqa: PLW0108 - a plain function that returns a coroutine
        functools.partial(lambda port, service: [f"{service}:{port}"], 80),
        functools.partial(coroutine),
        coroutine,
        Callable(),
        AsyncCallable(),
    ],
)
async def test_a_function_may_be_of_any_kind_and_return_addresses_endpoints_or_a_snapshot(fn):
    assert (await first_of(poll(fn, 1.0))).endpoints == (Endpoint("web:80"),)


async def test_an_empty_list_is_held_back_and_an_authoritative_one_is_not():
    assert not (await first_of(poll(lambda _: [], 1.0))).authoritative
    assert (await first_of(poll(lambda _: Snapshot((), authoritative=True), 1.0))).authoritative


@pytest.mark.parametrize("found", [None, "10.0.0.1:80", b"x", 7, Endpoint("a:1"), ["a"], [None], ["a:1", "a:1"]])
async def test_what_is_no_list_is_an_error_that_names_the_function(found):
    def registry(_):
        return found

    with pytest.raises(DiscoveryError, match="registry returned"):
        await first_of(poll(registry, 1.0))


@pytest.mark.parametrize("error", [OSError("down"), StopIteration("x"), svcmesh.DiscoveryError("down")])
async def test_what_a_function_raises_ends_the_watch(error):
    def fn(_):
        raise error

    with pytest.raises((type(error), RuntimeError)):
        await first_of(poll(fn, 1.0))


async def test_a_function_that_wants_to_end_the_program_ends_the_watch_only():
    def fn(_):
        raise SystemExit(3)

    with pytest.raises(DiscoveryError, match=r"SystemExit\(3\)"):
        await first_of(poll(fn, 1.0))


async def test_a_function_that_blocks_does_so_on_a_thread_of_its_own():
    held, released = threading.Event(), threading.Event()

    def fn(_):
        held.set()
        released.wait(30)
        return ["a:1"]

    task = asyncio.create_task(first_of(poll(fn, 1.0)))
    while not held.is_set():  # noqa: ASYNC110 - it is set in another thread; this loop runs all the while
        await asyncio.sleep(0.001)
    released.set()

    assert (await task).endpoints == (Endpoint("a:1"),)


def test_a_mesh_closes_while_a_function_hangs():
    held, released = threading.Event(), threading.Event()

    def fn(_):
        held.set()
        released.wait(30)
        return ["a:1"]

    mesh = svcmesh.Mesh(poll(fn, 1.0))
    with pytest.raises(svcmesh.NoEndpoints):
        mesh.service("web").wait_ready(0.05)
    held.wait(30)
    mesh.close()
    try:
        assert not any(thread.name == "svcmesh-worker" for thread in threading.enumerate())
    finally:
        released.set()


def test_a_mesh_follows_a_function_and_outlives_its_failures():
    listed = ["10.0.0.1:80"]

    def fn(_):
        if not listed:
            raise OSError("down")
        return list(listed)

    with svcmesh.Mesh(poll(fn, 0.01)) as mesh:
        changed, failed = threading.Event(), threading.Event()
        service = mesh.service("web")
        service.wait_ready(30)
        mesh.events.subscribe(lambda _: changed.set(), "endpoints.changed")
        mesh.events.subscribe(lambda _: failed.set(), "discovery.failed")
        listed.append("10.0.0.2:80")
        assert changed.wait(30)
        listed.clear()
        assert failed.wait(30)
        assert len(service.endpoints) == 2


@pytest.mark.parametrize(
    ("fn", "every"),
    [
        (7, 1.0),
        (None, 1.0),
        (functools.partial(len, "web"), 1.0),
        (lambda service, port: [], 1.0),
        (len, 0),
        (len, -1),
        (len, None),
        (len, "often"),
    ],
    ids=["number", "none", "no-argument-left", "two-arguments", "0", "-1", "every-none", "text"],
)
def test_what_cannot_be_polled_is_refused_when_it_is_built(fn, every):
    with pytest.raises(ConfigError, match=r"fn|every"):
        poll(fn, every)
