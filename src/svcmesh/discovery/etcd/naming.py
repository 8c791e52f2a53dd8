"""Endpoints as they stand in etcd: the values that etcd's own Go package for naming writes and reads.

A service is a prefix that ends in a slash; each key beneath it is an instance, ``{"Op":0,"Addr":"10.0.0.5:8080",
"Metadata":…}``. So a Go service finds a Python one, and the other way round. ``Op`` means nothing any more (what is
gone has no key), and ``Metadata`` is whatever its writer likes: an object of ours may hold ``weight``, ``tags``,
``region``, ``zone`` and ``sub_zone``, and so may one that a Go service writes. A plain address, as go-kit and many
scripts put it, is understood too.

Source: etcd's `client/v3/naming/endpoints` (`internal.Update`, `NewWatchChannel`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

from svcmesh.core.address import check_address
from svcmesh.core.endpoint import Endpoint, Locality, assembled, locality_of, with_known_keys
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.base import Announcement

DEEPEST = 32
"""Levels of nesting that metadata may have."""

LARGEST_METADATA = 1_000
"""Values that the metadata of one endpoint may hold."""

HEAVIEST = 1e9
"""The largest weight that is believed."""

_PARTS = ("region", "zone", "sub_zone")
_PLACING = frozenset(_PARTS)


def decode_endpoint(name: str, value: bytes) -> Endpoint:
    """Return the endpoint that a value describes; ``name`` is its key beneath the service, its ``id``.

    Raises:
        ValueError: it describes none; the message says why.
    """
    found = _read(value)
    if isinstance(found, str):
        return Endpoint(found, metadata={"id": name})
    address = found.get("Addr")
    if not isinstance(address, str) or not address:
        raise ValueError("it has no Addr, or one that is no text")
    check_address(address)
    told = found.get("Metadata")
    metadata: dict[str, Any] = {"id": name}
    if told is not None:
        if not _is_small(told):
            raise ValueError(f"its Metadata holds more than {LARGEST_METADATA} values, or is nested too deeply")
        metadata |= with_known_keys(told) if isinstance(told, dict) else {"metadata": told}
    weight = _weight(metadata) if "weight" in metadata else 1
    tags = metadata.get("tags")
    if isinstance(tags, list):
        metadata["tags"] = tuple(tags)
    locality = None if _PLACING.isdisjoint(metadata) else _place(metadata.get)
    return assembled(address, weight, locality, 0, metadata)


def encode_endpoint(announcement: Announcement) -> bytes:
    """Return the value that announces a process.

    Raises:
        ConfigError: a malformed address or weight, metadata under a name that has a meaning here, a ``check``.
    """
    if announcement.check is not None:
        raise ConfigError("etcd checks nothing: leave check out, heartbeats say that the process is alive")
    endpoint = Endpoint(announcement.address, weight=announcement.weight, locality=announcement.locality)
    if endpoint.weight > HEAVIEST:
        raise ConfigError(f"weight must be at most {HEAVIEST:g} for etcd, not {endpoint.weight!r}")
    own: dict[str, Any] = {}
    if endpoint.weight != 1:
        own["weight"] = endpoint.weight
    if announcement.tags:
        own["tags"] = list(announcement.tags)
    for part in _PARTS if endpoint.locality is not None else ():
        if text := getattr(endpoint.locality, part):
            own[part] = text
    for key in announcement.meta:
        if key in own:
            raise ConfigError(f"meta[{key!r}]: {key} is said twice, here and by its own argument")
    update = {"Op": 0, "Addr": announcement.address, "Metadata": own | announcement.meta or None}
    return json.dumps(update, separators=(",", ":")).encode()


def _read(value: bytes) -> dict[str, Any] | str:
    """Return the object in a value, or the address that it is."""
    text = value.decode().strip()
    if not text.startswith(("{", '"')):
        return text
    try:
        read: dict[str, Any] | str
        read, end = _JSON.raw_decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if end != len(text):
        raise ValueError("something stands behind its JSON")
    return read  # nothing else begins like that


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


_JSON = json.JSONDecoder(parse_constant=_refuse)


def _place(told: Callable[[str], Any]) -> Locality | None:
    """Return where metadata say that it runs."""
    region, zone, sub_zone = told("region"), told("zone"), told("sub_zone")
    return locality_of(
        region if type(region) is str else "",
        zone if type(zone) is str else "",
        sub_zone if type(sub_zone) is str else "",
    )


def _weight(metadata: dict[str, Any]) -> float:
    """Take the weight out of metadata; 1 where none is there that can be one."""
    weight = metadata.get("weight")
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= HEAVIEST:
        return 1
    del metadata["weight"]
    return weight


_NESTING = frozenset((dict, list))


def _is_small(value: Any) -> bool:
    if type(value) is dict and len(value) < LARGEST_METADATA and _NESTING.isdisjoint(map(type, value.values())):
        return True  # as nearly all are, which is seen at once
    left, level = LARGEST_METADATA, [value]
    for _ in range(DEEPEST):
        left -= len(level)
        level = [one for each in level if isinstance(each, dict | list) for one in _within(each)]
        if not level or left < 0:
            return left >= 0
    return False


def _within(value: dict[str, Any] | list[Any]) -> Collection[Any]:
    return value.values() if isinstance(value, dict) else value
