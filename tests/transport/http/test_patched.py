"""Tools that replace the method of httpx's stock transports: tracers wrap it, mocks put their own in its place."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import svcmesh
from tests.servers.http_process import HttpServer
from tests.transport.http.colours import COLOURS, Colour, in_flight


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


@pytest.fixture
def mesh(server: HttpServer) -> Iterator[svcmesh.Mesh]:
    with svcmesh.Mesh({"orders": [server.address], "empty": []}) as mesh:
        yield mesh


@pytest.fixture(params=COLOURS)
def caller(request: pytest.FixtureRequest) -> Colour:
    return COLOURS[request.param]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a tracer sees; it adds a header to each request, as tracers do."""
    found: list[str] = []
    stock, async_stock = httpx.HTTPTransport.handle_request, httpx.AsyncHTTPTransport.handle_async_request

    def note(transport: Any, request: httpx.Request) -> None:
        assert isinstance(transport, httpx.HTTPTransport | httpx.AsyncHTTPTransport)
        found.append(str(request.url))
        request.headers["traceparent"] = "traced"

    @functools.wraps(stock)
    def traced(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        note(transport, request)
        return stock(transport, request)

    @functools.wraps(async_stock)
    async def async_traced(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        note(transport, request)
        return await async_stock(transport, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", traced)
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", async_traced)
    return found


@pytest.mark.parametrize("path", ["/echo", "/first/drop/echo"])
def test_a_tracer_sees_each_logical_request_once(
    caller: Colour, mesh: svcmesh.Mesh, seen: list[str], path: str
) -> None:
    """With the URL that the caller wrote, however many attempts it took; its header is sent with each of them."""
    path += f"?{caller.__name__}"
    with caller(mesh.service("orders")) as client:
        response = client.get(path)
    assert seen == [f"http://orders{path}"]
    assert ["traceparent", "traced"] in response.json()["headers"]
    assert svcmesh.info(response) is not None
    assert response.http_version == "HTTP/1.1"


def test_a_tracer_sees_errors(caller: Colour, mesh: svcmesh.Mesh, seen: list[str]) -> None:
    """As they are: refusals of ours, and httpx's own, with the request."""
    with caller(mesh.service("empty")) as client, pytest.raises(svcmesh.NoEndpoints):
        client.get("/")
    with caller(mesh.service("orders")) as client, pytest.raises(httpx.RemoteProtocolError) as caught:
        client.request("POST", "/cut-chunked")
    assert caught.value.request.url.path == "/cut-chunked"
    assert seen == ["http://empty/", "http://orders/cut-chunked"]


def test_streams_stay_in_flight_until_they_end(mesh: svcmesh.Mesh, seen: list[str]) -> None:
    orders = mesh.service("orders")
    with orders.http_client() as client:
        with client.stream("GET", "/chunks/3") as response:
            assert in_flight(orders) == 1
            assert response.read() == b"part 0;part 1;part 2;"
        assert in_flight(orders) == 0
        assert client.get("/echo").json()["connection"] >= 0
    assert len(seen) == 2


def test_what_is_passed_on_is_seen_once(mesh: svcmesh.Mesh, server: HttpServer, seen: list[str]) -> None:
    """The plain transport behind ours is a stock one, which the tool has its hands on, too."""
    url = f"http://{server.address}/echo"
    with httpx.Client(transport=mesh.http_transport(passthrough=True)) as client:
        assert client.get(url).status_code == 200

    async def check() -> None:
        async with httpx.AsyncClient(transport=mesh.http_async_transport(passthrough=True)) as client:
            assert (await client.get(url)).status_code == 200

    asyncio.run(check())
    assert seen == [url, url]


def test_a_mock_answers_in_our_place(mesh: svcmesh.Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is dialled, and once it is gone everything is as before."""
    with monkeypatch.context() as patch, mesh.service("empty").http_client() as client:
        patch.setattr(
            httpx.HTTPTransport, "handle_request", lambda transport, request: httpx.Response(200, text="mock")
        )
        assert client.get("/").text == "mock"
    with mesh.service("orders").http_client() as client:
        assert client.get("/echo").json()["server"] == "one"


def test_a_tool_that_came_first_is_seen_through() -> None:
    """Tracers are started before the application imports anything; a mock, then undone, leaves a working transport."""
    code = """
import asyncio, functools, httpx
stock, async_stock, seen = httpx.HTTPTransport.handle_request, httpx.AsyncHTTPTransport.handle_async_request, []
@functools.wraps(stock)
def traced(self, request):
    seen.append(request.url.host)
    return stock(self, request)
@functools.wraps(async_stock)
async def async_traced(self, request):
    seen.append(request.url.host)
    return await async_stock(self, request)
httpx.HTTPTransport.handle_request, httpx.AsyncHTTPTransport.handle_async_request = traced, async_traced
import svcmesh
mesh = svcmesh.Mesh({"orders": ["127.0.0.1:1"]})
mock = httpx.MockTransport(lambda request: httpx.Response(200, text="mock"))
client = httpx.Client(transport=mesh.http_transport(inner=mock))
async def main():
    async with httpx.AsyncClient(transport=mesh.http_async_transport(inner=mock)) as awaiting:
        assert (await awaiting.get("http://orders/")).text == "mock"
for _ in range(2):
    assert client.get("http://orders/").text == "mock"
    asyncio.run(main())
    httpx.HTTPTransport.handle_request, httpx.AsyncHTTPTransport.handle_async_request = stock, async_stock
assert seen == ["orders", "orders"], seen
client.close()
mesh.close()
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
