"""The stock transport and ours do the same request to the same server, and the caller cannot tell which one it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

import svcmesh
from svcmesh import Policy
from tests.servers.grpc_process import refused_port
from tests.servers.http_process import HttpServer

POLICIES = {"no policy": Policy(), "standard": Policy.standard()}

PATHS = [
    "/echo",
    "/echo/a%20b/%C3%BC?x=1&x=2#fragment",
    "/status/204",
    "/status/304",
    "/status/404",
    "/status/500",
    "/chunks/3",
    "/close",
    "/early",
    "/slow/0.01",
    "/drop",
    "/cut",
    "/cut-chunked",
    "/garbage",
]


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


@pytest.fixture(params=POLICIES)
def mesh(request: pytest.FixtureRequest, server: HttpServer) -> Iterator[svcmesh.Mesh]:
    with svcmesh.Mesh({"127.0.0.1": [server.address]}, policy=POLICIES[request.param]) as mesh:
        yield mesh


def parts() -> Iterator[bytes]:
    yield b"one"
    yield b"two"


async def async_parts() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


class Broken(Exception):
    """What the caller's own generator raises."""


def broken() -> Iterator[bytes]:
    yield b"one"
    raise Broken("half way")


async def async_broken() -> AsyncIterator[bytes]:
    yield b"one"
    raise Broken("half way")


def described(found: httpx.Response | Exception) -> Any:
    """Return what a caller can see of an answer or an error, but for what differs from one connection to the next."""
    if isinstance(found, Exception):
        assert not isinstance(found, httpx.RequestError) or found.request.url.host == "127.0.0.1"
        kinds = [kind.__name__ for kind in type(found).__mro__ if not kind.__module__.startswith("svcmesh")]
        return kinds, "" if isinstance(found, svcmesh.SvcmeshError) else str(found)
    headers = [pair for pair in found.headers.multi_items() if pair[0] not in {"x-connection", "content-length"}]
    body: Any = found.content
    if body.startswith(b"{"):
        body = {name: value for name, value in json.loads(body).items() if name != "connection"}
    extensions = sorted(set(found.extensions) - {"svcmesh.info"})
    extras = (found.http_version, found.reason_phrase, str(found.url), found.extensions["network_stream"] is not None)
    return found.status_code, headers, body, extensions, extras, found.elapsed.total_seconds() > 0


