"""A health check by HTTP: what it sends, what it makes of every kind of answer, and which connections it keeps."""

from __future__ import annotations

import asyncio
import errno
import resource
import ssl
from collections.abc import Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from svcmesh.core.endpoint import Endpoint
from svcmesh.policy import HealthCheck, HttpHealthCheck
from svcmesh.policy.health.finding import Unasked, Unwell
from svcmesh.transport.health import http as module
from svcmesh.transport.health.http import HttpAsker
from tests.servers.http_process import HttpServer

TLS = Path(__file__).parents[2] / "servers" / "tls"


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("web") as running:
        yield running


@asynccontextmanager
async def asking(path: str, service: str = "orders", reuse: bool = True, alt_port: int | None = None, **fields):
    http = HttpHealthCheck(path, **fields)
    asker = HttpAsker(HealthCheck(http_health_check=http, reuse_connection=reuse, alt_port=alt_port), http, service)
    yield asker
    asker.close()
    await asyncio.sleep(0)


async def found(path: str, endpoint: Endpoint, **fields) -> str:
    """Return what a check of ``endpoint`` finds: "well", or the reason, with "!" where it is believed at once."""
    async with asking(path, **fields) as asker:
        return await verdict(asker, endpoint)


async def verdict(asker: HttpAsker, endpoint: Endpoint) -> str:
    try:
        await asyncio.wait_for(asker.ask(endpoint), 30)
    except Unwell as error:
        return error.reason + "!" * error.answered
    return "well"


@pytest.mark.parametrize(
    ("path", "fields", "says"),
    [
        ("/status/200", {}, "well"),
        ("/status/204", {}, "HTTP 204!"),
        ("/status/204", {"expected_statuses": range(200, 300)}, "well"),
        ("/status/404", {"expected_statuses": (404,)}, "well"),
        ("/status/503", {}, "HTTP 503!"),
        ("/status/503", {"retriable_statuses": (503,)}, "HTTP 503"),
        ("/status/200", {"method": "HEAD"}, "well"),
        ("/chunks/3", {}, "well"),
        ("/close", {}, "well"),
        ("/drop", {}, "the connection was closed without an answer"),
    ],
)
async def test_the_status_decides(server: HttpServer, path: str, fields, says: str) -> None:
    assert await found(path, Endpoint(server.address), **fields) == says


