"""Cancelling at any moment leaks no connection, no count in flight and no place in a queue."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any
from weakref import ref

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import svcmesh
from svcmesh import Policy
from tests.servers.grpc_process import blackhole_port
from tests.servers.http_process import HttpServer
from tests.transport.http.colours import in_flight

LIMITS = httpx.Limits(max_connections=10)


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


@pytest.fixture
async def service(server: HttpServer) -> AsyncIterator[svcmesh.Service]:
    async with svcmesh.Mesh({"orders": [server.address]}, policy=Policy()) as mesh:
        yield mesh.service("orders")


def pools(client: httpx.AsyncClient) -> list[Any]:
    transport: Any = client._transport
    return [each.pool for home in transport._loops.values() for each in home.connections.values()]


def assert_nothing_is_held(client: httpx.AsyncClient, service: svcmesh.Service) -> None:
    assert in_flight(service) == 0
    for pool in pools(client):
        assert pool.opened == pool.idle
        assert pool.waiting == 0


async def test_a_storm_of_cancellations_leaves_every_connection_usable(service: svcmesh.Service) -> None:
    """Thirty tasks over ten connections, cancelled for a second: the stock pool of httpx 0.28 loses all ten."""
    async with service.http_async_client(limits=LIMITS, timeout=30) as client:

        async def impatient() -> None:
            for turn in range(40):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(client.get("/slow/0.004"), 0.0005 * (turn % 20))

        await asyncio.gather(*(impatient() for _ in range(30)))
        assert_nothing_is_held(client, service)
        answers = await asyncio.gather(*(client.get("/echo") for _ in range(40)))
        assert {answer.status_code for answer in answers} == {200}
        assert_nothing_is_held(client, service)


async def test_a_second_cancellation_cannot_interrupt_the_clean_up(service: svcmesh.Service) -> None:
    """Whoever cancels twice in a row hits the clean-up of the first: nothing is given back by awaiting."""
    async with service.http_async_client(limits=LIMITS, timeout=30) as client:
        for delay in range(12):
            task = asyncio.create_task(client.get("/slow/0.5"))
            await asyncio.sleep(delay * 0.001)
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task
        assert_nothing_is_held(client, service)


async def test_steps_of_the_loop_are_all_safe_moments(service: svcmesh.Service) -> None:
    """Cancelled after one, two, three… steps of the loop, from the first line to the last, nothing is kept."""
    async with service.http_async_client(limits=LIMITS, timeout=30) as client:
        for steps in range(60):
            task = asyncio.create_task(client.get("/chunks/1"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert_nothing_is_held(client, service)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(patience=st.lists(st.floats(0, 0.02), min_size=4, max_size=24))
def test_any_pattern_of_impatience(server: HttpServer, patience: list[float]) -> None:
    """Whoever gives up when, the pool adds up afterwards."""

    async def check() -> None:
        async with svcmesh.Mesh({"orders": [server.address]}) as mesh:
            service = mesh.service("orders")
            async with service.http_async_client(limits=httpx.Limits(max_connections=2), timeout=30) as client:

                async def one(seconds: float) -> None:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(client.get("/slow/0.005"), seconds)

                await asyncio.gather(*map(one, patience))
                assert_nothing_is_held(client, service)
                assert (await client.get("/echo")).status_code == 200

    asyncio.run(check())


async def test_cancelled_while_connecting(service: svcmesh.Service) -> None:
    """A connect that nobody answers is closed with its task."""
    with blackhole_port() as port:
        async with svcmesh.Mesh({"orders": [f"127.0.0.1:{port}"]}) as mesh:
            service = mesh.service("orders")
            async with service.http_async_client() as client:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.get("/"), 0.05)
                assert_nothing_is_held(client, service)


async def test_cancelled_while_waiting_for_a_connection(service: svcmesh.Service) -> None:
    """The place in the queue is given up; the next one in it is served."""
    async with service.http_async_client(limits=httpx.Limits(max_connections=1)) as client:
        async with client.stream("GET", "/chunks/1"):
            waiting = [asyncio.create_task(client.get("/echo")) for _ in range(3)]
            await asyncio.sleep(0.02)
            waiting[0].cancel()
        assert (await waiting[1]).status_code == 200
        assert (await waiting[2]).status_code == 200
        assert_nothing_is_held(client, service)


async def test_cancelled_while_reading_the_body(service: svcmesh.Service) -> None:
    async with service.http_async_client() as client:

        async def read() -> None:
            async with client.stream("GET", "/drip") as response:
                async for _ in response.aiter_raw():
                    pass

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(), 0.1)
        assert_nothing_is_held(client, service)


async def test_a_streamed_response_that_is_dropped_gives_back_its_place(service: svcmesh.Service) -> None:
    """Without being closed or read: the connection is closed and the count settled when it is collected."""
    async with service.http_async_client(limits=httpx.Limits(max_connections=1), timeout=30) as client:
        response = await client.send(client.build_request("GET", "/drip"), stream=True)
        assert in_flight(service) == 1
        del response
        gc.collect()
        assert in_flight(service) == 0
        assert (await client.get("/echo")).status_code == 200


def test_a_blocking_response_that_is_dropped_gives_back_its_place(server: HttpServer) -> None:
    """The same on a blocking client, also from a thread that waits for the place."""
    with svcmesh.Mesh({"orders": [server.address]}, policy=Policy()) as mesh:
        service = mesh.service("orders")
        with service.http_client(limits=httpx.Limits(max_connections=1), timeout=30) as client:
            response = client.send(client.build_request("GET", "/drip"), stream=True)
            assert in_flight(service) == 1
            del response
            gc.collect()
            assert in_flight(service) == 0
            assert client.get("/echo").status_code == 200


def test_loops_one_after_the_other_share_a_client(server: HttpServer) -> None:
    """Each loop has connections of its own, and those of a loop that ended are closed, with no warning."""
    with svcmesh.Mesh({"orders": [server.address]}) as mesh:
        client = mesh.service("orders").http_async_client()

        async def call() -> int:
            return (await client.get("/echo")).status_code

        before = server.stats()["open"]
        assert [asyncio.run(call()) for _ in range(5)] == [200] * 5
        gc.collect()
        assert len(pools(client)) <= 1
        asyncio.run(client.aclose())
        for _ in range(3000):
            if server.stats()["open"] <= before:  # the server hears of their end later
                break
            time.sleep(0.01)
        assert server.stats()["open"] <= before


async def test_a_client_that_is_dropped_unclosed_says_nothing() -> None:
    """As the contract has it for meshes: it goes with its connections, and without a warning."""
    with HttpServer("own") as server:
        service = svcmesh.Mesh({"orders": [server.address]}).service("orders")
        client = service.http_async_client()
        await client.get("/echo")
        await expect_open(server, 2)  # the client's, and that of the question
        dropped = ref(pools(client)[0])
        del client
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            gc.collect()
        assert (dropped(), said) == (None, [])
        await expect_open(server, 1)
        assert in_flight(service) == 0


async def expect_open(server: HttpServer, count: int) -> None:
    """Wait until the server has so many connections: it is another process, and hears of their end later."""
    for _ in range(3000):
        if server.stats()["open"] == count:
            return
        await asyncio.sleep(0.01)
    assert server.stats()["open"] == count
