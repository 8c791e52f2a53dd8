"""HTTP/2 without a network: what comes in changes streams, and what goes out says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import httpcore
import pytest
from hpack import Encoder
from hyperframe.frame import GoAwayFrame, HeadersFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh.transport.http.errors import NotTaken
from svcmesh.transport.http.http2.conversation import CONNECTION_WINDOW, MOST, STREAM_WINDOW, Conversation
from svcmesh.transport.http.http2.stream import Stream

CODES = h2.settings.SettingCodes
HEAD = [(b":method", b"POST"), (b":authority", b"orders"), (b":scheme", b"http"), (b":path", b"/")]


def ignore() -> None:
    return


class Server:
    """A server in memory, and the conversation with it."""

    def __init__(self, **first: int) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        values = {CODES[name.upper()]: value for name, value in first.items()}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=values)
        self.h2.initiate_connection()
        self.client = Conversation()
        self.events: list[h2.events.Event] = []
        self.exchange()

    def exchange(self, piece: int = 65536) -> None:
        """Hand on what either side wants to say, in pieces."""
        while outgoing := self.client.outgoing():
            self.events += self.h2.receive_data(outgoing)
        said = self.h2.data_to_send()
        for start in range(0, len(said), piece):
            self.client.receive(said[start : start + piece])
        if said:
            self.exchange(piece)

    def open(self, ring: Callable[[], object] = ignore, *, end: bool = True) -> Stream:
        stream = self.client.open(HEAD, ring, end=end)
        self.exchange()
        return stream

    def answer(self, stream: Stream, body: bytes = b"", **headers: str) -> None:
        fields = [(":status", "200"), *headers.items()]
        self.h2.send_headers(stream.number, fields, end_stream=not body)
        if body:
            self.h2.send_data(stream.number, body, end_stream=True)
        self.exchange()

    def goodbye(self, last: int) -> None:
        frame = GoAwayFrame(0)
        frame.last_stream_id = last
        self.client.receive(frame.serialize())

    def seen(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def body_of(server: Server, stream: Stream) -> bytes:
    found = b""
    while part := server.client.take(stream):
        found += part
    return found


def test_answers_find_their_requests_in_any_order() -> None:
    server = Server()
    one, two = server.open(), server.open()
    server.answer(two, b"two", x="2")
    assert (one.headed, two.headed, two.ended) == (False, True, True)
    server.answer(one, b"one")
    assert (body_of(server, one), body_of(server, two)) == (b"one", b"two")
    assert (two.status, two.headers) == (200, [(b"x", b"2")])


def test_trailers_and_early_hints_are_no_part_of_the_answer() -> None:
    """As in httpcore, which drops both."""
    server = Server()
    stream = server.open()
    server.h2.send_headers(stream.number, [(":status", "103"), ("link", "</x>")])
    server.exchange()
    assert not stream.headed
    server.h2.send_headers(stream.number, [(":status", "200")])
    server.h2.send_data(stream.number, b"body")
    server.h2.send_headers(stream.number, [("x-trailer", "1")], end_stream=True)
    server.exchange()
    assert (stream.status, stream.headers, body_of(server, stream), stream.ended) == (200, [], b"body", True)


def test_it_is_greeted_by_the_servers_settings() -> None:
    conversation = Conversation()
    rung: list[int] = []
    greeting = conversation.greet(lambda: rung.append(1))
    assert not greeting.over
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    server.update_settings({CODES.MAX_CONCURRENT_STREAMS: 7})
    server.receive_data(conversation.outgoing())
    conversation.receive(server.data_to_send())
    assert (greeting.ended, conversation.greeted, conversation.capacity) == (True, True, 7)
    for stream in conversation.touched():
        stream.ring()
    assert rung == [1]
    conversation.release(greeting)
    assert conversation.open(HEAD, ignore, end=True).number == 1


@pytest.mark.parametrize(("allowed", "capacity"), [(1, 1), (2, 2), (1000, MOST)])
def test_no_more_streams_than_the_server_allows_and_we_want(allowed: int, capacity: int) -> None:
    server = Server(max_concurrent_streams=allowed)
    for _ in range(capacity):
        server.open()
    with pytest.raises(NotTaken):
        server.open()


def test_a_place_is_free_as_soon_as_a_stream_is_released() -> None:
    """Cancelled or complete: neither has to be told by the server."""
    server = Server(max_concurrent_streams=1)
    server.client.release(server.open())
    stream = server.open()
    assert [event.error_code for event in server.seen(h2.events.StreamReset)] == [h2.errors.ErrorCodes.CANCEL]
    server.answer(stream, b"x")
    server.client.release(stream)
    server.open()
    assert len(server.seen(h2.events.StreamReset)) == 1, "what is complete is not cancelled"


def test_a_reset_ends_one_stream() -> None:
    server = Server()
    one, two = server.open(), server.open()
    server.h2.reset_stream(one.number, h2.errors.ErrorCodes.REFUSED_STREAM)
    server.answer(two, b"two")
    assert isinstance(one.failure, httpcore.RemoteProtocolError)
    assert one.failure.args[0].error_code == h2.errors.ErrorCodes.REFUSED_STREAM
    assert body_of(server, two) == b"two"
    with pytest.raises(httpcore.RemoteProtocolError):
        server.client.take(one)


def test_a_reset_after_a_whole_answer_takes_nothing_from_it() -> None:
    """A server that wants no more of the body says so with NO_ERROR. Source: RFC 9113, 8.1."""
    server = Server()
    stream = server.open(end=False)
    server.h2.send_headers(stream.number, [(":status", "413")], end_stream=True)
    server.h2.reset_stream(stream.number, h2.errors.ErrorCodes.NO_ERROR)
    server.exchange()
    assert (stream.status, stream.ended, stream.failure) == (413, True, None)
    assert server.client.send(stream, memoryview(b"more")) == 0
    server.client.end(stream)
    server.client.release(stream)
    server.exchange()


def test_a_goodbye_ends_what_it_does_not_cover() -> None:
    """Streams above the last one were surely not executed; the others are answered, and there are no new ones."""
    server = Server()
    one, two = server.open(), server.open()
    server.goodbye(one.number)
    assert isinstance(two.failure, NotTaken)
    assert server.client.capacity == 0
    with pytest.raises(NotTaken):
        server.client.open(HEAD, ignore, end=True)
    server.answer(one, b"one")
    assert body_of(server, one) == b"one"


def test_uploads_go_on_after_a_goodbye() -> None:
    server = Server(initial_window_size=10)
    stream = server.open(end=False)
    server.goodbye(stream.number)
    assert server.client.send(stream, memoryview(b"x" * 20)) == 10
    server.exchange()
    (event,) = server.seen(h2.events.DataReceived)
    server.h2.increment_flow_control_window(10, stream.number)
    server.exchange()
    assert server.client.send(stream, memoryview(b"x" * 10)) == 10
    assert event.data == b"x" * 10


def test_the_second_goodbye_may_cover_less() -> None:
    """A graceful server first covers everything, then what it has seen."""
    server = Server()
    one, two = server.open(), server.open()
    server.goodbye(2**31 - 1)
    assert (one.failure, two.failure, server.client.capacity) == (None, None, 0)
    server.goodbye(one.number)
    assert (one.failure, type(two.failure)) == (None, NotTaken)


def test_after_a_goodbye_new_settings_open_nothing() -> None:
    server = Server()
    server.goodbye(0)
    server.h2.update_settings({CODES.MAX_CONCURRENT_STREAMS: 50})
    server.exchange()
    assert server.client.capacity == 0


BROKEN = {
    "end": b"",
    "no frame": b"\x00\x00\x05\x00\x00\x00\x00\x00\x00hello",
    "no headers": b"\x00\x00\x01\x01\x04\x00\x00\x00\x01\xff",
}


@pytest.mark.parametrize("received", BROKEN.values(), ids=BROKEN)
def test_a_broken_connection_ends_each_stream_with_an_error_of_its_own(received: bytes) -> None:
    server = Server()
    one, two = server.open(), server.open()
    server.client.receive(received)
    assert isinstance(one.failure, httpcore.RemoteProtocolError)
    assert isinstance(two.failure, httpcore.RemoteProtocolError)
    assert one.failure is not two.failure
    assert server.client.touched() == [one, two]
    assert server.client.capacity == 0


def test_what_had_come_whole_outlives_the_connection() -> None:
    server = Server()
    one, two = server.open(), server.open()
    server.answer(one, b"one")
    server.client.receive(b"")
    assert body_of(server, one) == b"one"
    assert str(two.failure) == "Server disconnected"


def test_an_answer_of_another_length_ends_one_stream() -> None:
    """It is malformed, and h2 would take the whole connection for broken."""
    server = Server()
    one, two = server.open(), server.open()
    server.answer(one, b"short", **{"content-length": "100"})
    assert isinstance(one.failure, httpcore.RemoteProtocolError)
    server.answer(two, b"two")
    assert body_of(server, two) == b"two"


def test_pings_are_answered() -> None:
    server = Server()
    server.h2.ping(b"12345678")
    server.exchange()
    assert len(server.seen(h2.events.PingAckReceived)) == 1


def test_a_body_waits_for_the_servers_window() -> None:
    server = Server(initial_window_size=100)
    stream = server.open(end=False)
    assert server.client.send(stream, memoryview(b"x" * 250)) == 100
    assert stream.starved
    server.exchange()
    assert server.client.window(stream) == 0
    server.h2.increment_flow_control_window(1000, stream.number)
    server.exchange()
    assert stream in server.client.touched()
    assert server.client.send(stream, memoryview(b"x" * 150)) == 150
    assert not stream.starved


def test_a_stream_that_nobody_reads_holds_up_no_other() -> None:
    """Its own window fills; the connection's is larger than all of them together."""
    assert MOST * STREAM_WINDOW < CONNECTION_WINDOW / 2
    server = Server()
    one, two = server.open(), server.open()
    server.h2.send_headers(one.number, [(":status", "200")])
    while server.h2.local_flow_control_window(one.number):
        server.h2.send_data(one.number, b"x" * min(16384, server.h2.local_flow_control_window(one.number)))
        server.exchange()
    server.answer(two, b"two")
    assert body_of(server, two) == b"two"
    while server.h2.local_flow_control_window(one.number) < 16384:
        assert server.client.take(one)  # reading opens it again
        server.exchange()


