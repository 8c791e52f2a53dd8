"""A user's own transport in place of our connections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Self

import httpx
import pytest

import svcmesh
from tests.servers.http_process import HttpServer
from tests.transport.http_colours import in_flight


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


@pytest.fixture
def mesh(server: HttpServer) -> Iterator[svcmesh.Mesh]:
    with svcmesh.Mesh({"orders": [server.address], "empty": []}) as mesh:
        yield mesh


def test_an_inner_transport_gets_the_logical_url_and_the_endpoint(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    """And the attempt's time as timeouts; what it answers is counted like any other answer."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(503 if len(seen) == 1 else 200, text="mocked")

    orders = mesh.service("orders")
    with httpx.Client(transport=orders.http_transport(inner=httpx.MockTransport(answer)), timeout=60) as client:
        response = client.get("http://orders/path")
    info = svcmesh.info(response)
    assert info is not None
    assert (response.text, info.attempts, str(seen[0].url)) == ("mocked", 2, "http://orders/path")
    assert seen[0].extensions["svcmesh.endpoint"].address == server.address
    assert 0 < seen[0].extensions["timeout"]["read"] <= 3
    assert client.timeout.read == 60
    assert in_flight(orders) == 0


def test_an_inner_stock_transport_works_in_both_colours(server: HttpServer) -> None:
    """Under the logical URL it resolves names itself, so here the service is called what the machine is called."""
    with svcmesh.Mesh({"localhost": [server.address]}) as mesh:
        service = mesh.service("localhost")
        with httpx.Client(transport=service.http_transport(inner=httpx.HTTPTransport())) as client:
            assert client.get(f"http://localhost:{server.port}/chunks/2").text == "part 0;part 1;"

        async def check() -> None:
            transport = service.http_async_transport(inner=httpx.AsyncHTTPTransport())
            async with httpx.AsyncClient(transport=transport) as client:
                assert (await client.get(f"http://localhost:{server.port}/chunks/2")).text == "part 0;part 1;"
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.post(f"http://localhost:{server.port}/drop")

        asyncio.run(check())
        assert in_flight(service) == 0


def test_an_inner_transport_is_closed_once(mesh: svcmesh.Mesh) -> None:
    closed: list[str] = []

    class Closing(httpx.MockTransport):
        def close(self) -> None:
            closed.append("closed")

    inner = Closing(lambda request: httpx.Response(200))
    with httpx.Client(transport=mesh.service("orders").http_transport(inner=inner)) as client:
        client.get("http://orders/")
    assert closed == ["closed"]


def test_an_inner_transport_is_entered_and_left_with_the_client(mesh: svcmesh.Mesh) -> None:
    """Once each, in both colours: some start what they need only then, and learn there of the block's exception."""
    seen: list[str] = []

    class Inner(httpx.MockTransport):
        def __enter__(self) -> Self:
            seen.append("enter")
            return self

        def __exit__(self, *raised: object) -> None:
            seen.append(f"exit {getattr(raised[0], '__name__', None)}")

        async def __aenter__(self) -> Self:
            seen.append("aenter")
            return self

        async def __aexit__(self, *raised: object) -> None:
            seen.append(f"aexit {getattr(raised[0], '__name__', None)}")

    orders, inner = mesh.service("orders"), Inner(lambda request: httpx.Response(200))
    with httpx.Client(transport=orders.http_transport(inner=inner)):
        pass

    async def check() -> None:
        async with httpx.AsyncClient(transport=orders.http_async_transport(inner=inner)):
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(check())
    assert seen == ["enter", "exit None", "aenter", "aexit LookupError"]


@pytest.mark.parametrize("listening", [False, True])
def test_an_interrupted_call_is_nobodys_fault(mesh: svcmesh.Mesh, listening: bool) -> None:
    """Ctrl-C inside a call comes through, and nothing stays in flight, on either path."""

    def interrupted(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    orders = mesh.service("orders")
    if listening:
        mesh.events.subscribe(lambda event: None, "call.finished")
    with httpx.Client(transport=orders.http_transport(inner=httpx.MockTransport(interrupted))) as client:
        for _ in range(6):
            with pytest.raises(KeyboardInterrupt):
                client.get("http://orders/")
    assert in_flight(orders) == 0
    assert mesh.state()["services"]["orders"]["endpoints"][0]["ejected"] is None
