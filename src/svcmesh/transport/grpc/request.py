"""What a call sends, in a form that can be sent once more.

A single message can always be repeated: gRPC is given a `Request` in its place, and a serializer that makes bytes of it
once, when gRPC first asks for them. A stream is the caller's iterator, which runs once: what it has yielded is kept,
serialized, so that a further attempt can send it again and then go on. Serialized, because callers like to send one
object many times over with other contents. Beyond 256 KiB (gRPC's own limit) nothing of a stream is kept any more, and
the call can no longer be repeated.

gRPC reads an iterator on a thread of its own, ahead of the wire. The thread of an attempt that has failed may still
be waiting for the caller's iterator when the next attempt's thread wants it; so one at a time reads, and what it
reads is kept for whoever needs it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Any

BUFFER = 256 * 1024
_LOGGER = logging.getLogger("svcmesh.grpc")


class Request:
    """A single message, which its caller may go on to change: what was sent once is what is sent again.

    Attributes:
        message: as the caller has it; None of a stream. wire: its bytes, from when gRPC first asked for them.
        exhausted: the caller has no more messages. writes: an attempt is written to, by `write_to`.
    """

    exhausted = True
    writes = False
    wire: Any = None
    _copy: Any = None

    def __init__(self, message: Any) -> None:
        self.message = message

    @staticmethod
    def streamed(source: Iterable[Any], serializer: Callable[[Any], Any] | None) -> StreamedRequest:
        """Return a stream of messages; a ``source`` that is no iterable ends the call as one that raises does."""
        return StreamedRequest(source, serializer)

    def again(self) -> Any:
        """Return what the stock multicallable is given for one attempt: of a `Method` that carries requests, this."""
        return self

    def copied(self) -> Any:
        """Return a copy of the message as it was when one was first asked for; see `snapshot`."""
        if self._copy is None:
            self._copy = snapshot(self.message)
        return snapshot(self._copy)

    def keep(self, serializer: Callable[[Any], Any] | None) -> None:
        """Keep the message as it is now, because an attempt may start later; harmless when something is kept."""
        if self.wire is None and self._copy is None:
            self.copied()
            with suppress(Exception):  # gRPC asks again, and says what it says of a serializer that raises
                sent(serializer, self)

    def write_to(self, call: Any) -> None:
        """Do nothing: a single message is given to gRPC with the call."""

    @property
    def replayable(self) -> bool:
        """Whether `again` still gives the whole request."""
        return True

    def commit(self) -> None:
        """No further attempt will be made: nothing has to be kept."""


def sent(serializer: Callable[[Any], Any] | None, request: Request) -> Any:
    """Return the bytes of a message, as they were when they were first asked for; raises as ``serializer``.

    A function, for `functools.partial` to make gRPC's serializer of: it is on the path of each asyncio call and future.
    """
    found = request.wire
    if found is None:
        found = request.wire = request.message if serializer is None else serializer(request.message)
    return found


class CopiedRequest(Request):
    """A single message for what is no stock multicallable: each attempt gets a copy, since it may be written on."""

    def __init__(self, message: Any) -> None:
        super().__init__(message)
        self._copy = snapshot(message)

    def again(self) -> Any:
        """Return a copy of the message as it was at the call."""
        return self.copied()


class StreamedRequest(Request):
    """A stream of messages, kept as long as it may have to be sent again. Threads: any."""

    def __init__(self, source: Iterable[Any], serializer: Callable[[Any], Any] | None) -> None:
        super().__init__(None)
        self._source = source
        self._iterator: Iterator[Any] | None = None
        self._serializer = serializer
        self._lock = Lock()
        self._kept: list[Any] = []
        self._room = BUFFER
        self._keeping = True
        self.exhausted = False
        self._ended: BaseException | None = None
        self._owner: object = None

    def again(self) -> Iterator[Any]:
        """Return an iterator over all messages as bytes. Iterators given out before yield nothing new any more."""
        owner = self._owner = object()
        return self._messages(owner, self._kept)

    def keep(self, serializer: Callable[[Any], Any] | None) -> None:
        """Do nothing: messages are read when they are sent."""

    @property
    def replayable(self) -> bool:
        """Whether everything that was read is still there."""
        return self._keeping

    def commit(self) -> None:
        """Keep nothing from now on; the attempt that is under way still gets what it has not sent yet."""
        self._keeping = False

    def _messages(self, owner: object, kept: list[Any]) -> Iterator[Any]:
        """Yield what was kept, then read on. It is one function since streams are long: a frame more is 2 % of gRPC."""
        lock, position = self._lock, 0
        while True:
            with lock:
                if position < len(kept):  # an earlier attempt has sent it, or its thread has read on meanwhile
                    message = kept[position]
                    position += 1
                elif self._owner is not owner:
                    return
                elif self.exhausted:
                    break
                else:
                    try:
                        message = next(self._iterator or self._begun())
                    except StopIteration:
                        self.exhausted = True
                        break
                    except BaseException as error:  # noqa: BLE001 - whatever it is, each attempt has to meet it
                        self.exhausted, self._ended = True, error
                        break
                    position = self._keep(message, kept)
            yield message
        if self._ended is not None:
            raise self._ended  # the caller's own error: gRPC ends the call with UNKNOWN

    def _begun(self) -> Iterator[Any]:
        """Ask the source for its iterator, which may fail as its steps may."""
        if isinstance(self._source, str | bytes):
            raise TypeError(f"{type(self._source).__name__} is no stream of requests")
        source = iter(self._source)
        self._iterator = source if self._serializer is None else map(partial(serialized, self._serializer), source)
        return self._iterator

    def _keep(self, message: Any, kept: list[Any]) -> int:
        """Keep a message if need be, else let go of all; return how many are kept, all of which were sent."""
        self._room -= len(message) if type(message) is bytes else size_of(message)
        if self._keeping and self._room >= 0:
            kept.append(message)
        elif self._keeping:
            self._keeping = False
        else:
            kept.clear()
        return len(kept)


def serialized(serializer: Callable[[Any], Any], message: Any) -> Any:
    """Return the bytes of ``message``; None where they could not be made, which gRPC reads as a failed serializer.

    It is no method of a request: what a request iterates over would refer to it, and both to the caller's iterator.
    """
    try:
        return serializer(message)
    except Exception:
        _LOGGER.exception("Exception serializing message!")
        return None


def size_of(message: Any) -> int:
    """Return how much a message takes of what may be kept; one that cannot be kept takes more than there is."""
    if isinstance(message, bytes):
        return len(message)
    return int(message.ByteSize()) if hasattr(message, "ByteSize") else BUFFER + 1


def snapshot(message: Any) -> Any:
    """Return a copy of a message of protobuf's that its caller may go on to change; others as they are."""
    return copy.deepcopy(message) if hasattr(message, "ByteSize") else message
