"""How sockets are read on asyncio: no look in vain, and nothing that is there is waited for in vain."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import socket
import weakref
from collections.abc import AsyncIterator
from typing import Any

import httpcore
import pytest

from svcmesh.transport.http.connection.wire import Limit
from svcmesh.transport.http.connection.wire_asyncio import AsyncWireStream

Pair = tuple["Counted", AsyncWireStream, socket.socket]


class Counted(socket.socket):
    """A socket that counts how often somebody looks for something to read."""

    looks = 0

    def recv(self, *args: Any) -> bytes:
        self.looks += 1
        return super().recv(*args)


@pytest.fixture(params=["epoll", "none"])
async def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """A socket, a stream on it, and the other side; where there is an epoll, and where there is none."""
    if request.param == "none":
        monkeypatch.delattr(select, "epoll", raising=False)
    here, there = socket.socketpair()
    with Counted(fileno=here.detach()) as counted, there:
        counted.setblocking(False)
        yield counted, AsyncWireStream(counted, Limit()), there


async def test_an_answer_is_not_looked_for_before_it_can_have_come(pair: Pair) -> None:
    counted, stream, there = pair
    await stream.write(b"a request")
    reading = asyncio.ensure_future(stream.read(100))
    await asyncio.sleep(0)
    assert counted.looks == 0

    there.send(b"an answer")

    assert await reading == b"an answer"
    assert counted.looks == 1


async def test_what_is_there_is_read_at_once(pair: Pair) -> None:
    """The rest of an answer often is."""
    counted, stream, there = pair
    await stream.write(b"a request")
    there.send(b"an answer")
    assert await stream.read(3) == b"an "

    reading = stream.read(100)
    with pytest.raises(StopIteration) as read:
        reading.send(None)

    assert read.value.value == b"answer"
    assert counted.looks == 2


async def test_an_answer_that_came_early_is_read_though_there_is_hardly_any_time(pair: Pair) -> None:
    _, stream, there = pair
    await stream.write(b"a request")
    there.send(b"an answer")
    assert await stream.read(100, 1e-9) == b"an answer"


async def test_an_end_and_a_silence_after_a_request(pair: Pair) -> None:
    _, stream, there = pair
    await stream.write(b"a request")
    with pytest.raises(httpcore.ReadTimeout):
        await stream.read(100, 0.001)
    there.shutdown(socket.SHUT_WR)
    assert await stream.read(100) == b""


async def test_what_comes_while_nobody_waits_is_not_waited_for(pair: Pair) -> None:
    """It was told of once: an answer that came before the request was written to its end, say."""
    _, stream, there = pair
    for _ in range(3):
        await stream.write(b"a request")
        there.send(b"an answer")
        await turns()
        assert await stream.read(100) == b"an answer"


async def test_a_wait_that_was_cancelled_leaves_the_answer_to_the_next(pair: Pair) -> None:
    _, stream, there = pair
    await stream.write(b"a request")
    reading = asyncio.ensure_future(stream.read(100))
    await turns()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)

    there.send(b"an answer")
    await turns()

    assert await stream.read(100) == b"an answer"


def test_a_stream_may_be_read_on_another_loop_than_before() -> None:
    """An answer that one run of a loop has begun, and the next one reads."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        stream = AsyncWireStream(here, Limit())

        async def ask() -> bytes:
            reading = asyncio.ensure_future(stream.read(100))
            await turns()
            there.send(b"an answer")
            return await reading

        assert [asyncio.run(ask()), asyncio.run(ask())] == [b"an answer", b"an answer"]


async def test_a_socket_that_got_the_number_of_another_one_is_not_taken_for_it() -> None:
    """The other one was closed, and goes on in a process that was forked: the kernel still tells of it."""
    before, there = socket.socketpair()
    before.setblocking(False)
    first = AsyncWireStream(before, Limit())
    reading = asyncio.ensure_future(first.read(100))
    await turns()
    there.send(b"an answer")
    assert await reading == b"an answer"
    forked, number = before.dup(), before.fileno()
    after, beyond = socket.socketpair()
    before.close()
    os.dup2(after.fileno(), number)
    after.close()
    with socket.socket(fileno=number) as reborn, forked, there, beyond:
        reborn.setblocking(False)
        stream = AsyncWireStream(reborn, Limit())
        reading = asyncio.ensure_future(stream.read(100))
        await turns()
        there.send(b"not for you")
        await turns()
        assert not reading.done()

        beyond.send(b"for you")

        assert await reading == b"for you"


async def turns() -> None:
    """Let the loop see what there is to see."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_timer_that_stands_keeps_no_socket() -> None:
    """A connection that is dropped unclosed goes at once, not when its last timer rings."""
    here, there = socket.socketpair()
    dropped = Counted(fileno=here.detach())
    dropped.setblocking(False)
    stream = AsyncWireStream(dropped, Limit())
    there.send(b"an answer")
    await stream.write(b"a request")
    assert await stream.read(100, 600) == b"an answer"
    gone = weakref.ref(dropped)

    dropped.close()
    del dropped, stream

    gc.collect()
    assert gone() is None
    there.close()
