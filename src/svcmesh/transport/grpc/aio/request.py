"""What an asyncio call sends, in a form that can be sent once more.

What is kept, and how long, is said in the `request` of blocking calls.
Callers either pass an iterator or write messages one by one. Writing is turned into an iterator here, so that an
attempt that takes the place of another one sends what was written so far without the caller's help.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from svcmesh.transport.grpc.request import BUFFER, Request, serialized, size_of

_END = object()
_TURNS = 4
"""Turns of the loop after the end of a call within which gRPC may still ask for the next message."""


class AioStreamedRequest(Request):
    """A stream of messages. Threads: the loop's own.

    Args:
        source: the caller's iterator, asyncio or plain. serializer: makes bytes of its messages.
    """

    def __init__(self, source: Any, serializer: Callable[[Any], Any] | None) -> None:
        super().__init__(None)
        self._source = source
        self._iterator: Any = None
        self._is_async = hasattr(source, "__aiter__")
        self._serializer = serializer
        self._kept: list[Any] = []
        self._room = BUFFER
        self._keeping = True
        self._owner: object = None
        self._reading: asyncio.Task[Any] | None = None
        self._ended: BaseException | None = None
        self.exhausted = False

    def again(self) -> AsyncIterator[Any]:
        """Return an iterator over all messages as bytes. Iterators given out before yield nothing new any more."""
        owner = self._owner = object()
        return self._messages(owner)

    def keep(self, serializer: Callable[[Any], Any] | None) -> None:
        """Do nothing: messages are read when they are sent."""

    @property
    def replayable(self) -> bool:
        """Whether everything that was read is still there."""
        return self._keeping

    def commit(self) -> None:
        """Keep nothing from now on; the attempt that is under way still gets what it has not sent yet."""
        self._keeping = False

    def close(self) -> None:
        """The call is over: stop waiting for the caller's iterator, or for the caller to write."""
        self._owner = None
        if isinstance(self._source, Writer):
            self._source.close()
        if self._reading is not None and not self._reading.get_loop().is_closed():
            self._reading.cancel()

    async def _messages(self, owner: object) -> AsyncIterator[Any]:
        kept, position = self._kept, 0
        while self._owner is owner:
            while position < len(kept):
                position += 1
                yield kept[position - 1]
            if self._reading is None and not (self._keeping and self._is_async):
                if not self._keeping:
                    kept.clear()
                message = await self._next()  # no task: it does not wait, or nobody else will need it
                position = len(kept)
            else:
                message = await self._shared()
                if message is not _END and position < len(kept):
                    continue
            if message is _END:
                break
            yield message
        if self._owner is None and isinstance(self._source, Writer):
            self._source.sent()  # the call is over, and yet gRPC asks for more: what it had, it has sent
        if self._ended is not None and self._owner is owner:
            raise self._ended

    async def _shared(self) -> Any:
        """Wait for the next message in a task that outlives this attempt."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._next())
            self._reading.add_done_callback(self._read)
        return await asyncio.shield(self._reading)

    def _read(self, task: asyncio.Task[Any]) -> None:
        self._reading = None
        if not task.cancelled():
            task.exception()

    async def _next(self) -> Any:
        if self.exhausted:
            return _END
        try:
            if self._iterator is None:
                self._iterator = aiter(self._source) if self._is_async else iter(self._source)
            message = await anext(self._iterator) if self._is_async else next(self._iterator)
        except (StopIteration, StopAsyncIteration):
            self.exhausted = True
            return _END
        except Exception as error:  # noqa: BLE001 - whatever it is, each attempt has to meet it
            self.exhausted, self._ended = True, error
            return _END
        message = message if self._serializer is None else serialized(self._serializer, message)
        self._room -= size_of(message)
        self._keeping = self._keeping and self._room >= 0
        if self._keeping:
            self._kept.append(message)
        return message


class Writer:
    """The source of a call whose caller writes: an iterator that waits for what is written, and yields its bytes."""

    def __init__(self, serializer: Callable[[Any], Any] | None = None) -> None:
        self._serializer = serializer
        self._written: deque[Any] = deque()
        self._wanted: asyncio.Future[None] | None = None
        self._asked: deque[asyncio.Future[bool]] = deque()
        self.finished = False

    def __aiter__(self) -> Writer:
        return self

    async def __anext__(self) -> Any:
        """Wait for the next message; being asked for one means that those before have been sent."""
        self.sent()
        while not self._written:
            if self.finished:
                raise StopAsyncIteration
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        return self._written.popleft()

    def write(self, message: Any) -> asyncio.Future[bool]:
        """Hand over a message; the future says whether it has been sent, once that is known.

        Raises:
            TypeError: it does not become bytes, in gRPC's words. Others may follow it.
        """
        sendable = message if self._serializer is None else serialized(self._serializer, message)
        if sendable is not None and type(sendable) is not bytes:
            name = type(sendable).__name__
            raise TypeError(f"Argument 'message' has incorrect type (expected bytes, got {name})")
        self._written.append(sendable)
        self._notify()
        sent: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked.append(sent)
        return sent

    def finish(self) -> None:
        """There will be no more messages."""
        self.finished = True
        self._notify()

    def sent(self) -> None:
        """Whatever was taken from here has been sent."""
        self._release(len(self._written), sent=True)

    def close(self) -> None:
        """The call is over: whoever waits for a message to be sent, does so for a few turns more.

        A status often comes with the news that the message before it was sent; then writing it has succeeded.
        """
        self.finished = True
        self._notify()
        self._leave(_TURNS)

    def _leave(self, turns: int) -> None:
        if turns and self._asked:
            self._asked[0].get_loop().call_soon(self._leave, turns - 1)
        else:
            self._release(0, sent=False)

    def _notify(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    def _release(self, rest: int, *, sent: bool) -> None:
        while len(self._asked) > rest:
            waiting = self._asked.popleft()
            if not waiting.done():
                waiting.set_result(sent)
