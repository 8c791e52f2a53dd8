"""What is registered for one service right now: looked at four times a second, read only where something is new.

Between changes a look is a single ``stat``: the time stamp of the directory says whether a file came, went or was
replaced, and heartbeats, which it does not show, matter only when a TTL is about to end. So two hundred registrations
that all heartbeat cost next to nothing to watch.

A file that is not there any more says nothing of its process, unless that left in order (`tombstone`): the registration
counts on for the time in which a living process brings its file back.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.announced import LARGEST
from svcmesh.discovery.local.directory import REGISTRY, remove_exactly, remove_if_empty
from svcmesh.discovery.local.record import Record, boot_id, decode, edition, stamped_at
from svcmesh.discovery.local.tombstone import KEPT, is_tombstone, proves, tombstone_of
from svcmesh.discovery.names import quote_name
from svcmesh.discovery.private_directory import TEMPORARY, check_private
from svcmesh.discovery.regular_file import read_regular

SUFFIX = ".json"
GRACE = 60.0
"""Seconds after the end of its TTL at which a registration is removed by whoever sees it."""

_SETTLE = 2.5
"""Seconds for which a changed directory is read at each look: its time stamp is as coarse as a tick, or as 2 s."""

_FULL = 5.0
"""Seconds after which a directory is read even though nothing shows that it changed (files edited in place)."""


@dataclass(slots=True)
class _File:
    """One file of the directory. ``record`` is None for what is no registration of this service.

    ``lost``: it is there no more, and nobody saw it leave.
    """

    inode: int
    version: tuple[int, ...]
    record: Record | None
    mtime_ns: int = -1
    alive_until: float = 0.0
    lost: bool = False

    def seen(self, mtime_ns: int, now: float) -> None:
        """Take note of the time stamp: it is the last heartbeat, if it can be one."""
        if mtime_ns == self.mtime_ns and not self.lost:
            return
        self.mtime_ns, self.lost = mtime_ns, False
        instant = stamped_at(mtime_ns)
        ttl = 0.0 if self.record is None else self.record.ttl
        if self.record is None or self.record.boot != boot_id():
            self.alive_until = now  # dead, or none of ours; the grace counts from here
        else:
            # Nobody heartbeats in the future: a foreign hand has touched the file, so its lease starts here and now.
            self.alive_until = ttl + (instant if instant <= now + 0.001 else now)

    def missed(self, now: float, looked: float) -> bool:
        """Take note that it is not there; return whether its process may be alive, as far as the last look says.

        A heartbeat may have come since ``looked``, so the lease of what a foreign hand took away starts here and now.
        """
        if self.record is None or self.record.draining:
            return False
        if not self.lost and self.alive_until > looked:
            self.lost, self.alive_until = True, now + self.record.ttl
        return self.lost and self.alive_until > now


class Scan:
    """The registrations of one service, as they come and go.

    Args:
        root: the registry's directory. service: whose registrations are read.

    Attributes:
        endpoints: what the last look that succeeded has found.
    """

    def __init__(self, root: str, service: str, *, clock: Clock, emit: Emit) -> None:
        self._root = root
        self._service = service
        self._directory = f"{root}/{quote_name('service', service)}"
        self._clock = clock
        self._emit = emit
        self._files: dict[str, _File] = {}
        self._mark: tuple[int, int, int] | None = None
        self._changed = 0.0
        self._next_full = 0.0
        self._looked: float | None = None
        self._failed = False
        self.endpoints: tuple[Endpoint, ...] = ()

    def poll(self) -> tuple[Endpoint, ...] | None:
        """Return the endpoints when they are others than at the last call, else None.

        Raises:
            DiscoveryError: the registry's directory is gone, cannot be read, or is not private any more.
        """
        now = self._clock.now()
        try:
            if self._quiet(now):
                return None
            failed, self._failed = self._failed, True
            found = self._read_all(now)
        except OSError as error:
            raise DiscoveryError(f"cannot read {self._directory}: {error.strerror}") from None
        self._failed = False
        self._files = found | self._lost(found, now, again=failed)
        self._remove_leftovers(now)
        ends = [file.alive_until for file in self._files.values() if file.alive_until > now]
        self._next_full = min([now + _FULL, *ends])
        endpoints = _select(file.record for file in self._files.values() if file.alive_until > now)
        first, self._looked = self._looked is None, now
        if endpoints == self.endpoints and not first:
            return None
        self.endpoints = endpoints
        return endpoints

    def _quiet(self, now: float) -> bool:
        """Whether nothing can have changed since the last look."""
        try:
            found = os.lstat(self._directory)
            mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            mark = (0, 0, 0)
        if mark != self._mark or self._failed:
            self._mark, self._changed = mark, now
            return False
        return now - self._changed > _SETTLE and now < self._next_full

    def _read_all(self, now: float) -> dict[str, _File]:
        if not check_private(self._root, REGISTRY):
            raise DiscoveryError(f"the registry directory {self._root} is gone")
        try:
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}  # nobody has registered under this name
        found: dict[str, _File] = {}
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    try:
                        found[entry.name] = self._look(descriptor, entry, now)
                    except FileNotFoundError:
                        continue  # removed since it was listed
        finally:
            os.close(descriptor)
        return found

    def _lost(self, found: dict[str, _File], now: float, *, again: bool) -> dict[str, _File]:
        """Return those that are not in the directory any more, although nothing says that they left.

        ``again``: the look before failed. Nobody could bring a file back while the registry was away.
        """
        lost = {}
        for name in self._files.keys() - found.keys():
            file, tombstone = self._files[name], found.get(tombstone_of(name))
            if file.record is None or (tombstone and proves(tombstone.mtime_ns, file.record.since, now)):
                continue
            file.lost = file.lost and not again
            if file.missed(now, self._looked or 0.0):
                lost[name] = file
        return lost

    def _look(self, directory: int, entry: os.DirEntry[str], now: float) -> _File:
        status = entry.stat(follow_symlinks=False)
        version = (status.st_ino, status.st_size, status.st_mode, edition(status.st_mtime_ns))
        file = self._files.get(entry.name)
        if file is None or file.version != version:
            file = _File(status.st_ino, version, self._read(directory, entry.name))
        file.seen(status.st_mtime_ns, now)
        return file

    def _read(self, directory: int, name: str) -> Record | None:
        """Read one file; what is no registration is reported, once for each version of the file.

        Raises:
            OSError: that it cannot be read is not the file's fault (no descriptor is left, the disk fails).
        """
        if name.startswith(TEMPORARY):
            return None
        try:
            return self._decode(directory, name)
        except (PermissionError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            path = f"{self._directory}/{name}"
            self._emit("config.warning", service=self._service, error=f"skipped {path!r}: {reason}")
            return None

    def _decode(self, directory: int, name: str) -> Record:
        record = decode(read_regular(name, LARGEST, directory))
        if name != quote_name("id", record.id) + SUFFIX or record.service != self._service:
            raise ValueError(f"it registers {record.id!r} of {record.service!r}, which belongs elsewhere")
        return record

    def _remove_leftovers(self, now: float) -> None:
        """Remove what processes left that could not leave in order, long after it stopped to count."""
        removed = 0
        for name, file in list(self._files.items()):
            ours = file.record is not None or name.startswith(TEMPORARY)
            if ours and now >= file.alive_until + (KEPT if is_tombstone(name) else GRACE):
                del self._files[name]
                with suppress(OSError):  # who may only read sees the same as others
                    removed += remove_exactly(self._directory, name, file.inode, file.mtime_ns)
        if removed and all(file.lost for file in self._files.values()):
            remove_if_empty(self._directory)


def _select(records: Iterable[Record | None]) -> tuple[Endpoint, ...]:
    """Return who takes calls, in order of address.

    A process that was killed and started again at the same address is listed twice until the first TTL ends: the
    newer registration holds.
    """
    live = [record for record in records if record is not None and not record.draining]
    by_address = {record.endpoint.address: record.endpoint for record in sorted(live, key=lambda r: (r.since, r.id))}
    return tuple(by_address[address] for address in sorted(by_address))
