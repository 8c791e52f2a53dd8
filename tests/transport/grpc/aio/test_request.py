"""Requests of asyncio calls: the same promises as in `test_grpc_request`, and writing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from svcmesh.transport.grpc.aio.request import AioStreamedRequest, Writer
from svcmesh.transport.grpc.request import BUFFER


async def source(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        await asyncio.sleep(0)
        yield message


async def everything(messages: AsyncIterator[Any]) -> list[Any]:
    return [message async for message in messages]


@pytest.mark.parametrize("make", [source, lambda *messages: iter(messages)])
async def test_every_attempt_gets_all_messages(make: Any) -> None:
    """From either kind of iterator, however far earlier attempts had come."""
    request = AioStreamedRequest(make(b"a", b"b", b"c"), None)
    old = request.again()
    assert await anext(old) == b"a"
    new = request.again()

    assert await everything(old) == []
    assert await everything(new) == [b"a", b"b", b"c"]
    assert await everything(request.again()) == [b"a", b"b", b"c"]
    assert request.replayable


async def test_an_attempt_that_is_cancelled_leaves_the_callers_iterator_alone() -> None:
    """The next attempt goes on where it was."""
    go = asyncio.Event()

    async def messages() -> AsyncIterator[bytes]:
        yield b"a"
        await go.wait()
        yield b"b"

    request = AioStreamedRequest(messages(), None)
    waiting = asyncio.create_task(everything(request.again()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()

    assert await everything(request.again()) == [b"a", b"b"]


@pytest.mark.parametrize("make", [source, lambda *messages: iter(messages)])
async def test_beyond_the_buffer_nothing_is_kept(make: Any) -> None:
    """The attempt under way goes on, but there can be no other."""
    big = b"x" * BUFFER
    request = AioStreamedRequest(make(big, b"one too many", b"last"), None)

    assert [len(message) for message in await everything(request.again())] == [BUFFER, 12, 4]
    assert not request.replayable


async def test_an_error_of_the_callers_iterator_is_raised_where_grpc_iterates() -> None:
    """After the messages before it."""

    async def messages() -> AsyncIterator[bytes]:
        yield b"a"
        raise RuntimeError("the caller's own")

    sending = AioStreamedRequest(messages(), None).again()
    assert await anext(sending) == b"a"
    with pytest.raises(RuntimeError, match="the caller's own"):
        await anext(sending)


async def test_closing_stops_waiting_for_the_caller() -> None:
    """No task stays behind for an iterator that never goes on."""

    async def messages() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b"never"

    request = AioStreamedRequest(messages(), None)
    waiting = asyncio.create_task(everything(request.again()))
    await asyncio.sleep(0.01)
    request.close()
    assert await waiting == []
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_write_is_done_when_the_next_message_is_asked_for() -> None:
    """By then the one before has been sent; finishing ends the iterator."""
    writer = Writer()
    sent = writer.write(b"a")
    messages = AioStreamedRequest(writer, None).again()
    assert await anext(messages) == b"a"
    assert not sent.done()
    asking = asyncio.create_task(everything(messages))
    await asyncio.sleep(0)
    assert sent.done()
    writer.write(b"b")
    writer.finish()

    assert await asking == [b"b"]


async def test_closing_releases_who_writes() -> None:
    """Nobody waits for a call that is over, and what was not sent by then is told apart."""
    writer = Writer()
    messages = AioStreamedRequest(writer, None).again()
    sent = [writer.write(b"a"), writer.write(b"b")]
    assert await anext(messages) == b"a"
    writer.close()

    assert [await one for one in sent] == [False, False]


async def test_what_was_sent_when_the_call_ended_counts_as_sent() -> None:
    """The news that a message was sent may come one turn after the status that answers it."""
    writer = Writer()
    request = AioStreamedRequest(writer, None)
    messages = request.again()
    sent = writer.write(b"a")
    assert await anext(messages) == b"a"
    request.close()
    writer.close()
    await asyncio.sleep(0)
    assert [message async for message in messages] == []

    assert await sent


async def test_an_attempt_takes_the_place_of_one_that_waits_for_the_caller_to_write() -> None:
    """The one before is told at once, and takes nothing of what is written from then on."""
    writer = Writer()
    request = AioStreamedRequest(writer, None)
    before = asyncio.create_task(everything(request.again()))
    await asyncio.sleep(0)
    after = asyncio.create_task(everything(request.again()))
    assert await before == []
    writer.write(b"a")
    writer.finish()

    assert await after == [b"a"]


@pytest.mark.parametrize("make", [source, lambda *messages: iter(messages)])
async def test_what_is_not_kept_any_more_is_still_sent_by_the_attempt_that_was_committed_to(make: Any) -> None:
    """It may be sending what an earlier one has sent already."""
    request = AioStreamedRequest(make(b"a", b"b", b"c"), None)
    first = request.again()
    assert [await anext(first), await anext(first)] == [b"a", b"b"]
    second = request.again()
    assert await anext(second) == b"a"
    request.commit()

    assert await everything(second) == [b"b", b"c"]


async def test_something_that_is_no_iterable_ends_the_call_and_not_the_caller() -> None:
    """It is looked at when gRPC reads it, and met by every attempt."""
    request = AioStreamedRequest(5, None)

    for _ in range(2):
        with pytest.raises(TypeError):
            await everything(request.again())
    assert request.exhausted
