"""How sockets are read on asyncio: no look in vain, and nothing that is there is waited for in vain."""

from __future__ import annotations

import asyncio
import gc
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


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A socket, a stream on it, and the other side."""
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
