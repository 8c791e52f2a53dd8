"""Can a request body be sent a second time, byte for byte?

Most can: what is in memory, multipart forms over files that can be rewound. The rest is dangerous in silence: an open
file that was sent once has nothing left to send, and httpx sends just that. So such a body is watched, and a file is
put back to where it stood.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx


class Body:
    """The body of one logical request.

    Threads: one at a time, as its request.
    """

    def __init__(self, request: httpx.Request) -> None:
        stream = request.stream
        self._watched: Watched | None = None
        self._file: Any = None
        self._offset = 0
        if isinstance(stream, httpx.ByteStream) or _is_rewindable_form(stream):
            return
        source = getattr(stream, "_stream", None)  # httpx: what was given as `content=`
        if isinstance(source, list | tuple):
            return
        if not hasattr(stream, "__aiter__"):  # a file that is awaited has coroutines in place of `tell` and `seek`
            self._remember(source)
        if self._file is None:
            self._watched = request.stream = Watched(stream)

    def replayable(self) -> bool:
        """Whether the next attempt will send the same bytes as the first; a file is put back for it."""
        if self._file is not None:
            return self._rewind()
        return self._watched is None or not self._watched.touched

    def _remember(self, source: Any) -> None:
        """Note where a file stands that can be put back there."""
        if not (hasattr(source, "read") and hasattr(source, "tell") and _is_seekable(source)):
            return
        try:
            self._offset = source.tell()
        except (OSError, ValueError):
            return
        self._file = source

    def _rewind(self) -> bool:
        try:
            self._file.seek(self._offset)
        except (OSError, ValueError):
            return False
        return True


class Watched(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A stream that knows whether somebody has begun to read it.

    It is read as the stream can be: some only in one colour, some, such as httpx's forms, in both.
    """

    def __init__(self, stream: Any) -> None:
        self.touched = False
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        """Hand on what the stream has."""
        self.touched = True
        yield from self._stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Hand on what the stream has."""
        self.touched = True
        async for part in self._stream:
            yield part

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()


def _is_rewindable_form(stream: Any) -> bool:
    """Whether this is a multipart form, and every file in it can be put back to its start, where httpx starts."""
    fields = getattr(stream, "fields", None)
    if not isinstance(fields, list) or type(stream).__name__ != "MultipartStream":
        return False
    files = [field.file for field in fields if hasattr(field, "file")]
    return all(isinstance(file, str | bytes) or _is_seekable(file) for file in files)


def _is_seekable(file: Any) -> bool:
    seekable = getattr(file, "seekable", None)
    try:
        return bool(seekable()) if callable(seekable) else False
    except (OSError, ValueError):
        return False
