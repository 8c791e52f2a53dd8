"""The embedded registry: processes of one user on one machine find each other through a directory, without a server.

``<directory>/<service>/<id>.json`` is one registration. Writing is a rename, a heartbeat sets a time stamp, leaving is
a rename to what says so (`tombstone`); readers look four times a second (`scan`). Who stops heartbeating counts as gone
when its TTL ends, on the machine's monotonic clock, which nobody can set back and which is the same in all processes.

File operations happen inline in the coroutines: the directory lies in memory or on a local disk, where each takes a few
microseconds, less than handing it to a thread would.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from itertools import count

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit, silent
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.announced import LARGEST
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.local.directory import REGISTRY, remove_if_empty
from svcmesh.discovery.local.record import decode, edition, encode, stamp, stamped_at
from svcmesh.discovery.local.rounds import Rounds
from svcmesh.discovery.local.scan import SUFFIX, Scan
from svcmesh.discovery.local.tombstone import bury, sweep, tombstone_of
from svcmesh.discovery.names import quote_name, unquote_name
from svcmesh.discovery.private_directory import ATTEMPTS, check_private, make_private, write_atomically
from svcmesh.discovery.regular_file import read_regular

_registries = count()
_editions = count(os.getpid())


class LocalRegistry:
    """Discovery and registration in a directory that is private to the user.

    Args:
        directory: absolute path; created with mode 0700 at first use.
        clock: instants of registrations and heartbeats. Processes see each other only on the system's clock.
        emit: told, once per version, of files that are no registrations.

    Raises:
        ConfigError: the path is not absolute, or what is there now is not private to this user.

    Threads: all coroutines of one registry run on one loop.
    """

    def __init__(self, directory: str, *, clock: Clock, emit: Emit = silent) -> None:
        if not directory.startswith("/") or "\0" in directory:
            raise ConfigError(f"the directory of local:// must be an absolute path, not {directory!r}")
        self.directory = directory.rstrip("/") or "/"
        self._clock = clock
        self._emit = emit
        self._number = next(_registries)
        self._marks: dict[tuple[str, str], tuple[int, int]] = {}  # inode and edition of what was written
        self._rounds = Rounds(clock)
        self._failed: dict[str, Scan] = {}  # what watches that ended in an error know
        self._draining: set[tuple[str, str]] = set()
        self._existed = False
        try:
            check_private(self.directory, REGISTRY)
        except DiscoveryError as error:
            raise ConfigError(str(error)) from None

    def check_announcement(self, announcement: Announcement) -> None:
        """Refuse a check, which nobody would run.

        Raises:
            ConfigError: there is one.
        """
        if announcement.check is not None:
            raise ConfigError("local:// checks nothing: leave check out, heartbeats say that the process is alive")

    @property
    def names(self) -> tuple[str, ...]:
        """The services that somebody is, or was a moment ago, registered as."""
        try:
            found = os.listdir(self.directory)  # noqa: PTH208 - pathlib's is slower
        except OSError:
            return ()  # a watch says what is wrong with it
        return tuple(name for name in map(unquote_name, found) if name is not None)

    @property
    def identity(self) -> None:
        """Nobody: the directory is on this machine's disk already."""
        return None

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield who is registered as ``service``, at once and after each change, at most a quarter second late.

        Raises:
            DiscoveryError: the directory vanished or is not private. It is made at the first watch and not again:
                who comes next would believe a new and empty one. Whose endpoints are known already keeps them.
        """
        if not self._existed:
            make_private(self.directory, REGISTRY)
            self._existed = True
        # The first process that brings a lost registry back finds it empty: the others are known from before.
        scan = self._failed.pop(service, None) or Scan(self.directory, service, clock=self._clock, emit=self._emit)
        try:
            scan.poll()
            while True:
                yield Snapshot(scan.endpoints, authoritative=True)
                await self._rounds.news(scan)
        except DiscoveryError:
            self._failed[service] = scan
            raise

    async def register(self, announcement: Announcement) -> None:
        """Announce, or announce again with other contents; an earlier registration of the same id is replaced.

        Raises:
            ConfigError: a malformed address, weight or TTL, or more than 64 KiB of meta.
            DiscoveryError: the directory cannot be written.
        """
        self._draining.discard(_key(announcement))
        self._write(announcement)
        sweep(self._service_directory(announcement), self._clock.now())

    async def heartbeat(self, announcement: Announcement) -> bool:
        """Say that the process is alive: one time stamp. Registers again where the file is gone or had run out.

        Returns:
            Whether it was, or had.

        Raises:
            DiscoveryError: the directory cannot be written, or another process has registered under the same id.
        """
        path = f"{self._service_directory(announcement)}/{_file_name(announcement)}"
        try:
            found = os.lstat(path)
            now, mine = self._clock.now(), _mark(found) == self._marks.get(_key(announcement))
            if mine and now < stamped_at(found.st_mtime_ns) + announcement.ttl:
                heartbeat = stamp(now, edition(found.st_mtime_ns))
                os.utime(path, ns=(heartbeat, heartbeat), follow_symlinks=False)
                return False
            self._check_abandoned(announcement, path, stamped_at(found.st_mtime_ns))
        except FileNotFoundError:
            pass  # removed by hand, or by a watcher while this process was stopped for much longer than its TTL
        except OSError as error:
            raise DiscoveryError(f"cannot heartbeat in {self.directory}: {error.strerror}") from None
        self._write(announcement)  # anew: who gave it up looks at the directory only, which a time stamp leaves as is
        return True

    async def deregister(self, announcement: Announcement) -> None:
        """Take the registration back, unless another process has taken the id over. For 5 s its file says that it left.

        Raises:
            DiscoveryError: the directory cannot be written.
        """
        self._draining.discard(_key(announcement))
        directory, now = self._service_directory(announcement), self._clock.now()
        sweep(directory, now)
        try:
            self._bury(announcement, now)
        except OSError as error:
            raise DiscoveryError(f"cannot deregister from {self.directory}: {error.strerror}") from None
        self._marks.pop(_key(announcement), None)
        remove_if_empty(directory)

    async def drain(self, announcement: Announcement) -> None:
        """Leave the snapshots of others, and stay registered until `deregister`.

        Raises:
            DiscoveryError: the directory cannot be written.
        """
        self._draining.add(_key(announcement))
        self._write(announcement)

    def _bury(self, announcement: Announcement, now: float) -> None:
        directory, name = self._service_directory(announcement), _file_name(announcement)
        path, mark = f"{directory}/{name}", self._marks.get(_key(announcement))
        try:
            found = os.lstat(path)
            if _mark(found) == mark or self._owner_of(path)[0] == self._owner():
                bury(directory, name, found.st_ino, found.st_mtime_ns, now)
        except FileNotFoundError:
            # Gone already. If somebody else took it away, readers still wait for it: they are told all the same, but
            # no registry is made for that alone.
            if mark is not None and check_private(self.directory, REGISTRY):
                self._place(directory, tombstone_of(name), b"", stamp(now, next(_editions)))

    def _write(self, announcement: Announcement) -> None:
        now = self._clock.now()
        owner = self._owner()
        draining = _key(announcement) in self._draining
        content = encode(announcement, since=now, draining=draining, owner=owner, pid=os.getpid())
        name = _file_name(announcement)
        directory = self._service_directory(announcement)
        try:
            mtime_ns = stamp(now, next(_editions))
            inode = self._place(directory, name, content, mtime_ns)
        except OSError as error:
            raise DiscoveryError(f"cannot register in {self.directory}: {error.strerror}") from None
        self._marks[_key(announcement)] = (inode, edition(mtime_ns))

    def _place(self, directory: str, name: str, content: bytes, mtime_ns: int) -> int:
        make_private(self.directory, REGISTRY)
        self._existed = True
        for _ in range(ATTEMPTS):
            make_private(directory, REGISTRY)
            try:
                return write_atomically(directory, name, content, mtime_ns)
            except FileNotFoundError:
                continue  # the last one to leave took the directory along
        raise DiscoveryError(f"the directory {directory} vanishes whenever it is created")

    def _check_abandoned(self, announcement: Announcement, path: str, heartbeat: float) -> None:
        """Raise if the file at our place belongs to another process that is alive: two would fight over it."""
        owner, ttl = self._owner_of(path)
        if owner not in {"", self._owner()} and self._clock.now() < heartbeat + ttl:
            raise DiscoveryError(
                f"{announcement.id!r} of {announcement.service!r} was registered again by {owner}: give each process "
                "an id of its own"
            )

    def _owner_of(self, path: str) -> tuple[str, float]:
        """Return who wrote the file, and its TTL; what nobody can have written belongs to nobody and is dead."""
        try:
            record = decode(read_regular(path, LARGEST))
        except ValueError:
            return "", 0.0
        return record.owner, record.ttl

    def _owner(self) -> str:
        return f"process {os.getpid()}, registry {self._number}"

    def _service_directory(self, announcement: Announcement) -> str:
        return f"{self.directory}/{quote_name('service', announcement.service)}"


def _mark(found: os.stat_result) -> tuple[int, int]:
    """Return what tells a file from every other at its place; an inode number alone is used again at once."""
    return found.st_ino, edition(found.st_mtime_ns)


def _key(announcement: Announcement) -> tuple[str, str]:
    return announcement.service, announcement.id


def _file_name(announcement: Announcement) -> str:
    return quote_name("id", announcement.id) + SUFFIX
