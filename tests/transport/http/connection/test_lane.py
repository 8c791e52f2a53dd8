"""The short way and httpcore's own are given the same request and the same bytes, and nobody can tell them apart."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import h11
import httpcore
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import svcmesh
from svcmesh.transport.http.connection import lane_awaiting as http_lane_awaiting
from svcmesh.transport.http.connection import lane_blocking as http_lane_blocking
from svcmesh.transport.http.connection.lane import CHUNK, Lane, is_plain_request, lane_of
from svcmesh.transport.http.message import core_request
from tests.servers.http_process import HttpServer
from tests.transport.http.colours import COLOURS, Caller, in_flight
from tests.transport.http.test_cancellation import assert_nothing_is_held

ORIGIN = httpcore.Origin(b"http", b"orders", 80)

REQUESTS = {
    "get": httpx.Request("GET", "http://orders/a%20b?x=1", headers={"X-Some": "Thing"}),
    "head": httpx.Request("HEAD", "http://orders/"),
    "short body": httpx.Request("PUT", "http://orders/", content=b"x" * 100),
    "long body": httpx.Request("POST", "http://orders/", content=b"x" * (CHUNK + 1)),
    "chunked": httpx.Request("POST", "http://orders/", content=b"abc", headers={"Transfer-Encoding": "chunked"}),
    "target": httpx.Request("OPTIONS", "http://orders/", extensions={"target": b"*"}),
    "will wait": httpx.Request("PUT", "http://orders/", content=b"x", headers={"Expect": "100-continue"}),
    "last": httpx.Request("GET", "http://orders/", headers={"Connection": "close"}),
    "illegal header": httpx.Request("GET", "http://orders/", headers={"bad name": "x"}),
    "too short": httpx.Request("PUT", "http://orders/", content=b"x", headers={"Content-Length": "5"}),
    "too long": httpx.Request("PUT", "http://orders/", content=b"xyz", headers={"Content-Length": "1"}),
}

ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Odd-Case: 1\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nyou\r\n0\r\nx-end: 1\r\n\r\n",
    "until the end": b"HTTP/1.0 200 Fine by me\r\n\r\nhello",
    "nothing": b"HTTP/1.1 204 \r\n\r\n",
    "informed": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "goodbye": b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello",
    "cut": b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello",
    "cut chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n9\r\nyo",
    "cut head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "not a word": b"",
    "garbage": b"\x00\x01 this is not HTTP\r\n\r\n",
    "nonsense in the body": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    "unasked switch": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 150_000,
}


@dataclass
class Script:
    """A stream that hears what was written down, and then the end; writing is refused after ``room`` bytes."""

    received: list[bytes]
    room: float = float("inf")
    sent: bytes = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        assert (max_bytes, timeout) == (CHUNK, None)
        return self.received.pop(0) if self.received else b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        assert timeout is None
        if len(buffer) > self.room:
            raise httpcore.WriteError("no more")
        self.room -= len(buffer)
        self.sent += buffer

    def close(self) -> None:
        pass


@dataclass
class AsyncScript:
    """The same for asyncio."""

    script: Script

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.script.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.script.write(buffer, timeout)

    async def aclose(self) -> None:
        pass


@dataclass
class Told:
    """What somebody can tell of a request that took one way or the other."""

    head: Any = None
    body: bytes = b""
    error: Any = None
    sent: bytes = b""
    again: bool = field(default=False)


def told(go: Any, script: Script) -> Told:
    found = Told()
    try:
        go(found)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        found.error = type(error), str(error)
    found.sent = script.sent
    return found


def described(status: int, headers: Any, extensions: Any) -> Any:
    return status, list(headers), extensions["http_version"], extensions["reason_phrase"]


def by_httpcore(request: httpx.Request, script: Script) -> Told:
    connection = httpcore.HTTP11Connection(ORIGIN, script)  # type: ignore[arg-type]

    def go(found: Told) -> None:
        raw: Any = connection.handle_request(core_request(request, request.headers.raw))
        found.head = described(raw.status, raw.headers, raw.extensions)
        for part in raw.stream:
            found.body += part
        raw.stream.close()

    found = told(go, script)
    found.again = found.error is None and connection.is_idle()
    return found


def by_httpcore_async(request: httpx.Request, script: Script) -> Told:
    connection = httpcore.AsyncHTTP11Connection(ORIGIN, AsyncScript(script))  # type: ignore[arg-type]

    async def walk(found: Told) -> None:
        raw: Any = await connection.handle_async_request(core_request(request, request.headers.raw))
        found.head = described(raw.status, raw.headers, raw.extensions)
        async for part in raw.stream:
            found.body += part
        await raw.stream.aclose()

    found = told(lambda found: asyncio.run(walk(found)), script)
    found.again = found.error is None and connection.is_idle()
    return found


def new_lane(stream: Any) -> Lane:
    return Lane(h11.Connection(h11.CLIENT, max_incomplete_event_size=100 * 1024), stream)


def by_lane(request: httpx.Request, script: Script) -> Told:
    lane = new_lane(script)

    def go(found: Told) -> None:
        head = http_lane_blocking.ask(lane, request, request.headers.raw)
        found.head = described(head.status, head.headers, lane.extensions(head))
        body = http_lane_blocking.LaneBody(lane, request)
        for part in body:
            found.body += part
        body.close()

    found = told(go, script)
    found.again = found.error is None and lane.idle
    return found


def by_lane_async(request: httpx.Request, script: Script) -> Told:
    lane = new_lane(AsyncScript(script))

    async def walk(found: Told) -> None:
        head = await http_lane_awaiting.ask(lane, request, request.headers.raw)
        found.head = described(head.status, head.headers, lane.extensions(head))
        body = http_lane_awaiting.AsyncLaneBody(lane, request)
        async for part in body:
            found.body += part
        await body.aclose()

    found = told(lambda found: asyncio.run(walk(found)), script)
    found.again = found.error is None and lane.idle
    return found


WAYS = {"blocking": (by_httpcore, by_lane), "awaiting": (by_httpcore_async, by_lane_async)}


@pytest.mark.parametrize("ways", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("asked", REQUESTS)
def test_both_ways_tell_the_same(ways: Any, asked: str, answer: str) -> None:
    """Status, headers, version, reason, body, errors and their words, and whether there may be another request."""
    stock, ours = (way(REQUESTS[asked], Script([ANSWERS[answer]])) for way in ways)
    if ours.error is not None and ours.error[0] is h11.LocalProtocolError:
        assert ours.sent == b"", "a request whose body does not fit is not begun"
        stock.sent = b""
    if asked == "head" and not ours.again:
        stock.again = False  # a body after all: see the test of what comes unasked
    assert ours == stock


@given(st.sampled_from(sorted(ANSWERS)), st.sampled_from(sorted(REQUESTS)), st.lists(st.integers(0, 200), max_size=6))
def test_it_does_not_matter_where_the_network_cuts(answer: str, asked: str, cuts: list[int]) -> None:
    """What has been handed on before an error is the same, too."""
    whole, bounds = ANSWERS[answer], [0, *sorted(cuts)]
    pieces = [whole[start:end] for start, end in zip(bounds, [*bounds[1:], len(whole)], strict=True)]
    stock, ours = (way(REQUESTS[asked], Script([piece for piece in pieces if piece])) for way in WAYS["blocking"])
    assert (ours.head, ours.body, ours.error) == (stock.head, stock.body, stock.error)


@pytest.mark.parametrize("ways", WAYS.values(), ids=WAYS)
def test_an_answer_to_what_could_not_be_sent_is_an_answer_and_the_last_one(ways: Any) -> None:
    """Servers refuse large bodies early, and close."""
    for way in ways:
        found = way(REQUESTS["long body"], Script([ANSWERS["length"]], room=1000))
        assert (found.head[0], found.body, found.error, found.again) == (200, b"hello", None, False)


@pytest.mark.parametrize("way", [by_lane, by_lane_async])
def test_what_comes_unasked_after_an_answer_is_not_taken_for_the_next(way: Any) -> None:
    """The connection is not used again: whose answer that was nobody knows."""
    found = way(REQUESTS["get"], Script([ANSWERS["length"] + b"HTTP/1.1 200 OK\r\n"]))
    assert (found.body, found.error, found.again) == (b"hello", None, False)


@pytest.mark.parametrize("way", [by_lane, by_lane_async])
def test_a_request_with_a_short_body_is_sent_in_one_piece(way: Any) -> None:
    """There is room for all of it or for nothing."""
    whole = len(way(REQUESTS["short body"], Script([ANSWERS["length"]])).sent)
    assert way(REQUESTS["short body"], Script([ANSWERS["length"]], room=whole - 1)).sent == b""


def test_only_plain_requests_take_the_short_way(caplog: pytest.LogCaptureFixture) -> None:
    """The rest goes httpcore's way, which knows what to do."""
    assert all(is_plain_request(each, each.headers.raw) for each in REQUESTS.values())
    for special in (
        httpx.Request("POST", "http://orders/", content=iter([b"x"])),
        httpx.Request("POST", "http://orders/", files={"name": b"x"}),
        httpx.Request("CONNECT", "http://orders/"),
        httpx.Request("GÉT", "http://orders/"),
        httpx.Request("GET", "http://orders/", headers={"UPGRADE": "websocket"}),
        httpx.Request("GET", "http://orders/", extensions={"trace": print}),
    ):
        assert not is_plain_request(special, special.headers.raw), special
    with caplog.at_level(logging.DEBUG, "httpcore"):
        assert not is_plain_request(REQUESTS["get"], REQUESTS["get"].headers.raw)