def test_what_nobody_will_read_is_given_back_to_the_connection() -> None:
    """Streams that are dropped unread do not use up the window of all."""
    server = Server()
    before = server.client._h2.inbound_flow_control_window
    for _ in range(3):
        stream = server.open()
        server.h2.send_headers(stream.number, [(":status", "200")])
        server.h2.send_data(stream.number, b"x" * 16384)
        server.exchange()
        server.client.release(stream)
        server.exchange()
    manager = server.client._h2._inbound_flow_control_window_manager
    assert server.client._h2.inbound_flow_control_window + manager._bytes_processed == before


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ((b"te", b"gzip"), httpcore.LocalProtocolError),
        ((b":path", b"/"), httpcore.LocalProtocolError),
        ((b"no value",), IndexError),  # h2's own, as with the stock transport
    ],
)
def test_a_head_that_cannot_be_sent_harms_nobody(bad: Any, error: type[Exception]) -> None:
    """The server never hears of it, and both sides still have the same table of headers."""
    new = (b"x-new", b"in nobody's table yet")
    server = Server()
    one = server.open()
    for _ in range(MOST + 1):
        with pytest.raises(error):
            server.client.open([*HEAD, new, bad], ignore, end=True)
    server.exchange()
    server.answer(one, b"one")
    assert body_of(server, one) == b"one"
    two = server.client.open([*HEAD, new], ignore, end=True)
    server.exchange()
    server.answer(two, b"two")
    assert (two.status, body_of(server, two)) == (200, b"two")
    assert server.seen(h2.events.RequestReceived)[-1].headers[-1] == new
    assert server.seen(h2.events.StreamReset) == []


