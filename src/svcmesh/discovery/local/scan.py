"""What is registered for one service right now: looked at four times a second, read only where something is new.

Between changes a look is a single ``stat``: the time stamp of the directory says whether a file came, went or was
replaced, and heartbeats, which it does not show, matter only when a TTL is about to end. So two hundred registrations
that all heartbeat cost next to nothing to watch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.announced import LARGEST
from svcmesh.discovery.local.directory import REGISTRY, remove_exactly, remove_if_empty
from svcmesh.discovery.local.record import Record, boot_id, decode, edition, stamped_at
from svcmesh.discovery.names import quote_name
from svcmesh.discovery.private_directory import TEMPORARY, check_private, read_regular

SUFFIX = ".json"
GRACE = 60.0
"""Seconds after the end of its TTL at which a registration is removed by whoever sees it."""

_SETTLE = 2.5
"""Seconds for which a changed directory is read at each look: its time stamp is as coarse as a tick, or as 2 s."""

_FULL = 5.0
"""Seconds after which a directory is read even though nothing shows that it changed (files edited in place)."""


@dataclass(slots=True)
class _File:
    """One file of the directory. ``record`` is None for what is no registration of this service."""

    inode: int
    version: tuple[int, ...]
    record: Record | None
    mtime_ns: int = -1
    alive_until: float = 0.0

    def seen(self, mtime_ns: int, now: float) -> None:
        """Take note of the time stamp: it is the last heartbeat, if it can be one."""
        if mtime_ns == self.mtime_ns:
            return
        self.mtime_ns = mtime_ns
        instant = stamped_at(mtime_ns)
        ttl = 0.0 if self.record is None else self.record.ttl
        if self.record is None or self.record.boot != boot_id():
            self.alive_until = now  # dead, or none of ours; the grace counts from here
        else:
            # Nobody heartbeats in the future: a foreign hand has touched the file, so its lease starts here and now.
            self.alive_until = ttl + (instant if instant <= now + 0.001 else now)


class Scan:
    """The registrations of one service, as they come and go.

    Args:
        root: the registry's directory. service: whose registrations are read.
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
        self._last: tuple[Endpoint, ...] | None = None

    def poll(self) -> tuple[Endpoint, ...] | None:
        """Return the endpoints when they are others than at the last call, else None.

        Raises:
            DiscoveryError: the registry's directory is gone, cannot be read, or is not private any more.
        """
        now = self._clock.now()
        try:
            if self._quiet(now):
                return None
            self._files = self._read_all(now)
        except OSError as error:
            raise DiscoveryError(f"cannot read {self._directory}: {error.strerror}") from None
        self._remove_leftovers(now)
        ends = [file.alive_until for file in self._files.values() if file.alive_until > now]
        self._next_full = min([now + _FULL, *ends])
        endpoints = _select(file.record for file in self._files.values() if file.alive_until > now)
        if endpoints == self._last:
            return None
        self._last = endpoints
        return endpoints

    def _quiet(self, now: float) -> bool:
        """Whether nothing can have changed since the last look."""
        try:
            found = os.lstat(self._directory)
            mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            mark = (0, 0, 0)
        if mark != self._mark:
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

    def _look(self, directory: int, entry: os.DirEntry[str], now: float) -> _File:
        status = entry.stat(follow_symlinks=False)
        version = (status.st_ino, status.st_size, status.st_mode, edition(status.st_mtime_ns))
        file = self._files.get(entry.name)
        if file is None or file.version != version:
            file = _File(status.st_ino, version, self._read(directory, entry.name))
        file.seen(status.st_mtime_ns, now)
        return file

    def _read(self, directory: int, name: str) -> Record | None:
        """Read one file; what is no registration is reported, once for each version of the file."""
        if name.startswith(TEMPORARY):
            return None
        try:
            return self._decode(directory, name)
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
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
            if ours and now >= file.alive_until + GRACE:
                removed += remove_exactly(self._directory, name, file.inode, file.mtime_ns)
                del self._files[name]
        if removed and not self._files:
            remove_if_empty(self._directory)


def _select(records: Iterable[Record | None]) -> tuple[Endpoint, ...]:
    """Return who takes calls, in order of address.

    A process that was killed and started again at the same address is listed twice until the first TTL ends: the
    newer registration holds.
    """
    live = [record for record in records if record is not None and not record.draining]
    by_address = {record.endpoint.address: record.endpoint for record in sorted(live, key=lambda r: (r.since, r.id))}
    return tuple(by_address[address] for address in sorted(by_address))
