"""What one registration looks like on disk: an announcement to bytes, and bytes of unknown origin to an endpoint.

The content of a file changes only when its process says something new (registered, draining). That it is still alive
it says by the modification time of the file, which is set on purpose, to the machine's monotonic clock: the wall
clock has no part in it. So a heartbeat is one system call, and readers see it without opening anything.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from svcmesh.core.endpoint import Endpoint, Locality
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.announced import LARGEST, LONGEST_TTL
from svcmesh.discovery.base import Announcement

SCHEMA = 1
_LATEST = 1e12  # thirty thousand years after the machine was started
_EDITIONS = 1000


@dataclass(frozen=True, slots=True)
class Record:
    """One registration as it was read.

    Attributes:
        service, id: what was registered. endpoint: where it is, as callers see it.
        ttl: seconds after the last heartbeat at which it counts as gone. since: instant of its registration.
        draining: it takes no new calls. owner: which registrar of which process wrote it. boot: when the machine ran.
    """

    service: str
    id: str
    endpoint: Endpoint
    ttl: float
    since: float
    draining: bool
    owner: str
    boot: str


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return what names this run of the machine, since a monotonic clock starts again at each boot.

    Elsewhere than on Linux it is empty. A file from before a reboot then shows itself by a time stamp in the future.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def encode(announcement: Announcement, *, since: float, draining: bool, owner: str, pid: int) -> bytes:
    """Return the content of the file for ``announcement``.

    Raises:
        ConfigError: a malformed address or weight, meta that is no text, or more than 64 KiB in all.
    """
    Endpoint(announcement.address, weight=announcement.weight)
    content = {
        "svcmesh": SCHEMA,
        "service": announcement.service,
        "id": announcement.id,
        "address": announcement.address,
        "weight": announcement.weight,
        "tags": list(announcement.tags),
        "meta": dict(announcement.meta),
        "locality": None if announcement.locality is None else asdict(announcement.locality),
        "ttl": announcement.ttl,
        "since": since,
        "state": "draining" if draining else "up",
        "pid": pid,
        "owner": owner,
        "boot": boot_id(),
    }
    try:
        encoded = json.dumps(content, allow_nan=False).encode("ascii")
        decode(encoded)  # what readers would skip is refused here, where somebody can still see why
    except (TypeError, ValueError) as error:
        raise ConfigError(f"registration of {announcement.service!r}: {error}") from None
    return encoded


def decode(content: bytes) -> Record:
    """Return the registration in ``content``, whoever wrote it. Keys it does not know it ignores: newer writers may.

    Raises:
        ValueError: it is no registration; the message says what is wrong with it.
    """
    if len(content) > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    try:
        found = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"no JSON: {error}" if content else "empty") from None
    if not isinstance(found, dict) or found.get("svcmesh") != SCHEMA:
        raise ValueError("not written by svcmesh, or by a version that is not understood")
    state = _field(found, "state", str)
    if state not in {"up", "draining"}:
        raise ValueError(f"state {state!r} is neither 'up' nor 'draining'")
    return Record(
        service=_field(found, "service", str),
        id=_field(found, "id", str),
        endpoint=_endpoint(found),
        ttl=_seconds(found, "ttl", LONGEST_TTL),
        since=_seconds(found, "since", _LATEST),
        draining=state == "draining",
        owner=_field(found, "owner", str),
        boot=_field(found, "boot", str),
    )


def stamp(now: float, edition: int) -> int:
    """Return the modification time, in nanoseconds, that says "alive at ``now``" of this edition of the content.

    The instant is kept in whole microseconds, and the three digits below them tell one content of a file from the
    next: an inode number alone does not, since file systems use it again at once.
    """
    return int(now * 1e6) * _EDITIONS + edition % _EDITIONS


def stamped_at(mtime_ns: int) -> float:
    """Return the instant of a time stamp."""
    return mtime_ns // _EDITIONS / 1e6


def edition(mtime_ns: int) -> int:
    """Return the edition of a time stamp."""
    return mtime_ns % _EDITIONS


def _endpoint(found: dict[str, Any]) -> Endpoint:
    meta = _field(found, "meta", dict)
    tags = _field(found, "tags", list)
    if not all(isinstance(value, str) for value in (*meta.values(), *tags)):
        raise ValueError("tags and the values of meta are text")
    metadata = {"tags": tuple(tags), **meta} if tags else meta
    return Endpoint(
        _field(found, "address", str),
        weight=_field(found, "weight", int | float),
        locality=_locality(found.get("locality")),
        metadata=metadata,
    )


def _locality(found: Any) -> Locality | None:
    if found is None:
        return None
    names = Locality.__dataclass_fields__
    if not isinstance(found, dict) or not all(k in names and isinstance(v, str) for k, v in found.items()):
        raise ValueError(f"locality {found!r} is no mapping of {', '.join(names)} to text")
    return Locality(**found)


def _seconds(found: dict[str, Any], key: str, most: float) -> float:
    seconds = _field(found, key, int | float)
    if not 0 <= seconds <= most or (key == "ttl" and seconds == 0):  # no NaN and no infinity passes either
        raise ValueError(f"{key} is no number of seconds from 0 to {most:g}")
    return float(seconds)


def _field(found: dict[str, Any], key: str, kind: Any) -> Any:
    value = found.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key} is missing or of the wrong kind")  # noqa: TRY004 - one error for all bad content
    return value