def test_what_was_to_be_sent_before_such_a_head_is_sent() -> None:
    server = Server()
    one = server.client.open(HEAD, ignore, end=True)
    with pytest.raises(httpcore.LocalProtocolError):
        server.client.open([*HEAD, (b"te", b"gzip")], ignore, end=True)
    server.exchange()
    server.answer(one, b"one")
    assert body_of(server, one) == b"one"


@pytest.mark.parametrize("status", [b"abc", b"", b"-1", None])
def test_an_answer_without_a_status_ends_one_stream(status: bytes | None) -> None:
    """h2 does not look at it. The server is told that nobody wants the rest."""
    server = Server()
    one, two = server.open(), server.open()
    frame = HeadersFrame(one.number)
    fields = [(b"x-more", b"1")] if status is None else [(b":status", status), (b"x-more", b"1")]
    frame.data = Encoder().encode(fields)
    frame.flags.add("END_HEADERS")
    server.client.receive(frame.serialize())
    server.exchange()
    with pytest.raises(httpcore.RemoteProtocolError, match="an answer has no status|the status b'"):
        server.client.take(one)
    assert [event.stream_id for event in server.seen(h2.events.StreamReset)] == [one.number]
    server.answer(two, b"two")
    assert body_of(server, two) == b"two"


def test_a_goodbye_of_ours_is_said_once() -> None:
    server = Server()
    server.client.goodbye()
    server.client.goodbye()
    server.exchange()
    assert len(server.seen(h2.events.ConnectionTerminated)) == 1


