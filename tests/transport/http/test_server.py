"""The caller's deadline on the other side of the wire, under real servers and by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import svcmesh
from svcmesh import Policy
from svcmesh.http import ASGIMiddleware, WSGIMiddleware
from tests.servers.http_process import HttpServer

HEADER = "x-envoy-expected-rq-timeout-ms"


@pytest.fixture(scope="module", params=["asgi", "wsgi"])
def server(request: pytest.FixtureRequest) -> Iterator[HttpServer]:
    """A server whose application is behind the middleware."""
    with HttpServer(request.param, module="tests.servers.deadline_app") as one:
        yield one


@pytest.fixture
def client(server: HttpServer) -> Iterator[httpx.Client]:
    """A client of it, under the standard policy."""
    with svcmesh.Mesh({"app": [server.address]}) as mesh, mesh.service("app").http_client() as client:
        yield client


def said(response: httpx.Response) -> list[float | None]:
    return [json.loads(line) for line in response.text.splitlines()]


def test_the_ambient_deadline_goes_along(client: httpx.Client) -> None:
    """What the handler has left is what its caller has left."""
    with svcmesh.deadline(60):
        (left,) = said(client.get("/"))
    assert left is not None
    assert 30 < left <= 60


def test_the_lifespan_of_an_application_passes_through() -> None:
    """The server starts it before the first request, and waits for its end."""
    with HttpServer("asgi", module="tests.servers.deadline_app") as server:
        with svcmesh.Mesh({"app": [server.address]}) as mesh, mesh.service("app").http_client() as client:
            assert client.get("/lifespan").json() == ["lifespan.startup"]
        assert server.process.stdin is not None
        assert server.process.stdout is not None
        server.process.stdin.close()
        assert server.process.stdout.read() == b"shut down\n"
        assert server.process.wait(60) == 0


def test_without_a_deadline_there_is_none(client: httpx.Client) -> None:
    """The standard timeout is one for headers: a server that streams for longer does what is wanted."""
    assert said(client.get("/")) == [None]


def test_a_timeout_of_the_policy_goes_along(server: HttpServer) -> None:
    """It holds for the whole answer when somebody has set it."""
    with svcmesh.Mesh({"app": [server.address]}, policy=Policy(timeout=60)) as mesh:
        with mesh.service("app").http_client() as client:
            (left,) = said(client.get("/"))
        with httpx.Client(transport=mesh.service("app").http_transport(inner=httpx.MockTransport(echo))) as client:
            inner = float(client.get("http://app/").headers[HEADER])
    assert left is not None
    assert 30 < left <= 60
    assert 30_000 < inner <= 60_000


def echo(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, headers={HEADER: request.headers[HEADER]})


def test_a_header_of_the_callers_own_is_kept(client: httpx.Client) -> None:
    with svcmesh.deadline(60):
        (left,) = said(client.get("/", headers={HEADER.title(): "40000"}))
    assert left is not None
    assert 20 < left <= 40


def test_grpcs_header_is_understood(client: httpx.Client) -> None:
    (left,) = said(client.get("/", headers={"grpc-timeout": "40S"}))
    assert left is not None
    assert 20 < left <= 40


def test_the_parts_of_a_stream_are_made_under_the_deadline(client: httpx.Client) -> None:
    """And it runs down from one to the next."""
    with svcmesh.deadline(60):
        found = [left for left in said(client.get("/stream")) if left is not None]
    assert len(found) == 4
    assert found == sorted(found, reverse=True)
    assert 30 < found[-1] < found[0] <= 60


def test_it_goes_on_to_the_next_server(client: httpx.Client, server: HttpServer) -> None:
    """A handler that calls another service names no time, and yet that one knows how long the first caller waits."""
    with svcmesh.deadline(60):
        (left,) = said(client.get("/onward", params={"to": server.address}))
    assert left is not None
    assert 30 < left <= 60


def test_no_deadline_is_left_for_the_next_request(client: httpx.Client) -> None:
    with svcmesh.deadline(60):
        client.get("/stream")
    assert said(client.get("/")) == [None]


def test_a_header_that_cannot_be_read_is_no_deadline(client: httpx.Client) -> None:
    assert said(client.get("/", headers={HEADER: "soon"})) == [None]


def test_other_scopes_are_not_touched() -> None:
    """A WebSocket outlives the request that opens it, and a lifespan has no headers at all."""
    seen: list[float | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(svcmesh.remaining())

    async def check() -> None:
        for scope in ({"type": "websocket", "headers": [(HEADER.encode(), b"1000")]}, {"type": "lifespan"}):
            await ASGIMiddleware(app)(scope, None, None)  # type: ignore[arg-type]

    asyncio.run(check())
    assert seen == [None, None]


@pytest.mark.parametrize(
    "headers",
    [
        [(HEADER.encode(), b"500"), (HEADER.encode(), b"90000")],
        [(HEADER.encode(), b"90000"), (HEADER.encode(), b"500")],
        [(b"grpc-timeout", b"90S"), (HEADER.title().encode(), b"500")],
        [(b"Grpc-Timeout", b"500m"), (HEADER.encode(), b"90000")],
    ],
)
def test_the_shortest_time_that_anybody_has_written_holds(headers: list[tuple[bytes, bytes]]) -> None:
    """A proxy may have added a header to the caller's, and not every server has the names in lower case."""
    seen: list[float | None] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(svcmesh.remaining())

    def of_wsgi(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(svcmesh.remaining())
        return []

    scope = {"type": "http", "headers": headers}
    asyncio.run(ASGIMiddleware(application)(scope, None, None))  # type: ignore[arg-type]
    environ: Any = {}
    for name, value in headers:
        key = "HTTP_" + name.decode().upper().replace("-", "_")
        environ[key] = ",".join([*filter(None, [environ.get(key)]), value.decode()])
    WSGIMiddleware(of_wsgi)(environ, lambda status, headers: None)  # type: ignore[arg-type,return-value]
    assert len(seen) == 2
    assert all(seconds is not None and 0 < seconds <= 0.5 for seconds in seen)


def test_answers_of_wsgi_that_are_complete_are_handed_on_as_they_are() -> None:
    """Servers send a list with its length, and a file by the operating system."""
    environ: dict[str, Any] = {"HTTP_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS": "1000", "wsgi.file_wrapper": Wrapped}
    for answer in ([b"a", b"b"], (b"a",), Wrapped()):
        assert WSGIMiddleware(lambda environ, start, answer=answer: answer)(environ, None) is answer  # type: ignore[arg-type,misc]


def test_a_shorter_deadline_of_an_application_holds_from_one_part_to_the_next() -> None:
    """It is only ever shortened; when the block ends, what the caller gave is back."""

    def app(environ: Any, start: Any) -> Iterator[bytes]:
        with svcmesh.deadline(2):
            yield repr(svcmesh.remaining()).encode()
            yield repr(svcmesh.remaining()).encode()
        yield repr(svcmesh.remaining()).encode()

    environ: dict[str, Any] = {"HTTP_GRPC_TIMEOUT": "60S"}
    found = []
    for part in WSGIMiddleware(app)(environ, None):  # type: ignore[arg-type]
        assert svcmesh.remaining() is None
        found.append(float(part))
    assert 0 <= found[1] <= found[0] <= 2
    assert 2 < found[2] <= 60


class Wrapped:
    """Stands for a server's file wrapper."""


def test_the_applications_answer_is_closed() -> None:
    """Also where nobody has read it to its end, under the deadline, and none is left behind."""
    seen: list[float | None] = []

    class Parts:
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"

        def close(self) -> None:
            seen.append(svcmesh.remaining())

    environ: dict[str, Any] = {"HTTP_GRPC_TIMEOUT": "1S"}
    answer: Any = WSGIMiddleware(lambda environ, start: Parts())(environ, None)  # type: ignore[arg-type]
    assert list(answer) == [b"a"]
    answer.close()
    assert seen[0] is not None
    assert svcmesh.remaining() is None
