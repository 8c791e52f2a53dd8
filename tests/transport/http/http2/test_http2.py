"""HTTP/2, where it was asked for: over TLS, by ALPN, under the logical name, and replaced when it has ended."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import svcmesh
from svcmesh import Policy
from tests.servers.http_process import HttpServer
from tests.transport.http.colours import COLOURS, Colour, in_flight
from tests.transport.http.connection.test_wire import CERTIFICATE, TLS


@pytest.fixture(params=COLOURS)
def caller(request: pytest.FixtureRequest) -> Colour:
    return COLOURS[request.param]


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("two", arguments=CERTIFICATE, module="tests.servers.h2_server") as server:
        yield server


@pytest.fixture
def orders(server: HttpServer) -> Iterator[svcmesh.Service]:
    with svcmesh.Mesh({"orders": [server.address]}) as mesh:
        yield mesh.service("orders")


def arguments() -> dict[str, object]:
    return {
        "http2": True,
        "verify": ssl.create_default_context(cafile=TLS / "ca.pem"),
        "base_url": "https://orders",
    }


def test_http2_is_spoken_under_the_logical_name(caller: Colour, orders: svcmesh.Service) -> None:
    with caller(orders, **arguments()) as client:
        for _ in range(3):
            response = client.get("/path")
            assert response.http_version == "HTTP/2"
            assert response.json() == {"path": "/path", "authority": "orders"}
    assert in_flight(orders) == 0


def test_a_refused_stream_was_not_sent(caller: Colour, orders: svcmesh.Service) -> None:
    """So even a POST is repeated."""
    with caller(orders, **arguments()) as client:
        client.get("/path")
        response = client.request("POST", f"/refuse/{caller.__name__}", content=b"once")
    assert response.status_code == 200
    info = svcmesh.info(response)
    assert info is not None
    assert info.attempts == 2


def test_a_connection_that_ended_while_idle_is_replaced(caller: Colour) -> None:
    """A server that was restarted costs no attempt: the kept connection is replaced inside it, without blame."""
    with (
        HttpServer("again", arguments=CERTIFICATE, module="tests.servers.h2_server") as server,
        svcmesh.Mesh({"orders": [server.address]}) as mesh,
        caller(mesh.service("orders"), **arguments()) as client,
    ):
        client.get("/path")
        server.kill()
        server.start()
        response = client.get("/path")
    info = svcmesh.info(response)
    assert info is not None
    assert (response.status_code, info.attempts) == (200, 1)


def test_http2_is_off_unless_asked_for(caller: Colour, server: HttpServer, orders: svcmesh.Service) -> None:
    """The server speaks nothing else here, and is not offered it: that fails, in words of httpx."""
    with caller(orders, **{**arguments(), "http2": False}) as client, pytest.raises(httpx.TransportError):
        client.get("/path")


def test_siblings_survive_a_timeout(orders: svcmesh.Service) -> None:
    """A stream that is given up takes no other one with it, as it does where they share a connection of httpcore."""

    async def check() -> None:
        service = orders.with_policy(Policy())
        async with service.http_async_client(**arguments()) as client:
            await client.get("/path")
            hurried = asyncio.create_task(client.get("/slow/60", timeout=0.1))
            patient = asyncio.create_task(client.get("/slow", timeout=30))
            with pytest.raises(httpx.ReadTimeout):
                await hurried
            assert (await patient).status_code == 200

    asyncio.run(check())
    assert in_flight(orders) == 0


def test_cancelled_at_random_moments_nothing_is_lost(orders: svcmesh.Service) -> None:
    """Fifty rounds over two connections: from the handshake to the last byte there is no moment that keeps one."""
    rng = random.Random(7)

    async def check() -> None:
        service = orders.with_policy(Policy())
        async with service.http_async_client(
            limits=httpx.Limits(max_connections=2), timeout=30, **arguments()
        ) as client:
            for _ in range(50):
                tasks = [asyncio.create_task(client.get("/path")) for _ in range(3)]
                for task in tasks:
                    await asyncio.sleep(rng.random() * 0.004)
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            answers = await asyncio.gather(*(client.get("/path") for _ in range(6)))
            assert {answer.status_code for answer in answers} == {200}
            transport: Any = client._transport
            (home,) = transport._loops.values()
            (connections,) = home.connections.values()
            assert (connections.pool.opened, connections.pool.waiting) == (connections.pool.idle, 0)

    asyncio.run(check())
    assert in_flight(orders) == 0


def test_http2_without_its_package(orders: svcmesh.Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"svcmesh\[http2\]"):
        orders.http_client(http2=True)
