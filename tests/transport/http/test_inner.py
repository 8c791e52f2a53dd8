"""A user's own transport in place of our connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

import httpx
import pytest

import svcmesh
from svcmesh import Policy
from tests.servers.http_process import HttpServer
from tests.transport.http.colours import in_flight


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


@pytest.fixture(params=["blocking", "awaiting"])
def request_by(request: pytest.FixtureRequest) -> Callable[..., httpx.Response]:
    """Make one request through httpx's own transport as inner, in either colour, and read the answer."""

    def blocking(service: svcmesh.Service, method: str, url: str, inner: Any = None) -> httpx.Response:
        transport = service.http_transport(inner=inner or httpx.HTTPTransport())
        with httpx.Client(transport=transport, timeout=20) as client:
            return client.request(method, url)

    def awaiting(service: svcmesh.Service, method: str, url: str, inner: Any = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = service.http_async_transport(inner=inner or httpx.AsyncHTTPTransport())
            async with httpx.AsyncClient(transport=transport, timeout=20) as client:
                return await client.request(method, url)

        return asyncio.run(ask())

    return blocking if request.param == "blocking" else awaiting


@pytest.fixture
def local(server: HttpServer) -> Iterator[svcmesh.Service]:
    """A service of the machine's own name, which stock transports resolve themselves."""
    with svcmesh.Mesh({"localhost": [server.address]}) as mesh:
        yield mesh.service("localhost")


def test_a_short_answer_that_is_cut_is_asked_for_again(
    request_by: Callable[..., httpx.Response], local: svcmesh.Service, server: HttpServer
) -> None:
    """As on our own connections: what is idempotent and short is read inside the attempt."""
    response = request_by(local, "GET", f"http://localhost:{server.port}/first/cut/echo-{request_by.__name__}")
    info = svcmesh.info(response)
    assert info is not None
    assert (response.json()["method"], info.attempts) == ("GET", 2)
    with pytest.raises(httpx.RemoteProtocolError):
        request_by(local, "POST", f"http://localhost:{server.port}/cut")
    with pytest.raises(httpx.RemoteProtocolError):
        request_by(local, "GET", f"http://localhost:{server.port}/cut-chunked")
    assert in_flight(local) == 0


def test_a_body_through_an_inner_transport_ends_with_a_timeout_that_was_set_on_purpose(
    request_by: Callable[..., httpx.Response], local: svcmesh.Service, server: HttpServer
) -> None:
    """A byte now and then does not keep a call for ever, whether its body is read inside the attempt or outside."""
    service = local.with_policy(Policy.standard().replace(timeout=0.4, per_try_timeout=None))
    for method in ("GET", "POST"):
        began = time.monotonic()
        with pytest.raises(svcmesh.DeadlineExceeded):
            request_by(service, method, f"http://localhost:{server.port}/drip")
        assert time.monotonic() - began < 10
    assert in_flight(local) == 0


def test_a_body_through_an_inner_transport_outlasts_the_attempt(
    request_by: Callable[..., httpx.Response], local: svcmesh.Service, server: HttpServer
) -> None:
    """The time of an attempt is that of its headers; what the client gives to each read holds again afterwards."""
    policy = Policy.standard().replace(per_try_timeout=0.3)
    seen: dict[str, Any] = {}

    class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"body"

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"body"

    class Streaming(httpx.BaseTransport, httpx.AsyncBaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            assert request.extensions["timeout"]["read"] <= 0.3
            seen.update(request=request)
            return httpx.Response(200, stream=Body())

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return self.handle_request(request)

    assert request_by(local.with_policy(policy), "GET", "http://localhost/", Streaming()).text == "body"
    assert seen["request"].extensions["timeout"]["read"] == 20
    assert in_flight(local) == 0


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
