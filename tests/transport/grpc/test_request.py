"""Requests that can be sent once more: what is kept, for whom, and when it no longer is."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.transport.grpc.request import BUFFER, CopiedRequest, Request, StreamedRequest, sent, size_of, snapshot
from tests.servers import svcmesh_test_pb2 as pb
from tests.transport.grpc.kit import PATIENCE


def streamed(*messages: bytes) -> StreamedRequest:
    return Request.streamed(messages, None)


def test_a_single_message_is_serialized_once_when_it_is_first_asked_for() -> None:
    """What its caller makes of it after that is not what was called; it can always be sent again."""
    message = pb.Ping(text="before")
    request = Request(message)
    request.commit()
    message.text = "at the first attempt"
    first = sent(pb.Ping.SerializeToString, request.again())
    message.text = "after"

    assert sent(pb.Ping.SerializeToString, request.again()) is first
    assert pb.Ping.FromString(first).text == "at the first attempt"
    assert request.replayable


def test_a_message_is_kept_as_it_is_where_no_attempt_has_started() -> None:
    """The first one may come much later, when there is an endpoint."""
    message = pb.Ping(text="called")
    request = Request(message)
    request.keep(pb.Ping.SerializeToString)
    message.text = "changed"

    assert pb.Ping.FromString(sent(pb.Ping.SerializeToString, request)).text == "called"
    assert request.copied().text == "called"


def test_a_serializer_that_raises_does_so_before_grpc_and_not_while_a_message_is_kept() -> None:
    """GRPC logs it and ends the call with INTERNAL."""
    request = Request("no bytes")
    request.keep(lambda message: message.nowhere)

    with pytest.raises(AttributeError):
        sent(lambda message: message.nowhere, request)


def test_an_iterator_is_let_go_with_the_request_that_read_from_it() -> None:
    """Its caller may wait for its `finally`; no cycle may keep it for the collector."""

    def messages() -> Iterator[bytes]:
        yield from (b"a", b"b")

    source = messages()
    alive = weakref.ref(source)
    request = Request.streamed(source, bytes)
    del source
    sending = request.again()
    assert next(sending) == b"a"
    gc.disable()
    try:
        del sending, request
        assert alive() is None
    finally:
        gc.enable()


def test_what_is_below_an_interceptor_gets_a_copy_each_time() -> None:
    """It may write on it, as may the caller."""
    message = pb.Ping(text="called")
    request = CopiedRequest(message)
    message.text = "changed"
    request.again().text = "written on"

    assert request.again().text == "called"


def test_something_that_is_no_iterable_ends_the_call_and_not_the_caller() -> None:
    """Requests are read on a thread of gRPC, so that callers learn of it from the call."""
    request = Request.streamed(5, None)  # type: ignore[arg-type]

    for _ in range(2):
        with pytest.raises(TypeError):
            list(request.again())


@given(st.lists(st.binary(max_size=20), max_size=20), st.lists(st.integers(0, 20), max_size=4))
def test_every_attempt_gets_all_messages(messages: list[bytes], read: list[int]) -> None:
    """However far earlier attempts had come."""
    request = streamed(*messages)
    for count in read:
        list(islice(request.again(), count))

    assert list(request.again()) == messages
    assert request.replayable


def test_an_earlier_attempt_reads_nothing_more() -> None:
    """The caller's iterator belongs to the newest attempt; the old one's thread just ends."""
    request = streamed(b"a", b"b", b"c")
    old = request.again()
    assert next(old) == b"a"
    new = request.again()

    assert list(old) == []
    assert list(new) == [b"a", b"b", b"c"]


def test_messages_are_serialized_once_and_as_they_were() -> None:
    """Callers reuse one object with other contents; what goes out again is what went out."""
    shared: list[int] = []

    def messages() -> Iterator[list[int]]:
        for number in range(3):
            shared[:] = [number]
            yield shared

    request = Request.streamed(messages(), bytes)
    first = list(request.again())

    assert first == list(request.again()) == [b"\x00", b"\x01", b"\x02"]


def test_beyond_the_buffer_nothing_is_kept() -> None:
    """The attempt under way goes on, but there can be no other."""
    big = b"x" * (BUFFER // 2)
    request = streamed(big, big, b"one too many", b"last")
    sending = request.again()
    assert [len(next(sending)) for _ in range(2)] == [len(big)] * 2
    assert request.replayable

    assert list(sending) == [b"one too many", b"last"]
    assert not request.replayable


def test_after_a_commit_the_rest_is_sent_and_not_kept() -> None:
    """The attempt under way gets what it has not sent yet, from the store and from the caller."""
    request = streamed(b"a", b"b", b"c")
    list(islice(request.again(), 2))
    sending = request.again()
    assert next(sending) == b"a"
    request.commit()

    assert list(sending) == [b"b", b"c"]
    assert not request.replayable


def test_an_error_of_the_callers_iterator_meets_every_attempt() -> None:
    """It is raised where gRPC iterates, after the messages before it."""

    def messages() -> Iterator[bytes]:
        yield b"a"
        raise RuntimeError("the caller's own")

    request = Request.streamed(messages(), None)
    for _ in range(2):
        sending = request.again()
        assert next(sending) == b"a"
        with pytest.raises(RuntimeError, match="the caller's own"):
            next(sending)


def test_a_message_that_cannot_be_serialized_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """GRPC reads None as a failed serializer, and ends the call with INTERNAL."""
    request = Request.streamed(["text"], bytes)

    assert list(request.again()) == [None]
    assert "Exception serializing message!" in caplog.text


def test_a_thread_that_waits_for_the_caller_hands_over_what_it_gets() -> None:
    """The old attempt's thread sits in the caller's iterator when the new one starts: no message is lost."""
    reading, go = threading.Event(), threading.Event()

    def messages() -> Iterator[bytes]:
        reading.set()
        assert go.wait(30)
        yield b"a"
        yield b"b"

    request = Request.streamed(messages(), None)
    old = request.again()
    waiting = threading.Thread(target=lambda: next(old))
    waiting.start()
    assert reading.wait(30)
    new, got = request.again(), []
    sending = threading.Thread(target=lambda: got.extend(new))
    sending.start()
    go.set()
    waiting.join(30)
    sending.join(30)

    assert got == [b"a", b"b"]


def test_messages_that_cannot_be_kept_are_sent_once() -> None:
    """Bytes and protobuf's messages have a size; of anything else neither size nor contents are ours to know."""
    assert (size_of(b"abc"), size_of(pb.Ping(text="abc"))) == (3, 5)
    assert size_of(object()) > BUFFER
    request = Request.streamed([object()], None)
    list(request.again())

    assert not request.replayable


