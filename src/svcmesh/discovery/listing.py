"""Endpoints as people list them in a file: strings, or mappings with the fields of `Endpoint`. Pure decoding.

A mistake is reported with the path to it (``[2].locality.zone``), and a key that means nothing is a mistake: a
misspelt ``wieght`` that is ignored would be believed to work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from svcmesh.core import checks
from svcmesh.core.address import check_address
from svcmesh.core.endpoint import Endpoint, Health, Locality, locality_of
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.documents import Path

LARGEST_METADATA = 1_000
"""Values that the metadata of one endpoint may hold; aliases in YAML can make a small file stand for billions."""


class ListingError(ConfigError):
    """A list of endpoints is wrong at ``path``, which begins where whoever raises it knows its place."""

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
    fields: dict[str, Any] = {}
    at: Path = ()
    try:
        if isinstance(item, str):
            return Endpoint(item)
        if not isinstance(item, dict):
            raise ListingError(f"an endpoint is an address or a mapping, not {_kind(item)}", ())
        for key, value in item.items():
            reader = _FIELDS.get(key) if isinstance(key, str) else None
            at = (str(key),)
            if reader is None:
                raise ListingError(f"unknown key {key!r}; known are {', '.join(_FIELDS)}", ())
            fields[key] = reader(value)
        at = ()
        if "address" not in fields:
            raise ListingError("the address is missing", ())
        return Endpoint(**fields)
    except ListingError as error:
        raise ListingError(str(error), (*path, *at, *error.path)) from None
    except ConfigError as error:
        raise ListingError(str(error), (*path, *at)) from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ListingError(f"expected text, not {_kind(value)}", ())
    return value


def _address(value: Any) -> str:
    address = _text(value)
    check_address(address)
    return address


def _weight(value: Any) -> float:
    return checks.between("weight", value, 0, sys.float_info.max)


def _priority(value: Any) -> int:
    return checks.whole("priority", value, 0)


def _locality(value: Any) -> Locality | None:
    if value is None:
        return None
    known = Locality.__dataclass_fields__
    if not isinstance(value, dict):
        raise ListingError(f"a locality is a mapping with {', '.join(known)}, not {_kind(value)}", ())
    for key, part in value.items():
        if key not in known:
            raise ListingError(f"unknown key {key!r}; known are {', '.join(known)}", (str(key),))
        if not isinstance(part, str):
            raise ListingError(f"expected text, not {_kind(part)}", (key,))
    return locality_of(**value) or Locality()


def _health(value: Any) -> Health:
    try:
        return Health(value)
    except ValueError:
        known = ", ".join(health.value for health in Health)
        raise ListingError(f"health is one of {known}, not {value!r}", ()) from None


def _metadata(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ListingError(f"metadata is a mapping, not {_kind(value)}", ())
    left = LARGEST_METADATA
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        left -= 1
        if left < 0:
            raise ListingError(f"metadata holds more than {LARGEST_METADATA} values", ())
        if isinstance(one, dict):
            if not all(isinstance(key, str) for key in one):
                raise ListingError("keys of metadata are text", ())
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif not (one is None or isinstance(one, str | int | float)):  # YAML's dates, which JSON has no word for
            raise ListingError(f"metadata holds {_kind(one)} {str(one)!r}: put it in quotes", ())
    return value


_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "address": _address,
    "weight": _weight,
    "priority": _priority,
    "locality": _locality,
    "metadata": _metadata,
    "health": _health,
}


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")
