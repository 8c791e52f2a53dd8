"""What a call sends, in a form that can be sent once more.

A single message can always be repeated. A stream is the caller's iterator, which runs once: what it has yielded is
kept, serialized, so that a further attempt can send it again and then go on. Serialized, because callers like to
yield one object many times over with other contents. Beyond 256 KiB (gRPC's own limit) nothing is kept any more, and
the call can no longer be repeated.

gRPC reads an iterator on a thread of its own, ahead of the wire. The thread of an attempt that has failed may still
be waiting for the caller's iterator when the next attempt's thread wants it; so one at a time reads, and what it
reads is kept for whoever needs it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import Any

BUFFER = 256 * 1024
_LOGGER = logging.getLogger("svcmesh.grpc")


class Request:
    """A single message.

    Attributes:
        exhausted: the caller has no more messages.
    """

    exhausted = True

    def __init__(self, message: Any) -> None:
        self._message = message

    @staticmethod
    def streamed(source: Iterable[Any], serializer: Callable[[Any], Any] | None) -> StreamedRequest:
        """Return a stream of messages; a ``source`` that is no iterable ends the call as one that raises does."""
        return StreamedRequest(source, serializer)

    def again(self) -> Any:
        """Return what the stock multicallable is given for one attempt."""
        return self._message

    @property
    def replayable(self) -> bool:
        """Whether `again` still gives the whole request."""
        return True

    def commit(self) -> None:
        """No further attempt will be made: nothing has to be kept."""


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

    @property
    def replayable(self) -> bool:
        """Whether everything that was read is still there."""
        return self._keeping

    def commit(self) -> None:
        """Keep nothing from now on; the attempt that is under way still gets what it has not sent yet."""
        self._keeping = False

    def _messages(self, owner: object, kept: list[Any]) -> Iterator[Any]:
        position = 0
        while True:
            while position < len(kept):
                position += 1
                yield kept[position - 1]
            with self._lock:
                if position < len(kept):
                    continue  # the thread of an earlier attempt has read on meanwhile
                if self._owner is not owner:
                    return
                if not self._keeping:
                    kept.clear()
                message = self._read(kept)
                position = len(kept)
            if message is _END:
                break
            yield message
        if self._ended is not None:
            raise self._ended  # the caller's own error: gRPC ends the call with UNKNOWN

    def _read(self, kept: list[Any]) -> Any:
        """Read one message of the caller's, and keep it if need be; `_END` when there is none."""
        if self.exhausted:
            return _END
        try:
            if self._iterator is None:
                self._iterator = iter(self._source)
            message = self._serialized(next(self._iterator))
        except StopIteration:
            self.exhausted = True
            return _END
        except BaseException as error:  # noqa: BLE001 - whatever it is, each attempt has to meet it
            self.exhausted, self._ended = True, error
            return _END
        self._room -= size_of(message)
        self._keeping = self._keeping and self._room >= 0
        if self._keeping:
            kept.append(message)
        return message

    def _serialized(self, message: Any) -> Any:
        """Return the bytes of ``message``; None, which gRPC reads as a failed serializer, when that raises."""
        if self._serializer is None:
            return message
        try:
            return self._serializer(message)
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


_END = object()
