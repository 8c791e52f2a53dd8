"""Clients and transports of httpx2, which meet ours in classes that are not httpx's."""

from __future__ import annotations

import asyncio
import io
import pickle
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest

import svcmesh
from svcmesh import Policy, Retry
from svcmesh.transport.http.library import speaker
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


def blocking(mesh: svcmesh.Mesh, method: str, url: str, **kwargs: Any) -> httpx2.Response:
    with httpx2.Client(transport=mesh.http_transport()) as client:  # type: ignore[arg-type]  # not the class it names
        return client.request(method, url, **kwargs)


def awaiting(mesh: svcmesh.Mesh, method: str, url: str, **kwargs: Any) -> httpx2.Response:
    async def request() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=mesh.http_async_transport()) as client:  # type: ignore[arg-type]
            return await client.request(method, url, **kwargs)

    return asyncio.run(request())


@pytest.fixture(params=[blocking, awaiting])
def call(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_answers_are_those_of_the_clients_library(mesh: svcmesh.Mesh, call: Any) -> None:
    """With what svcmesh knows of the call, and the request as its caller wrote it."""
    response = call(mesh, "POST", "http://orders/echo/a%20b?x=1", json={"a": 1})
    info = svcmesh.info(response)
    assert isinstance(response, httpx2.Response)
    assert isinstance(response.request, httpx2.Request)
    assert (response.json()["target"], response.json()["length"]) == ("/echo/a%20b?x=1", 7)
    assert info is not None
    assert info.attempts == 1
    assert str(response.url) == "http://orders/echo/a%20b?x=1"


@pytest.mark.parametrize("path", ["/chunks/3", "/echo"])
def test_nothing_stays_in_flight(mesh: svcmesh.Mesh, call: Any, path: str) -> None:
    assert call(mesh, "GET", f"http://orders{path}").status_code == 200
    assert in_flight(mesh.service("orders")) == 0


@pytest.mark.parametrize(
    "kwargs", [{"content": b"x"}, {"files": {"f": io.BytesIO(b"x")}}, {"content": [b"x"]}], ids="-".join
)
def test_bodies_that_can_be_sent_again_are(server: HttpServer, kwargs: dict[str, Any]) -> None:
    """Bytes, forms and lists, with the same digest each time."""
    policy = Policy(retry=Retry())
    with svcmesh.Mesh({"orders": [server.address]}, policy=policy) as mesh:
        path = f"/first/drop/{'-'.join(kwargs)}{id(kwargs)}"
        response = blocking(mesh, "PUT", f"http://orders{path}", **kwargs)
        info = svcmesh.info(response)
    assert response.json()["length"] >= 1
    assert info is not None
    assert info.attempts == 2


def test_a_touched_generator_is_not_repeated(server: HttpServer) -> None:
    def parts() -> Iterator[bytes]:
        yield b"one"

    with (
        svcmesh.Mesh({"orders": [server.address]}, policy=Policy(retry=Retry())) as mesh,
        pytest.raises(httpx2.RemoteProtocolError),
    ):
        blocking(mesh, "PUT", "http://orders/first/drop/generator", content=parts())


@pytest.mark.parametrize("path", ["/drop", "/cut-chunked", "/garbage"])
def test_errors_are_those_of_the_clients_library(mesh: svcmesh.Mesh, call: Any, path: str) -> None:
    """Before the headers and while the body is read."""
    with pytest.raises(httpx2.RemoteProtocolError) as caught:
        call(mesh, "POST", f"http://orders{path}")
    assert isinstance(caught.value.request, httpx2.Request)


def test_refusals_are_both(mesh: svcmesh.Mesh, call: Any) -> None:
    """Ours, and what a caller of httpx2 catches; they can be sent to other processes."""
    with pytest.raises(svcmesh.NoEndpoints) as caught:
        call(mesh, "GET", "http://empty/")
    assert isinstance(caught.value, httpx2.ConnectError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(svcmesh.DeadlineExceeded) as late, svcmesh.deadline(0.7):
        call(mesh, "GET", "http://orders/slow/60")
    assert isinstance(late.value, httpx2.ReadTimeout)
    assert isinstance(late.value.request, httpx2.Request)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_an_inner_transport_may_be_of_either_library(mesh: svcmesh.Mesh, library: Any) -> None:
    """Under a client of either one; it is asked again like any other, and its errors are read."""
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append(request)
        if len(seen) == 1:
            raise library.ConnectError("nobody there")
        return library.Response(200, text=request.url.host)

    for client in (httpx, httpx2):
        seen.clear()
        transport: Any = mesh.service("orders").http_transport(inner=library.MockTransport(answer))
        with client.Client(transport=transport) as made:  # type: ignore[attr-defined]
            response = made.put("http://orders/", content=b"x")
        assert isinstance(response, client.Response)  # type: ignore[attr-defined]
        assert response.text == "orders"
        assert all(isinstance(request, library.Request) for request in seen)
        assert len(seen) == 2
        assert seen[0].extensions["svcmesh.endpoint"].port > 0
    assert in_flight(mesh.service("orders")) == 0


def test_an_inner_transport_for_asyncio(mesh: svcmesh.Mesh) -> None:
    """It is entered and left with the client, like one of httpx."""
    seen: list[str] = []

    class Inner(httpx2.MockTransport):
        async def __aenter__(self) -> Any:
            seen.append("enter")

        async def __aexit__(self, *raised: object) -> None:
            seen.append("exit")

    inner: Any = Inner(lambda request: httpx2.Response(200, text=str(request.url)))

    async def check() -> None:
        transport: Any = mesh.service("orders").http_async_transport(inner=inner)
        for client in (httpx.AsyncClient, httpx2.AsyncClient):
            async with client(transport=transport) as made:  # type: ignore[attr-defined]
                assert (await made.get("http://orders/x")).text == "http://orders/x"

    asyncio.run(check())
    assert seen == ["enter", "exit"] * 2


def test_limits_of_httpx2_are_limits(mesh: svcmesh.Mesh) -> None:
    transport: Any = mesh.service("orders").http_transport(limits=httpx2.Limits(max_connections=1))
    with httpx2.Client(transport=transport) as client:
        assert client.get("http://orders/echo").status_code == 200


def test_what_is_no_request_is_refused() -> None:
    with pytest.raises(TypeError, match="httpx.Request"):
        speaker("GET http://orders/")


def test_errors_of_functions_are_read(mesh: svcmesh.Mesh) -> None:
    """A guarded function that uses httpx2 itself is repeated where one that uses httpx would be."""
    calls: list[int] = []

    @mesh.service("orders").guard
    def call() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise httpx2.ConnectError("nobody there")
        return "done"

    assert call() == "done"
    assert len(calls) == 2