@pytest.mark.parametrize("header", ["x-envoy-degraded: true", "X-Envoy-Degraded:", "x-other: true"])
async def test_one_that_is_well_may_say_that_it_is_degraded(header: str) -> None:
    async def answer(reader, writer) -> None:
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(f"HTTP/1.1 200 OK\r\n{header}\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()

    async with asking("/healthz") as asker, listening(answer) as port:
        for _ in range(2):  # on a connection that is kept, too
            assert await asker.ask(Endpoint(f"127.0.0.1:{port}")) is header.lower().startswith("x-envoy")


async def test_one_that_is_not_well_may_say_that_this_is_on_purpose() -> None:
    async def answer(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 No\r\nx-envoy-immediate-health-check-fail: true\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with asking("/healthz") as asker, listening(answer) as port:
        with pytest.raises(Unwell) as failed:
            await asker.ask(Endpoint(f"127.0.0.1:{port}"))
    assert failed.value.excluded


@pytest.mark.parametrize("path", ["/garbage", "/cut", "/cut-chunked", "/upgrade"])
async def test_what_is_no_whole_answer_counts_like_none(server: HttpServer, path: str) -> None:
    """The network, or something in between, may be to blame for it."""
    assert (await found(path, Endpoint(server.address))).startswith("the answer is no HTTP: ")


async def test_the_request_is_for_the_service_unless_it_is_said_for_whom(server: HttpServer) -> None:
    head = await sent(service="orders", request_headers_to_add={"x-team": "a"})
    assert head.startswith("GET /healthz?full=1 HTTP/1.1\r\n")
    assert {"host: orders", "user-agent: svcmesh-health-check", "x-team: a"} <= set(head.lower().split("\r\n"))
    assert "host: health.local" in (await sent(service="orders", host="health.local")).lower()
    assert "host: 127.0.0.1:" in (await sent(service="static://127.0.0.1:80")).lower()


async def sent(service: str, **fields) -> str:
    """Return the head of the request that is made."""
    heads: list[str] = []

    async def answer(reader, writer) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    async with asking("/healthz?full=1", service, **fields) as asker, listening(answer) as port:
        await asker.ask(Endpoint(f"127.0.0.1:{port}"))
    return heads[0]


@asynccontextmanager
async def listening(serve, **kwargs):
    listener = await asyncio.start_server(serve, "127.0.0.1", 0, **kwargs)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
    for _ in range(20):  # what it accepted ends by itself, in a few turns
        await asyncio.sleep(0.002)


@pytest.mark.parametrize(("reuse", "connections"), [(True, 1), (False, 4)])
async def test_a_connection_is_kept_from_one_check_to_the_next(reuse: bool, connections: int) -> None:
    with HttpServer("web") as server:
        async with asking("/status/200", reuse=reuse) as asker:
            for _ in range(4):
                await asker.ask(Endpoint(server.address))
        assert server.stats()["connections"] == connections + 1  # the one that asks for this


async def test_one_that_the_server_closed_meanwhile_is_made_anew(server: HttpServer) -> None:
    """A server may hang up at any time; that says nothing of its health."""
    async with asking("/close") as asker:
        assert [await verdict(asker, Endpoint(server.address)) for _ in range(5)] == ["well"] * 5


async def test_a_server_that_ends_an_idle_connection_with_a_408_is_asked_on_a_new_one() -> None:
    """It is no answer to the check, although it comes where one is expected; on a new connection it would be."""
    connections = 0
    idle = asyncio.Event()

    async def answer(reader, writer) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await idle.wait()
        idle.clear()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async with listening(answer) as port, asking("/") as asker:
        for _ in range(3):
            assert await verdict(asker, Endpoint(f"127.0.0.1:{port}")) == "well"
            idle.set()
    assert connections == 3


@pytest.mark.parametrize("late", [False, True])
async def test_a_body_where_none_belongs_is_not_taken_for_the_next_answer(late: bool) -> None:
    """Many handlers answer HEAD as they answer GET; httpx and browsers take no notice of it, either."""

    async def answer(request: int, writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        if late:
            await writer.drain()
            await asyncio.sleep(0.002)
        writer.write(b"hello")

    async with listening(_each(answer)) as port, asking("/", method="HEAD") as asker:
        assert [await verdict(asker, Endpoint(f"127.0.0.1:{port}")) for _ in range(4)] == ["well"] * 4


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one() -> None:
    async def answer(request: int, writer) -> None:
        well = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        writer.write(well * 3 if request == 1 else b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")

    async with listening(_each(answer)) as port, asking("/") as asker:
        assert [await verdict(asker, Endpoint(f"127.0.0.1:{port}")) for _ in range(2)] == ["well", "HTTP 503!"]


@pytest.mark.parametrize(("expected", "says"), [(101, "well"), (200, "HTTP 101!")])
async def test_a_server_may_go_over_to_another_protocol_if_asked_to(expected: int, says: str) -> None:
    """HTTP has ended then, and no further answer will come."""

    async def answer(request: int, writer) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")

    upgrade = {"request_headers_to_add": {"upgrade": "websocket"}, "expected_statuses": (expected,)}
    async with listening(_each(answer)) as port, asking("/", **upgrade) as asker:
        assert [await verdict(asker, Endpoint(f"127.0.0.1:{port}")) for _ in range(2)] == [says] * 2


def _each(answer):
    """Return what serves a connection: ``answer`` for each request, with its number."""
    numbers = count(1)

    async def serve(reader, writer) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await answer(next(numbers), writer)
        writer.close()

    return serve


async def test_a_408_on_a_new_connection_is_the_answer(server: HttpServer) -> None:
    assert await found("/status/408", Endpoint(server.address)) == "HTTP 408!"


async def test_a_long_body_is_not_read_to_its_end() -> None:
    async def answer(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            writer.close()

    async with listening(answer) as port:
        assert await found("/", Endpoint(f"127.0.0.1:{port}")) == "well"


async def test_only_a_quarter_of_the_files_that_may_be_open_is_kept(server: HttpServer, monkeypatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (7, 7))
    async with asking("/status/200") as asker, listening(_well) as port:
        await asker.ask(Endpoint(server.address))
        await asker.ask(Endpoint(f"127.0.0.1:{port}"))
        assert list(asker._kept) == [server.address]
    assert module._most_kept() == 1
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert module._most_kept() > 100_000


async def _well(reader, writer) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    await reader.read()
    writer.close()


async def test_where_no_file_is_left_to_open_those_that_are_kept_are_closed(server: HttpServer, monkeypatch) -> None:
    async def fail(*args, **kwargs):
        raise OSError(errno.EMFILE, "Too many open files")

    async with asking("/status/200") as asker:
        await asker.ask(Endpoint(server.address))
        monkeypatch.setattr(asyncio, "open_connection", fail)
        with pytest.raises(Unasked, match="Too many open files"):
            await asker.ask(Endpoint("127.0.0.1:1"))
        assert asker._kept == {}


async def test_what_is_kept_for_one_that_left_is_closed(server: HttpServer) -> None:
    async with asking("/status/200") as asker:
        await asker.ask(Endpoint(server.address))
        line = asker._kept[server.address]
        asker.forget(Endpoint(server.address))
        asker.forget(Endpoint("10.0.0.1:80"))
        assert line._writer.is_closing()


async def test_a_check_that_is_cut_off_closes_its_connection(server: HttpServer) -> None:
    async with asking("/slow/30") as asker:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asker.ask(Endpoint(server.address)), 0.1)
        assert not asker._kept


async def test_another_port_may_be_asked(server: HttpServer) -> None:
    assert await found("/status/200", Endpoint("127.0.0.1:1"), alt_port=server.port) == "well"


async def test_it_asks_by_tls_with_the_name_of_the_service() -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(TLS / "orders.pem")
    trusting = ssl.create_default_context(cafile=TLS / "ca.pem")

    async with listening(_well, ssl=serving) as port:
        endpoint = Endpoint(f"127.0.0.1:{port}")
        assert await found("/", endpoint, tls=trusting) == "well"
        assert await found("/", endpoint, tls=trusting, host="orders:8443") == "well"
        assert "certificate verify failed" in await found("/", endpoint, service="billing", tls=trusting)


async def test_a_unix_socket_is_asked_too(tmp_path: Path) -> None:
    listener = await asyncio.start_unix_server(_well, tmp_path / "web")
    async with listener:
        assert await found("/", Endpoint(f"unix:{tmp_path}/web")) == "well"
    await asyncio.sleep(0.01)
    assert await found("/", Endpoint(f"unix:{tmp_path}/nobody")) == "connection refused"
