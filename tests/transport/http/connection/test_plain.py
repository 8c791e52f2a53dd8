"""What is taken for plain is what h11 would have written and read; what is not, h11 gets to see."""

from __future__ import annotations

from collections import Counter
from typing import Any

import h11
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.transport.http.connection.lane import Lane
from svcmesh.transport.http.connection.plain import Head, Headers, read, written

HOST = (b"Host", b"orders")
LENGTHS = [b"0", b"3", b"03", b"+3", b"3, 3", b"\xb3", b"9" * 30, b""]
odd_bytes = st.binary(max_size=6) | st.sampled_from(
    [b"", b" ", b"a\tb", b"a\r\nb: c", b"a\nb", b"a\x00", b"\xe9", b"x y "]
)
names = st.sampled_from([b"X", b"host", b"Content-Length", b"transfer-encoding", b"Connection", b"Expect"]) | odd_bytes
values = st.sampled_from([*LENGTHS, b"close", b"Keep-Alive", b"keep-alive, x", b"chunked", b"100-continue"]) | odd_bytes
headers_of = st.lists(st.tuples(names, values), max_size=4)


def by_h11(method: str, target: bytes, headers: Headers, body: bytes) -> bytes | None:
    """Return what h11 sends before the body; None where it refuses."""
    peer = h11.Connection(h11.CLIENT)
    try:
        sent = peer.send(h11.Request(method=method, target=target, headers=headers))
        peer.send(h11.Data(data=body))
        peer.send(h11.EndOfMessage())
    except h11.LocalProtocolError:
        return None
    return sent


@given(
    st.sampled_from(["GET", "PUT", "HEAD", "BAD ONE", "BAD\r\n", ""]),
    st.sampled_from([b"/", b"/a?b=c", b"*", b"/a b", b"/\xe9", b""]),
    headers_of,
    st.sampled_from([b"", b"abc"]),
    st.booleans(),
)
def test_a_request_is_written_as_h11_writes_it_or_not_at_all(
    method: str, target: bytes, headers: Headers, body: bytes, named: bool
) -> None:
    """Nothing that h11 refuses is written, and nothing can be slipped in by a value."""
    headers = [HOST, *headers] if named else headers
    found = written(method, target, headers, body)
    assert found is None or found == by_h11(method, target, headers, body)


@given(
    st.sampled_from(["HTTP/1.1 200 OK", "HTTP/1.1 204 ", "HTTP/1.1 304", "HTTP/1.1 999 \xe9", "HTTP/1.1 200  x "])
    | st.sampled_from(
        ["HTTP/1.0 200 OK", "HTTP/1.1 101 Switching", "HTTP/1.1 20 OK", "http/1.1 200 OK", "\r\nHTTP/1.1 200"]
    ),
    headers_of,
    st.sampled_from([b": ", b":", b":\t", b" : ", b":  "]),
    st.sampled_from([b"\r\n", b"\n", b" \r\n"]),
    st.sampled_from([b"", b"ab", b"abcde"]),
    st.sampled_from(["GET", "HEAD"]),
)
def test_an_answer_is_read_as_h11_reads_it_or_not_at_all(
    status: str, headers: Headers, colon: bytes, end: bytes, body: bytes, method: str
) -> None:
    """The same status, reason, version, headers, and as much of the body as belongs to it."""
    fields = b"".join(name + colon + value + end for name, value in headers)
    whole = status.encode("latin-1") + b"\r\n" + fields + b"\r\n" + body
    found = read(whole, method)
    if found is None:
        return
    head, rest = found
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method=method, target="/", headers=[HOST]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(whole)
    event: Any = peer.next_event()
    assert (head.status, head.reason, head.version) == (event.status_code, event.reason, event.http_version)
    assert head.headers == event.headers.raw_items()
    part: Any = peer.next_event()
    assert rest[: head.length] == (bytes(part.data) if isinstance(part, h11.Data) else b"")
    assert peer.our_state is h11.DONE, "and the connection stays open"


REQUEST = [HOST, (b"Accept", b"*/*"), (b"Connection", b"keep-alive"), (b"X-Odd", b"a b"), (b"X-Empty", b"")]
ANSWER = b"HTTP/1.1 200 OK\r\nDate: Mon, 1 Jan\r\ncontent-length:5\r\nConnection: Keep-Alive\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "body"),
    [(REQUEST, b""), ([*REQUEST, (b"Content-Length", b"3")], b"abc"), ([*REQUEST, (b"content-length", b"0")], b"")],
)
def test_what_clients_send_is_plain(headers: Headers, body: bytes) -> None:
    """Else the short way would be none."""
    found = written("PUT", b"/a?b", headers, body)
    assert found is not None
    assert found == by_h11("PUT", b"/a?b", headers, body)


@pytest.mark.parametrize("cut", [0, 1, 5, 9])
def test_what_servers_answer_is_plain_once_its_head_is_there(cut: int) -> None:
    """However much of the body has come with it."""
    headers = [(b"Date", b"Mon, 1 Jan"), (b"content-length", b"5"), (b"Connection", b"Keep-Alive")]
    assert read(ANSWER + b"hello you"[:cut], "GET") == (Head(200, b"OK", b"1.1", headers, 5), b"hello you"[:cut])
    assert read(ANSWER[:-1], "GET") is None