def both(mesh: svcmesh.Mesh, method: str, url: str, **kwargs: Any) -> tuple[Any, Any, Any, Any]:
    """Return how stock and ours end, blocking and awaiting."""
    bodies = kwargs.pop("bodies", (None, None))
    options = {"timeout": 5.0} | kwargs

    def blocking(transport: httpx.BaseTransport | None) -> Any:
        with httpx.Client(transport=transport) as client:
            try:
                return described(client.request(method, url, content=bodies[0] and bodies[0](), **options))
            except Exception as error:  # noqa: BLE001 - that is what is compared
                return described(error)

    async def awaiting(transport: httpx.AsyncBaseTransport | None) -> Any:
        async with httpx.AsyncClient(transport=transport) as client:
            try:
                return described(await client.request(method, url, content=bodies[1] and bodies[1](), **options))
            except Exception as error:  # noqa: BLE001 - that is what is compared
                return described(error)

    return (
        blocking(None),
        blocking(mesh.http_transport()),
        asyncio.run(awaiting(None)),
        asyncio.run(awaiting(mesh.http_async_transport())),
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_answers_and_errors_are_the_same(mesh: svcmesh.Mesh, server: HttpServer, method: str, path: str) -> None:
    """Status, headers in their order, body, extensions; or class, text and request of the error."""
    stock, ours, async_stock, async_ours = both(mesh, method, f"http://{server.address}{path}")
    assert ours == stock
    assert async_ours == async_stock


@pytest.mark.parametrize("bodies", [(parts, async_parts), (broken, async_broken)], ids=["whole", "broken"])
def test_bodies_of_generators_are_the_same(mesh: svcmesh.Mesh, server: HttpServer, bodies: Any) -> None:
    """Chunked as httpx does it, and an error of the caller's own comes back as it is."""
    stock, ours, async_stock, async_ours = both(mesh, "POST", f"http://{server.address}/echo", bodies=bodies)
    assert ours == stock
    assert async_ours == async_stock


@pytest.mark.parametrize(
    "headers",
    [
        {"Bad Name": "x"},
        {"X-Value": "a\nb"},
        {"Content-Length": "many"},
        {"Content-Length": "100"},
        {"Host": "elsewhere.example"},
        {"Connection": "close"},
        {"Transfer-Encoding": "chunked"},
    ],
    ids="-".join,
)
def test_headers_that_cannot_be_sent_are_refused_alike(
    mesh: svcmesh.Mesh, server: HttpServer, headers: dict[str, str]
) -> None:
    bodies = (lambda: b"body", lambda: b"body")
    stock, ours, async_stock, async_ours = both(
        mesh, "POST", f"http://{server.address}/echo", headers=headers, bodies=bodies
    )
    assert ours == stock
    assert async_ours == async_stock


@pytest.mark.parametrize("timeout", [httpx.Timeout(30, read=0.05), httpx.Timeout(0.5), 0.5, (30, 0.05, 30, 30)])
def test_timeouts_in_all_forms_are_the_same(mesh: svcmesh.Mesh, server: HttpServer, timeout: Any) -> None:
    """A read that takes too long is httpx's ReadTimeout; on asyncio the stock one says nothing, ours what it was."""
    stock, ours, async_stock, async_ours = both(mesh, "POST", f"http://{server.address}/slow/60", timeout=timeout)
    assert stock[0][0] == "ReadTimeout"
    assert ours == stock == async_ours
    assert async_ours[0] == async_stock[0]


@pytest.mark.parametrize("policy", POLICIES)
def test_nobody_listens(policy: str) -> None:
    """The class is httpx's, with the operating system's own words; the stock one on asyncio has lost them."""
    with refused_port() as port, svcmesh.Mesh({"127.0.0.1": [f"127.0.0.1:{port}"]}, policy=POLICIES[policy]) as mesh:
        stock, ours, async_stock, async_ours = both(mesh, "GET", f"http://127.0.0.1:{port}/")
    assert stock[0][0] == ours[0][0] == async_ours[0][0] == async_stock[0][0] == "ConnectError"
    assert stock[1] == ours[1] == "[Errno 111] Connection refused"
    assert async_ours[1].startswith("[Errno 111]")


def test_what_tracers_see_is_the_same(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    """The ``trace`` extension of httpcore names the same steps, from connecting to closing the answer."""
    steps: list[list[str]] = []
    for transport in (None, mesh.http_transport()):
        seen: list[str] = []
        with httpx.Client(transport=transport) as client:
            for _ in range(2):
                client.get(
                    f"http://{server.address}/echo",
                    extensions={"trace": lambda name, info, seen=seen: seen.append(name)},
                )
        steps.append(seen)
    assert "connection.connect_tcp.complete" in steps[0]
    assert steps[1] == steps[0]


def test_an_upgraded_connection_belongs_to_the_caller(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    """After a 101, whatever both sides want to say goes over ``network_stream``: this is how WebSockets are made."""
    for transport in (httpx.HTTPTransport(), mesh.http_transport()):
        with httpx.Client(transport=transport) as client:
            headers = {"Connection": "upgrade", "Upgrade": "echo"}
            with client.stream("GET", f"ws://{server.address}/upgrade", headers=headers) as response:
                assert response.status_code == 101
                stream = response.extensions["network_stream"]
                stream.write(b"hello")
                assert stream.read(100, timeout=30) == b"hello"
            assert client.get(f"http://{server.address}/echo").status_code == 200


async def test_answers_are_read_in_all_ways_alike(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    """Whole or in parts, raw or as text, to the end or not; a client that is closed says so in the same words."""

    async def read(client: httpx.AsyncClient) -> list[Any]:
        seen: list[Any] = []
        for ways in ("aiter_raw", "aiter_bytes", "aiter_text", "aiter_lines"):
            async with client.stream("GET", "/chunks/3") as response:
                parts = [part async for part in getattr(response, ways)()]
            seen.append((parts, response.is_closed, response.is_stream_consumed, response.num_bytes_downloaded))
        async with client.stream("GET", "/chunks/3") as response:
            await response.aclose()
            with pytest.raises(httpx.StreamError) as gone:
                await response.aread()
            seen.append((response.is_closed, response.is_stream_consumed, repr(gone.value)))
        response = await client.send(client.build_request("GET", "/chunks/3"), stream=True)
        seen.append((response.is_closed, await response.aread(), response.is_closed, client.is_closed))
        await client.aclose()
        with pytest.raises(RuntimeError) as closed:
            await client.get("/chunks/3")
        return [*seen, client.is_closed, str(closed.value)]

    url = f"http://{server.address}"
    ours = httpx.AsyncClient(transport=mesh.http_async_transport(), base_url=url)
    stock = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(), base_url=url)
    assert await read(ours) == await read(stock)


def test_redirects_cookies_and_auth_are_the_clients(mesh: svcmesh.Mesh) -> None:
    """They live above the transport, so that a history is one of logical requests."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/start":
            return httpx.Response(302, headers={"location": "/end", "set-cookie": "seen=yes"})
        if "authorization" not in request.headers:
            return httpx.Response(401, headers={"www-authenticate": 'Digest realm="r", nonce="n", qop="auth"'})
        return httpx.Response(200, text=request.headers["cookie"])

    seen: list[Any] = []
    for transport in (httpx.MockTransport(answer), mesh.http_transport(inner=httpx.MockTransport(answer))):
        with httpx.Client(transport=transport, auth=httpx.DigestAuth("me", "secret"), follow_redirects=True) as client:
            response = client.get("http://127.0.0.1/start")
        seen.append((response.text, str(response.url), [each.status_code for each in response.history]))
    assert seen[0] == seen[1] == ("seen=yes", "http://127.0.0.1/end", seen[0][2])


NO_TIME: dict[str, Any] = {
    "zero": 0,
    "less": -1,
    "no number": "1",
    "to write": httpx.Timeout(5, write=0),
    "to read": httpx.Timeout(5, read=0),
}


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("timeout", NO_TIME.values(), ids=NO_TIME)
async def test_a_timeout_that_is_no_time_is_one_at_once(
    server: HttpServer, timeout: Any, method: str, warm: bool
) -> None:
    """On asyncio, where httpx looks at it before it looks at the socket; on a connection that is kept, too."""
    told: list[Any] = []
    with svcmesh.Mesh({"127.0.0.1": [server.address]}, policy=Policy()) as mesh:
        for transport in (None, mesh.http_async_transport()):
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{server.address}") as client:
                if warm:
                    await client.get("/echo")
                body = b"body" if method == "POST" else None
                with pytest.raises((httpx.TimeoutException, TypeError)) as caught:
                    await client.request(method, "/echo", timeout=timeout, content=body)
                told.append(caught.type)

    assert told[0] is told[1]