def test_where_httpcore_is_another_one_there_is_no_short_way() -> None:
    """Nothing is guessed: requests then take the long way."""
    assert lane_of(SimpleNamespace(_connection=SimpleNamespace(_h11_state="changed")), None) is None
    assert lane_of(SimpleNamespace(), None) is None


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


@pytest.fixture(params=COLOURS)
def warm(request: pytest.FixtureRequest, server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    """A client whose connection has carried a request; from then on connecting, and httpcore's way, are counted."""
    with svcmesh.Mesh({"orders": [server.address]}) as mesh, COLOURS[request.param](mesh.service("orders")) as client:
        client.first = client.get("/echo").json()["connection"]  # type: ignore[attr-defined]
        client.long = []  # type: ignore[attr-defined]
        for kind, name in (
            (httpcore.HTTPConnection, "handle_request"),
            (httpcore.AsyncHTTPConnection, "handle_async_request"),
        ):
            monkeypatch.setattr(kind, name, _counting(getattr(kind, name), client.long))  # type: ignore[attr-defined]
        yield client


def _counting(method: Any, calls: list[object]) -> Any:
    def counted(self: object, request: httpcore.Request) -> Any:
        calls.append(request)
        return method(self, request)

    return counted


def test_a_kept_connection_is_used_the_short_way(warm: Any) -> None:
    """With answers that are read at once and with those that are streamed."""
    assert warm.get("/echo").json()["connection"] == warm.first
    assert warm.request("PUT", "/echo", content=b"x" * 1_000_000).json()["length"] == 1_000_000
    assert warm.raw("/chunks/3") == b"part 0;part 1;part 2;"
    assert warm.get("/echo").json()["connection"] == warm.first
    assert warm.long == []


def test_both_ways_may_be_taken_on_one_connection(warm: Any) -> None:
    """The conversation is idle between requests, whichever way they take."""
    with_trace = {"extensions": {"trace": partial(_seen, warm)}}
    for _ in range(3):
        assert warm.get("/echo", **with_trace).json()["connection"] == warm.first
        assert warm.get("/echo").json()["connection"] == warm.first
    assert len(warm.long) == 3


def _seen(warm: Any, name: str, _: Any) -> Any:
    async def nothing() -> None:
        pass

    return nothing() if hasattr(warm, "runner") else None


@pytest.mark.parametrize("path", ["/drop", "/garbage", "/cut"])
def test_a_connection_that_broke_on_the_short_way_is_not_used_again(warm: Any, path: str) -> None:
    """What fails, fails as it does on httpcore's way, and the next request gets a connection of its own."""
    with pytest.raises(httpx.RemoteProtocolError):
        warm.request("POST", path)
    assert warm.get("/echo").json()["connection"] != warm.first


def test_a_dropped_stream_closes_its_connection(warm: Any) -> None:
    """The rest of an answer is not in the way of the next one."""
    if hasattr(warm, "runner"):
        warm.run(_leave_early(warm.async_client))
    else:
        with warm.client.stream("GET", "/chunks/100") as response:
            next(response.iter_raw())
    assert warm.get("/echo").json()["connection"] != warm.first
    assert len(warm.long) == 1


async def test_a_kept_connection_may_be_cancelled_at_any_step(server: HttpServer) -> None:
    """After one, two, three… steps of the loop, nothing is held, and what was broken off is not used again."""
    async with svcmesh.Mesh({"orders": [server.address]}, policy=svcmesh.Policy()) as mesh:
        service = mesh.service("orders")
        async with service.http_async_client(timeout=30) as client:
            for steps in range(40):
                assert (await client.get("/echo")).json()["target"] == "/echo"
                task = asyncio.create_task(client.get("/chunks/1" if steps % 2 else "/slow/0"))
                for _ in range(steps // 2):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert_nothing_is_held(client, service)


async def test_a_stream_that_is_dropped_on_a_kept_connection_gives_back_its_place(server: HttpServer) -> None:
    """Without being closed or read: the connection is closed and the count settled when it is collected."""
    async with svcmesh.Mesh({"orders": [server.address]}, policy=svcmesh.Policy()) as mesh:
        service = mesh.service("orders")
        async with service.http_async_client(limits=httpx.Limits(max_connections=1), timeout=30) as client:
            await client.get("/echo")
            response = await client.send(client.build_request("GET", "/chunks/100"), stream=True)
            assert in_flight(service) == 1
            del response
            gc.collect()
            assert_nothing_is_held(client, service)
            assert (await client.get("/echo")).status_code == 200


async def _leave_early(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/chunks/100") as response:
        parts: AsyncIterator[bytes] = response.aiter_raw()
        await anext(parts)
