"""What an asyncio call sends, in a form that can be sent once more.

What is kept, and how long, is said in the `request` of blocking calls; who reads an asyncio iterator, in `reader`.
Callers either pass an iterator or write messages one by one. Writing is turned into an iterator here, so that an
attempt that takes the place of another one sends what was written so far without the caller's help.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from svcmesh.transport.grpc.aio.reader import END, Reader
from svcmesh.transport.grpc.request import BUFFER, Request, serialized, size_of

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
        self._writer = source if isinstance(source, Writer) else None
        self._reader = Reader() if self._writer is None and hasattr(source, "__aiter__") else None
        self._iterator: Any = None
        self._serializer = serializer
        self._kept: list[Any] = []
        self._room = BUFFER
        self._keeping = True
        self._owner: object = None
        self.error: BaseException | None = None
        self.exhausted = False
        self.writes = self._reader is not None

    def write_to(self, call: Any) -> None:
        """Write all messages to ``call``, until another attempt takes its place, which gets an iterator."""
        self.writes = False
        if self._reader is not None:
            self._reader.write_to(call, self)

    def again(self) -> AsyncIterator[Any]:
        """Return an iterator over all messages as bytes. Iterators given out before yield nothing new any more."""
        owner = self._owner = object()
        self.writes = False
        self._let_go()
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
        self._let_go()
        if self._writer is not None:
            self._writer.close()
        if self._reader is not None:
            self._reader.close()

    def sent(self) -> None:
        """All that was read was sent; it need not be kept where it will not be sent again."""
        if not self._keeping:
            self._kept.clear()

    def _let_go(self) -> None:
        """End the wait of an iterator that was given out before."""
        if self._writer is not None:
            self._writer.notify()
        if self._reader is not None:
            self._reader.let_go()

    async def _messages(self, owner: object) -> AsyncIterator[Any]:
        kept, writer, reader, position = self._kept, self._writer, self._reader, 0
        while self._owner is owner:
            if position < len(kept):
                position += 1
                yield kept[position - 1]
                continue
            if self.exhausted:
                break
            self.sent()
            position = len(kept)
            if reader is not None:
                await reader.ask(self)
            elif writer is not None and not writer.due():
                await writer.more()
            else:
                await self.take()  # it does not wait
        if self._owner is None and writer is not None:
            writer.sent()  # the call is over, and yet gRPC asks for more: what it had, it has sent
        if self.error is not None and self._owner is owner:
            raise self.error

    async def take(self) -> Any:
        """Read the caller's next message and keep it, as bytes, at least until it was sent; return it, or END."""
        if self.exhausted:
            return END
        try:
            iterator = self._begun() if self._iterator is None else self._iterator
            message = next(iterator) if self._reader is None else await anext(iterator)
        except (StopIteration, StopAsyncIteration):
            self.exhausted = True
            return END
        except GeneratorExit:
            raise  # the loop has ended
        except BaseException as error:  # noqa: BLE001 - whatever it is, each attempt has to meet it
            self.exhausted, self.error = True, error
            return END
        if self._serializer is not None:
            message = serialized(self._serializer, message)
        self._room -= len(message) if type(message) is bytes else size_of(message)
        if self._room < 0:
            self._keeping = False
        self._kept.append(message)
        return message

    def _begun(self) -> Any:
        """Ask the source for its iterator, which may fail as its steps may."""
        self._iterator = iter(self._source) if self._reader is None else aiter(self._source)
        return self._iterator


class Writer:
    """The source of a call whose caller writes: takes messages, makes bytes of them, and has them fetched."""

    def __init__(self, serializer: Callable[[Any], Any] | None = None) -> None:
        self._serializer = serializer
        self._written: deque[Any] = deque()
        self._wanted: asyncio.Future[None] | None = None
        self._asked: deque[asyncio.Future[bool]] = deque()
        self.finished = False

    def due(self) -> bool:
        """Whether there is a message, or never will be; being asked means that the messages before have been sent."""
        self.sent()
        return self.finished or bool(self._written)

    async def more(self) -> None:
        """Wait until that may have changed."""
        self._wanted = asyncio.get_running_loop().create_future()
        await self._wanted

    def __iter__(self) -> Writer:
        return self

    def __next__(self) -> Any:
        """Return the next message, which is there or will never be; see `due`."""
        if not self._written:
            raise StopIteration
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
        self.notify()
        sent: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked.append(sent)
        return sent

    def finish(self) -> None:
        """There will be no more messages."""
        self.finished = True
        self.notify()

    def sent(self) -> None:
        """Whatever was taken from here has been sent."""
        self._release(len(self._written), sent=True)

    def close(self) -> None:
        """The call is over: whoever waits for a message to be sent, does so for a few turns more.

        A status often comes with the news that the message before it was sent; then writing it has succeeded.
        """
        self.finished = True
        self.notify()
        self._leave(_TURNS)

    def _leave(self, turns: int) -> None:
        if turns and self._asked:
            self._asked[0].get_loop().call_soon(self._leave, turns - 1)
        else:
            self._release(0, sent=False)

    def notify(self) -> None:
        """Have whoever waits for `more` look again."""
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    def _release(self, rest: int, *, sent: bool) -> None:
        while len(self._asked) > rest:
            waiting = self._asked.popleft()
            if not waiting.done():
                waiting.set_result(sent)