def test_an_answer_without_a_body_is_plain_whatever_length_it_tells() -> None:
    """An answer to HEAD tells that of another one."""
    for whole, method in (
        (ANSWER, "HEAD"),
        (ANSWER.replace(b"200 OK", b"304"), "GET"),
        (b"HTTP/1.1 204 \r\n\r\n", "PUT"),
    ):
        found = read(whole, method)
        assert found is not None
        assert found[0].length == 0


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"Accept", b"*/*"), HOST],
        [HOST, HOST],
        [HOST, (b"X", b"a\r\nY: b")],
        [HOST, (b"X: a\r\nY", b"b")],
        [HOST, (b"X: a", b"b")],
        [HOST, (b"X", b"a ")],
        [HOST, (b"", b"a")],
        [HOST, (b"Content-Length", b"3"), (b"content-length", b"3")],
        [HOST, (b"Content-Length", b"4")],
        [HOST, (b"Transfer-Encoding", b"chunked")],
        [HOST, (b"Connection", b"close")],
        [HOST, (b"Connection", b"x, close")],
        [HOST, (b"Expect", b"100-continue")],
    ],
)
def test_h11_sees_every_odd_request(headers: Headers) -> None:
    """Another order, what would be read as another message, what the connection does not outlive."""
    assert written("PUT", b"/", headers, b"abc" if any(b"ength" in name for name, _ in headers) else b"") is None


def test_h11_sees_every_odd_line_of_a_request() -> None:
    """Nor does a body go without its length."""
    assert written("GET /x", b"/", [HOST], b"") is None
    assert written("GET", b"/ HTTP/1.1\r\nX: y\r\n", [HOST], b"") is None
    assert written("GET", "/", [HOST], b"") is None
    assert written("PUT", b"/", [HOST], b"abc") is None


@pytest.mark.parametrize(
    "whole",
    [
        ANSWER.replace(b"Date: Mon, 1 Jan", b"Content-Length: 5"),
        ANSWER.replace(b"Keep-Alive", b"close"),
        ANSWER.replace(b"content-length:5", b"x: y"),
        ANSWER.replace(b"content-length:5", b"content-length: five"),
        ANSWER.replace(b"Date", b"Transfer-Encoding"),
        ANSWER.replace(b"Date", b" Date"),
        ANSWER.replace(b"Date:", b"Date :"),
        ANSWER.replace(b" Jan\r\n", b" Jan\n"),
        ANSWER.replace(b" Jan\r\n", b" Jan\r\n folded\r\n"),
        ANSWER.replace(b" 200", b" 103"),
        ANSWER.replace(b"1.1", b"1.0"),
        b"\r\n" + ANSWER,
        b"\r\n\r\n" + ANSWER,
        b"",
    ],
)
def test_h11_sees_every_odd_answer(whole: bytes) -> None:
    """It may be harmless, or not: that is not judged here."""
    assert read(whole, "GET") is None


def test_h11_hears_nothing_of_what_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """And of the next request that is not, all."""
    heard: Counter[str] = Counter()
    for name in ("send", "receive_data", "next_event"):
        monkeypatch.setattr(h11.Connection, name, _counting(name, getattr(h11.Connection, name), heard))
    lane = Lane(h11.Connection(h11.CLIENT), None)
    for _ in range(3):
        assert _exchanged(lane, ANSWER + b"hel", b"lo") == (200, b"hello")
        assert lane.idle
    assert heard == {}
    assert _exchanged(lane, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"2\r\nhi\r\n0\r\n\r\n") == (
        200,
        b"hi",
    )
    assert lane.idle
    assert heard["receive_data"] == 2
    assert _exchanged(lane, ANSWER + b"hello") == (200, b"hello")
    assert heard["receive_data"] == 2


def _exchanged(lane: Lane, *received: bytes) -> tuple[int, bytes]:
    """Have a request answered by ``received``."""
    lane.ask(httpx.Request("GET", "http://orders/"), REQUEST)
    pieces = list(received)
    while (head := lane.head() if len(pieces) < len(received) else None) is None:
        lane.feed(pieces.pop(0))
    body = b""
    while (part := lane.part()) != b"":
        if part is None:
            lane.feed(pieces.pop(0))
        else:
            body += part
    lane.over()
    return head.status, body


def _counting(name: str, method: Any, heard: Counter[str]) -> Any:
    def counted(self: h11.Connection, *args: Any) -> Any:
        heard[name] += 1
        return method(self, *args)

    return counted


def test_blocks_that_are_alike_are_looked_at_once_and_differ_where_they_differ() -> None:
    """The lengths, the method and the body that belong to a head are those of each message."""
    headers: Headers = [HOST, (b"Content-Length", b"3")]
    sent = [written("PUT", target, headers, body) for target in (b"/a", b"/b") for body in (b"abc", b"abcd")]
    assert sent[0] == b"PUT /a HTTP/1.1\r\nHost: orders\r\nContent-Length: 3\r\n\r\n"
    assert sent[2] == b"PUT /b HTTP/1.1\r\nHost: orders\r\nContent-Length: 3\r\n\r\n"
    assert sent[1] is sent[3] is None, "that is another length"

    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    lengths = {method: found[0].length for method in ("GET", "HEAD", "GET") if (found := read(answer, method))}
    assert lengths == {"GET": 3, "HEAD": 0}
    assert read(answer + b"abc", "GET") == (Head(200, b"OK", b"1.1", [(b"Content-Length", b"3")], 3), b"abc")
