"""What an announcement may hold, checked where it is made: registering goes on in the background, unseen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from svcmesh.core.endpoint import Locality
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.base import Announcement

LONGEST_TTL = 86_400.0
"""Seconds."""

LARGEST = 64 * 1024
"""Bytes that one registration may have."""

_OVERHEAD = 1024  # for what a registry adds: state, instants, owner, names of fields


def texts(field: str, value: Sequence[str]) -> tuple[str, ...]:
    """Return a sequence of strings as a tuple.

    Raises:
        ConfigError: it is none; a plain string would become a tag per letter.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | set | frozenset):
        raise ConfigError(f"{field} must be a sequence of strings, not {value!r}")
    for one in value:
        if not isinstance(one, str):
            raise ConfigError(f"{field} must hold strings only, not {one!r}")
    return tuple(value)


def text_by_text(field: str, value: Mapping[str, str] | None) -> dict[str, str]:
    """Return a mapping of strings to strings as a dict; None is an empty one.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(value, Mapping | None):
        raise ConfigError(f"{field} must be a mapping of strings to strings, not {value!r}")
    found = dict(value or {})
    for key, one in found.items():
        if not isinstance(key, str) or not isinstance(one, str):
            raise ConfigError(f"{field} must map strings to strings, not {key!r} to {one!r}")
    return found


def check_locality(value: Any) -> None:
    """Refuse what is neither None nor a `Locality` of strings.

    Raises:
        ConfigError: naming it.
    """
    if value is not None and not (isinstance(value, Locality) and all(isinstance(p, str) for p in astuple(value))):
        raise ConfigError(f"locality must be a Locality of strings, not {value!r}")


def check_size(announcement: Announcement) -> None:
    """Refuse an announcement that no registry takes.

    Raises:
        ConfigError: naming the largest of its fields.
    """
    locality = announcement.locality
    parts = {
        "name": announcement.service,
        "id": announcement.id,
        "tags": announcement.tags,
        "meta": announcement.meta,
        "host": announcement.address,
        "locality": None if locality is None else astuple(locality),
    }
    sizes = {field: len(json.dumps(part)) for field, part in parts.items()}
    most, total = LARGEST - _OVERHEAD, sum(sizes.values())
    if total > most:
        field = max(sizes, key=lambda name: sizes[name])
        raise ConfigError(f"{field} is too large ({sizes[field]} bytes): all of a registration is at most {most} bytes")
