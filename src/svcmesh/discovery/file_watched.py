"""One file that many services are read from: looked at by one timer, and parsed once per content for all of them.

Small contents are parsed where they are read, on the loop. Parsing takes up to 3 s per MiB of YAML and 1 s per MiB of
JSON (measured), and the loop is the mesh's only one, heartbeats included: so a large content is parsed on a thread of
its own, which ends with it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Generic, TypeVar

from svcmesh.core.clock import Clock, Timer
from svcmesh.core.emit import Emit, silent
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.regular_file import read_regular

T = TypeVar("T")

POLL = 0.04
"""Seconds between two looks at a file: so, with what a change waits for others, it is in force within a tenth."""

SELDOM = 0.3
"""Seconds between two looks at one of files that may be thousands, and between two readings of an unchanged one."""

LARGEST = 8 * 1024 * 1024
"""Bytes that a file may have."""

SMALL = 32 * 1024
"""Bytes up to which a content is parsed on the loop: a tenth of a second at most."""

_SETTLE = 2.5
"""Seconds for which a changed file is read again and again: its time stamp may be as coarse as two seconds."""


class WatchedFile(Generic[T]):
    """One file, and what was last seen of it. ``decode`` makes of content and path what those who wait are given.

    ``emit`` is told, once per content, of ``config.reloaded`` where a good one follows another good one, and of
    ``config.warning`` where a content is wrong and what was known stays. ``every``: seconds between two looks.

    Threads: one loop at a time. On another one (in a forked child) the waiting begins anew. ``decode`` may run on a
    thread of its own, see `SMALL`.
    """

    def __init__(
        self, path: str, decode: Callable[[bytes, str], T], clock: Clock, emit: Emit = silent, every: float = POLL
    ) -> None:
        self._path = Path(path)
        self._decode = decode
        self._clock = clock
        self._emit = emit
        self._every = every
        self._mark: tuple[int, ...] = ()
        self._changed = self._looked = self._read_at = float("-inf")
        self._digest = self._good = b""
        self._version = 0
        self._value: T | None = None
        self._error: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: Timer | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._parser: Thread | None = None

    async def after(self, version: int) -> tuple[int, T]:
        """Return the file's decoded content and its version as soon as that is another than ``version``.

        Raises:
            DiscoveryError: the file cannot be read or decoded.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin_anew(loop)
        if self._clock.now() >= self._looked + self._every:
            self._look()
        while self._error is None and self._version == version:
            await self._next_news(loop)
        if self._error is not None or self._value is None:
            raise DiscoveryError(self._error or f"{self._path} has not been read")
        return self._version, self._value

    def _begin_anew(self, loop: asyncio.AbstractEventLoop) -> None:
        """Forget whoever waited on another loop, and what was still being parsed for it."""
        self._loop, self._timer, self._waiting = loop, None, set()
        if self._parser is not None:
            self._parser, self._mark, self._digest = None, (), b""

    async def _next_news(self, loop: asyncio.AbstractEventLoop) -> None:
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.add(future)
        if self._timer is None:
            self._set(loop)
        try:
            await future
        finally:
            self._waiting.discard(future)
            if not self._waiting and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = self._clock.call_at(loop, self._clock.now() + self._every, lambda: self._go(loop))

    def _go(self, loop: asyncio.AbstractEventLoop) -> None:
        self._set(loop)
        version = self._version
        self._look()
        self._tell(version)

    def _tell(self, version: int) -> None:
        """Wake whoever waits, if there is an error or another version than ``version``."""
        if self._error is not None or self._version != version:
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)

    def _look(self) -> None:
        """Look at the file, and parse it if its content is another; a mistake in it stays until it changes."""
        now = self._looked = self._clock.now()
        if self._parser is not None:
            return  # a look after that one finds whatever has changed meanwhile
        try:
            found = self._path.stat()
            mark = (found.st_mtime_ns, found.st_size, found.st_ino)
            if mark != self._mark:
                self._mark, self._changed = mark, now
            elif now - self._changed > _SETTLE or now - self._read_at < SELDOM:
                return
            self._read_at = now
            content = read_regular(str(self._path), LARGEST, follow=True)
            if len(content) > LARGEST:
                raise DiscoveryError(f"{self._path} is larger than {LARGEST} bytes")
            self._take(content)
        except OSError as error:
            self._lose(f"cannot read {self._path}: {error.strerror}")
        except DiscoveryError as error:
            self._lose(str(error))

    def _take(self, content: bytes) -> None:
        digest = hashlib.sha256(content).digest()
        if digest == self._digest:
            return
        self._digest = digest
        if len(content) <= SMALL:
            self._put(digest, *self._parse(content))
        else:
            self._parser = Thread(
                target=self._parse_aside, args=(content, digest), name="svcmesh-file-parser", daemon=True
            )
            self._parser.start()

    def _parse(self, content: bytes) -> tuple[T | None, str | None]:
        """Return the decoded content, or what is wrong with it."""
        try:
            return self._decode(content, str(self._path)), None
        except DiscoveryError as error:
            return None, str(error)
        except Exception as error:  # noqa: BLE001 - in a timer or a thread nobody else would hear of it
            return None, f"{self._path}: {type(error).__name__}: {error}"

    def _parse_aside(self, content: bytes, digest: bytes) -> None:
        """Parse on this thread, and hand the result to the loop."""
        loop, parser = self._loop, self._parser
        parsed = self._parse(content)

        def done() -> None:
            if self._parser is parser:
                self._parser = None
                version = self._version
                self._put(digest, *parsed)
                self._tell(version)

        if loop is not None:
            with suppress(RuntimeError):  # the mesh was closed meanwhile, and its loop with it
                loop.call_soon_threadsafe(done)

    def _put(self, digest: bytes, value: T | None, error: str | None) -> None:
        """Put a decoded content in force, and report what that amounts to."""
        if error is not None:
            self._error = error
            self._emit("config.warning", service="", error=error)
            return
        self._value, self._error = value, None
        self._version += 1
        before, self._good = self._good, digest
        if before not in {b"", digest}:
            self._emit("config.reloaded", service="", source=str(self._path))

    def _lose(self, error: str) -> None:
        self._error, self._mark, self._digest = error, (), b""
