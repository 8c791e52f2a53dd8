"""What was known last, on disk: so that a process can start while its registry is down.

A directory holds one file for each service (`svcmesh.discovery.cache_file`). Several processes may share it: each file
is replaced in one step, and they know the same. Nothing here decides when to read or to write; all of it happens on a
thread beside the worker, and nothing that goes wrong on a disk is worse for a call than having no cache.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from svcmesh.core.emit import Emit
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.cache_file import LARGEST, Subject, decode, encode
from svcmesh.discovery.private_directory import (
    TEMPORARY,
    Role,
    check_private,
    make_private,
    write_atomically,
)
from svcmesh.discovery.regular_file import read_regular
from svcmesh.engine.aside import Aside

MAX_AGE = 86_400.0
"""Seconds after which what was known is not worth knowing: addresses are given to others, and a call would reach them.

A longer one helps only where a registry is down for longer than a day and processes still start; a shorter one may
be asked for by `Mesh(max_stale=…)`."""

_ABANDONED = 3600.0  # seconds after which a file that was being written is nobody's any more
_LONGEST_ERROR = 500
_ROLE = Role("cache directory", "Mesh(cache=…)")


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a cache knew, and for how many seconds that may have been out of date."""

    snapshot: Snapshot
    age: float


class Cache:
    """The files of one mesh in one directory.

    Args:
        directory: absolute; made with mode 0700 unless it is there. emit: told of ``config.warning``.
        wall: the wall clock, in seconds since 1970: a file outlives the machine's monotonic clock.
        oldest: seconds after which what was known is not used, `MAX_AGE` at most.
        aside: does what may block.

    Raises:
        DiscoveryError: it cannot be made, or is not private to this user.
    """

    def __init__(
        self,
        directory: str,
        emit: Emit,
        *,
        wall: Callable[[], float] = time.time,
        oldest: float | None = None,
        aside: Aside | None = None,
    ) -> None:
        make_private(directory, _ROLE)
        self.directory = directory
        self.emit = emit
        self.wall = wall
        self.oldest = MAX_AGE if oldest is None else min(oldest, MAX_AGE)
        self.aside = Aside("svcmesh-cache") if aside is None else aside
        self._swept = False

    def slot(self, service: str, source: str) -> Slot | None:
        """Return the place of ``service`` as ``source`` knows it; None where no file can have its name."""
        subject = Subject(service, source)
        try:
            return Slot(self, subject, f"{self.directory}/{subject.file_name}")
        except ConfigError:
            return None  # whoever is asked for it will say what is wrong with that name

    def prepare(self) -> None:
        """Look that the directory is (still) private, and once, remove what crashes have left in it.

        Raises:
            DiscoveryError: as the constructor.
        """
        make_private(self.directory, _ROLE)
        if self._swept:
            return
        self._swept = True
        for path in Path(self.directory).glob(f"{TEMPORARY}*"):
            with suppress(OSError):
                if self.wall() - path.lstat().st_mtime > _ABANDONED:
                    path.unlink()

    def join(self, timeout: float = 5.0) -> None:
        """Wait until what was to be written is, at most ``timeout`` seconds."""
        self.aside.join(timeout)

    def reset_after_fork(self) -> None:
        """In a forked child: what is under way is the parent's business."""
        self.aside.reset_after_fork()


class Slot:
    """The file of one service. Both methods return at once, and must be called on the loop of the service's watch."""

    def __init__(self, cache: Cache, subject: Subject, path: str) -> None:
        self._cache = cache
        self._subject = subject
        self._path = path
        self._told: str | None = None

    def write(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Have the file say that these are there, as of now; none: have it gone."""
        job = partial(self._write, endpoints, self._cache.wall())
        self._cache.aside.run(("write", self._path), partial(self._try, job))

    def read(self, done: Callable[[Recalled], object]) -> None:
        """Call ``done`` on this loop with what the file says, if it says anything that can be used."""
        loop = asyncio.get_running_loop()

        def job() -> None:
            found = self._read()
            if found is not None:
                with suppress(RuntimeError):  # the mesh was closed meanwhile, and its loop with it
                    loop.call_soon_threadsafe(done, found)

        self._cache.aside.run(("read", self._path), partial(self._try, job))

    def _try(self, job: Callable[[], object]) -> None:
        """Do what may fail, and report it once for each reason."""
        try:
            job()
        except Exception as error:  # noqa: BLE001 - a cache is extra: whatever is wrong with it must not matter
            text = _text(error, self._path)
            if text != self._told:
                self._told = text
                self._cache.emit("config.warning", service=self._subject.service, error=text)
        else:
            self._told = None

    def _write(self, endpoints: tuple[Endpoint, ...], now: float) -> None:
        self._cache.prepare()
        if not endpoints:
            Path(self._path).unlink(missing_ok=True)
            return
        content = encode(self._subject, now, endpoints)
        if len(content) > LARGEST:
            raise DiscoveryError(f"{len(endpoints)} endpoints take {len(content)} bytes, more than {LARGEST}")
        directory, _, name = self._path.rpartition("/")
        write_atomically(directory, name, content, int(now * 1e9), sync=True)

    def _read(self) -> Recalled | None:
        if not check_private(self._cache.directory, _ROLE):
            return None
        try:
            content = read_regular(self._path, LARGEST)
        except FileNotFoundError:
            return None
        saved = decode(content, self._path, self._subject)
        age = max(0.0, self._cache.wall() - saved.at)  # a clock that was set back says nothing of the age
        if age > self._cache.oldest:
            raise DiscoveryError(f"it is {_long(age)} old, and not used after {_long(self._cache.oldest)}")
        return Recalled(saved.snapshot, age) if saved.snapshot.endpoints else None


def _long(seconds: float) -> str:
    return f"{seconds / 3600:.0f} hours" if seconds >= 2 * 3600 else f"{seconds:.0f} seconds"


def open_cache(directory: Any, emit: Emit, oldest: float | None = None) -> Cache | None:
    """Open what ``Mesh(cache=…)`` was given; None is none. ``oldest``: as of `Cache`.

    Raises:
        ConfigError: no path, or a directory that cannot be made or is not private to this user.
    """
    if directory is None:
        return None
    path = os.fspath(directory) if isinstance(directory, str | os.PathLike) else directory
    if not isinstance(path, str) or not path or "\0" in path:
        raise ConfigError(f"cache must be the path of a directory, such as '/var/cache/app', not {directory!r}")
    try:
        return Cache(os.path.abspath(path), emit, oldest=oldest)  # noqa: PTH100 - symlinks on the way may be moved later
    except (DiscoveryError, OSError) as error:
        raise ConfigError(f"cache={path!r}: {error}") from None


def _text(error: Exception, path: str) -> str:
    """Return an error as a warning says it; contents of a file may be part of it, and of any length."""
    reason = str(error) if isinstance(error, DiscoveryError | ValueError) else repr(error)
    if isinstance(error, OSError):
        reason = error.strerror or reason  # without the name of a temporary file, which is another one each time
    return f"the cache {path} is of no use: {reason.removeprefix(path).lstrip(':, ')[:_LONGEST_ERROR]}"