ACTS = st.lists(
    st.tuples(st.sampled_from(["open", "answer", "reset", "cancel", "read", "goodbye"]), st.integers(0, 50)),
    max_size=40,
)


class Story:
    """What a server does to many streams, and how each of them must end."""

    def __init__(self, allowed: int, piece: int) -> None:
        self.server = Server(max_concurrent_streams=allowed)
        self.piece = piece
        self.ends: dict[Stream, str] = {}
        self.gone = False

    def act(self, what: str, which: int) -> None:
        if what == "open":
            if len(self.ends) < self.server.client.capacity:
                self.ends[self.server.client.open(HEAD, ignore, end=True)] = ""
        elif what == "goodbye":
            self.goodbye(which)
        elif self.ends:
            stream = list(self.ends)[which % len(self.ends)]
            getattr(self, what)(stream, self.ends[stream])
        self.server.exchange(self.piece)

    def goodbye(self, which: int) -> None:
        last = max(0, self.server.h2.highest_inbound_stream_id - 2 * (which % 3))
        self.server.goodbye(last)
        self.gone = True
        left_out = {stream: "not taken" for stream, end in self.ends.items() if stream.number > last and not end}
        self.ends.update(left_out)

    def cancel(self, stream: Stream, end: str) -> None:
        self.server.client.release(stream)
        del self.ends[stream]

    def read(self, stream: Stream, end: str) -> None:
        if end == "answer":
            assert body_of(self.server, stream) == str(stream.number).encode() * 50
            self.cancel(stream, end)

    def answer(self, stream: Stream, end: str) -> None:
        if not end:
            self.ends[stream] = "answer"
            self.server.h2.send_headers(stream.number, [(":status", "200")])
            self.server.h2.send_data(stream.number, str(stream.number).encode() * 50, end_stream=True)

    def reset(self, stream: Stream, end: str) -> None:
        if not end:
            self.ends[stream] = "reset"
            self.server.h2.reset_stream(stream.number, h2.errors.ErrorCodes.INTERNAL_ERROR)


@settings(max_examples=150)
@given(acts=ACTS, piece=st.integers(1, 100), allowed=st.integers(1, 5))
def test_whatever_happens_each_stream_has_its_own_end(acts: list[tuple[str, int]], piece: int, allowed: int) -> None:
    """Cut into pieces anywhere, in any order: a stream ends with its whole body or with its own error, and no other."""
    story = Story(allowed, piece)
    for what, which in acts:
        story.act(what, which)
        for stream, end in story.ends.items():
            assert stream.ended == (end == "answer")
            assert isinstance(stream.failure, NotTaken) == (end == "not taken")
            assert (stream.failure is not None) == (end in {"reset", "not taken"})
    assert story.server.client.capacity == (0 if story.gone else allowed)