def test_a_snapshot_does_not_change_with_its_message() -> None:
    """Copies cost, so only what can change is copied."""
    message = pb.Ping(text="before")
    kept, plain = snapshot(message), b"bytes"
    message.text = "after"

    assert kept.text == "before"
    assert snapshot(plain) is plain


def test_an_attempt_sends_what_it_can_while_another_s_thread_waits_for_the_caller() -> None:
    """Who waits for an answer to the first message before it yields the second would wait for ever."""
    asked, answered = threading.Event(), threading.Event()

    def messages() -> Iterator[bytes]:
        yield b"a"
        asked.set()
        assert answered.wait(PATIENCE)
        yield b"b"

    request = Request.streamed(messages(), None)
    before: list[bytes] = []
    thread = threading.Thread(target=lambda: before.extend(request_before), daemon=True)
    request_before = request.again()
    thread.start()
    assert asked.wait(PATIENCE)
    after, found = request.again(), []
    reader = threading.Thread(target=lambda: found.append(next(after)), daemon=True)
    reader.start()
    reader.join(PATIENCE / 3)
    in_time = list(found)
    answered.set()
    reader.join()
    thread.join()

    assert in_time == [b"a"]
    assert list(after) == [b"b"]
    assert before == [b"a", b"b"]


class OnlyNext:
    """As the stock channel takes it: it never asks for an iterator."""

    def __init__(self) -> None:
        self.left = [b"a", b"b"]

    def __next__(self) -> bytes:
        if not self.left:
            raise StopIteration
        return self.left.pop(0)


class Empty:
    """An iterator that counts as false, and one for each time it is asked."""

    def __iter__(self) -> Iterator[bytes]:
        return Falsy([b"a", b"b"])


class Falsy:
    """Somebody's own."""

    def __init__(self, left: list[bytes]) -> None:
        self.left = left

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __len__(self) -> int:
        return 0

    __next__ = OnlyNext.__next__


@pytest.mark.parametrize("source", [OnlyNext, Empty, lambda: Falsy([b"a", b"b"])], ids=["next alone", "made", "own"])
def test_any_kind_of_iterator_will_do(source: Any) -> None:
    """GRPC asks for nothing but the next message."""
    request = Request.streamed(source(), None)

    assert list(request.again()) == [b"a", b"b"]
    assert list(request.again()) == [b"a", b"b"]
