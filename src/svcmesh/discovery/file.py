"""Endpoints from a JSON or YAML file that is read again when it changes: ``file:///etc/mesh.yaml``.

The file is looked at, not subscribed to: one ``stat`` three times a second works on every file system and sees
every way to replace a file (written in place, renamed over, a symlink pointed elsewhere, as Kubernetes does).

Reads happen inline on the worker's loop. A configuration file is small and lies on a local disk, where a read takes
less time than handing it to a thread would, and a mesh owns one thread and no pool of them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from svcmesh.core.clock import Clock, sleep_until
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.documents import line_of, parse_document
from svcmesh.discovery.listing import ListingError, describe, endpoints_from
from svcmesh.discovery.names import quote_name

POLL = 0.3
"""Seconds between two looks at a file."""

LARGEST = 8 * 1024 * 1024
"""Bytes that a file may have."""

_SETTLE = 2.5
"""Seconds for which a changed file is read at each look: its time stamp may be as coarse as two seconds."""


class FileDiscovery:
    """Endpoints of a file: a list for whoever asks, or a mapping from service name to list.

    Args:
        path: absolute; ``{service}`` in it stands for the (quoted) name of the service.
        clock: what the watch waits by.

    An empty list is believed at once. A service that a mapping does not have is one without endpoints.

    Source: Envoy's filesystem subscriptions; style of errors from Prometheus' file_sd.
    """

    def __init__(self, path: str, *, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield the endpoints of ``service`` at once, and again when the content of the file is another.

        Raises:
            DiscoveryError: the file is missing or wrong; the message has its path, the line and the field.
        """
        path = self._path
        if "{service}" in path:
            path = path.replace("{service}", quote_name("service", service))
        watched = _Watched(path)
        while True:
            content = watched.poll(self._clock.now())
            if content is not None:
                yield Snapshot(decode(content, path, service), authoritative=True)
            await sleep_until(self._clock, self._clock.now() + POLL)


class _Watched:
    """One file, and what was last seen of it."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._mark: tuple[int, ...] = ()
        self._changed = 0.0
        self._digest = b""

    def poll(self, now: float) -> bytes | None:
        """Return the content if it is another than last time."""
        try:
            found = self._path.stat()
            mark = (found.st_mtime_ns, found.st_size, found.st_ino)
            if mark != self._mark:
                self._mark, self._changed = mark, now
            elif now - self._changed > _SETTLE:
                return None
            content = _read(self._path)
        except OSError as error:
            raise DiscoveryError(f"cannot read {self._path}: {error.strerror}") from None
        digest = hashlib.sha256(content).digest()
        if digest == self._digest:
            return None
        self._digest = digest
        return content


def _read(path: Path) -> bytes:
    """Read a regular file; a FIFO or a device would block, or never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DiscoveryError(f"{path} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise DiscoveryError(f"{path} is larger than {LARGEST} bytes")
    return content


def decode(content: bytes, path: str, service: str) -> tuple[Endpoint, ...]:
    """Return the endpoints of ``service`` in a file's content.

    Raises:
        DiscoveryError: the first mistake, wherever in the file it stands, with path, line and field.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DiscoveryError(f"{path}, line {line}: not UTF-8 text") from None
    document = parse_document(text, path, is_json=path.endswith(".json"))
    try:
        return _select(document, service)
    except ListingError as error:
        line_number = line_of(text, error.path)
        line_text = "" if line_number is None else f", line {line_number}"
        field = describe(error.path)
        raise DiscoveryError(f"{path}{line_text}{', ' + field if field else ''}: {error}") from None


def _select(document: Any, service: str) -> tuple[Endpoint, ...]:
    if document is None:
        raise ListingError("the file is empty: write [] for no endpoints", ())
    if not isinstance(document, dict):
        return endpoints_from(document)
    services: dict[str, tuple[Endpoint, ...]] = {}
    for name, listed in document.items():
        if not isinstance(name, str):
            raise ListingError(f"a service name is text, not {name!r}: put it in quotes", (str(name),))
        services[name] = endpoints_from(listed, (name,))
    return services.get(service, ())
