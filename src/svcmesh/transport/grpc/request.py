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
from itertools import chain
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
        self._keeping = True
        self.exhausted = False
        self._ended: BaseException | None = None
        self._owner: object = None

    def again(self) -> Iterator[Any]:
        """Return an iterator over all messages as bytes. Iterators given out before yield nothing new any more."""
        owner = self._owner = object()
        return chain(self._sent_before(owner, self._kept), self._read(owner, self._kept))

    def keep(self, serializer: Callable[[Any], Any] | None) -> None:
        """Do nothing: messages are read when they are sent."""

    @property
    def replayable(self) -> bool:
        """Whether everything that was read is still there."""
        return self._keeping

    def commit(self) -> None:
        """Keep nothing from now on; the attempt that is under way still gets what it has not sent yet."""
        self._keeping = False

    def _sent_before(self, owner: object, kept: list[Any]) -> Iterator[Any]:
        """Yield what earlier attempts have read, and what the thread of one still waits for."""
        position = 0
        while self._owner is owner:
            if position == len(kept):
                with self._lock:
                    pass
                if position == len(kept):
                    return
            yield kept[position]
            position += 1

    def _read(self, owner: object, kept: list[Any]) -> Iterator[Any]:  # noqa: C901, PLR0912 - a call more is 1 % of one
        """Read on, one thread at a time."""
        acquire, release, serializer = self._lock.acquire, self._lock.release, self._serializer
        acquire()
        held, room = True, BUFFER - sum(map(size_of, kept))
        try:
            for message in self._rest(owner):
                if serializer is not None:
                    try:
                        message = serializer(message)  # noqa: PLW2901 - a name more is an instruction more
                    except Exception:
                        _LOGGER.exception("Exception serializing message!")
                        message = None  # noqa: PLW2901 - which gRPC reads as a failed serializer
                if self._keeping:
                    room -= len(message) if type(message) is bytes else size_of(message)
                    if room < 0:
                        self._keeping = False
                    kept.append(message)
                elif self._owner is owner:
                    kept.clear()
                else:
                    kept.append(message)  # for who sends what came before it
                held = False
                release()
                yield message
                acquire()
                held = True
                if self._owner is not owner:
                    return
            self.exhausted = True
        except BaseException as error:
            if not held:
                raise  # gRPC reads no more
            self.exhausted, self._ended = True, error  # whatever it is, each attempt has to meet it
        finally:
            if held:
                release()
        if self._ended is not None:
            raise self._ended  # the caller's own error: gRPC ends the call with UNKNOWN

    def _rest(self, owner: object) -> Iterable[Any]:
        """Return the source's iterator, unless there is nothing to read; to ask for it may fail as its steps may."""
        if self._owner is not owner or self.exhausted:
            return ()
        if self._iterator is None:
            source: Any = self._source
            if isinstance(source, str | bytes):
                raise TypeError(f"{type(source).__name__} is no stream of requests")
            found: Any = source if hasattr(source, "__next__") else iter(source)
            self._iterator = found if hasattr(found, "__iter__") else iter(found.__next__, object())
        return self._iterator


def serialized(serializer: Callable[[Any], Any], message: Any) -> Any:
    """Return the bytes of ``message``; None where they could not be made, which gRPC reads as a failed serializer."""
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
