"""Endpoints as people list them in a file: strings, or mappings with the fields of `Endpoint`. Pure decoding.

A mistake is reported with the path to it (``[2].locality.zone``), and a key that means nothing is a mistake: a
misspelt ``wieght`` that is ignored would be believed to work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from svcmesh.core import checks
from svcmesh.core.address import parse_address
from svcmesh.core.endpoint import Endpoint, Health, Locality
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.documents import Path

T = TypeVar("T")

LARGEST_METADATA = 1_000
"""Values that the metadata of one endpoint may hold; aliases in YAML can make a small file stand for billions."""


class ListingError(ConfigError):
    """A list of endpoints is wrong at ``path``."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = tuple(path)


def endpoints_from(value: Any, path: Path = ()) -> tuple[Endpoint, ...]:
    """Build the endpoints of a list; ``path`` is where in its document the list stands.

    Raises:
        ListingError: with the path of the first mistake.
    """
    if not isinstance(value, list):
        raise ListingError(f"expected a list of endpoints, not {_kind(value)}", path)
    found: dict[str, Endpoint] = {}
    for number, item in enumerate(value):
        endpoint = _endpoint(item, (*path, number))
        if endpoint.address in found:
            raise ListingError(f"address {endpoint.address!r} is listed twice", (*path, number))
        found[endpoint.address] = endpoint
    return tuple(found.values())


def describe(path: Path) -> str:
    """Return a path as text: ``orders[2].weight``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _endpoint(item: Any, path: Path) -> Endpoint:
    if isinstance(item, str):
        return _checked(lambda: Endpoint(item), path)
    if not isinstance(item, dict):
        raise ListingError(f"an endpoint is an address or a mapping, not {_kind(item)}", path)
    fields: dict[str, Any] = {}
    for key, value in item.items():
        reader = _FIELDS.get(key) if isinstance(key, str) else None
        if reader is None:
            raise ListingError(f"unknown key {key!r}; known are {', '.join(_FIELDS)}", (*path, str(key)))
        fields[key] = reader(value, (*path, key))
    if "address" not in fields:
        raise ListingError("the address is missing", path)
    return _checked(lambda: Endpoint(**fields), path)


def _text(value: Any, path: Path) -> str:
    if not isinstance(value, str):
        raise ListingError(f"expected text, not {_kind(value)}", path)
    return value


def _address(value: Any, path: Path) -> str:
    address = _text(value, path)
    _checked(lambda: parse_address(address), path)
    return address


def _weight(value: Any, path: Path) -> float:
    return _checked(lambda: checks.between("weight", value, 0, sys.float_info.max), path)


def _priority(value: Any, path: Path) -> int:
    return _checked(lambda: checks.whole("priority", value, 0), path)


def _locality(value: Any, path: Path) -> Locality | None:
    if value is None:
        return None
    known = Locality.__dataclass_fields__
    if not isinstance(value, dict):
        raise ListingError(f"a locality is a mapping with {', '.join(known)}, not {_kind(value)}", path)
    for key in value:
        if key not in known:
            raise ListingError(f"unknown key {key!r}; known are {', '.join(known)}", (*path, str(key)))
    return Locality(**{key: _text(part, (*path, key)) for key, part in value.items()})


def _health(value: Any, path: Path) -> Health:
    try:
        return Health(value)
    except ValueError:
        known = ", ".join(health.value for health in Health)
        raise ListingError(f"health is one of {known}, not {value!r}", path) from None


def _metadata(value: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ListingError(f"metadata is a mapping, not {_kind(value)}", path)
    left = LARGEST_METADATA
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        left -= 1
        if left < 0:
            raise ListingError(f"metadata holds more than {LARGEST_METADATA} values", path)
        if isinstance(one, dict):
            if not all(isinstance(key, str) for key in one):
                raise ListingError("keys of metadata are text", path)
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif not (one is None or isinstance(one, str | int | float)):  # YAML's dates, which JSON has no word for
            raise ListingError(f"metadata holds {_kind(one)} {str(one)!r}: put it in quotes", path)
    return value


_FIELDS: Mapping[str, Callable[[Any, Path], Any]] = {
    "address": _address,
    "weight": _weight,
    "priority": _priority,
    "locality": _locality,
    "metadata": _metadata,
    "health": _health,
}


def _checked(build: Callable[[], T], path: Path) -> T:
    try:
        return build()
    except ConfigError as error:
        raise ListingError(str(error), path) from None


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")
