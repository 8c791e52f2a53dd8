"""Endpoints as people list them in a file: strings, or mappings with the fields of `Endpoint`. Pure decoding.

A mistake is reported with the path to it (``[2].locality.zone``), and a key that means nothing is a mistake: a
misspelt ``wieght`` that is ignored would be believed to work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from svcmesh.core import checks
from svcmesh.core.address import check_address
from svcmesh.core.endpoint import Endpoint, Health, Locality, assembled, locality_of, with_known_keys
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
    """Build the endpoints of a list; ``path`` is where in its document the list stands. Some may be endpoints already.

    Raises:
        ListingError: with the path of the first mistake.
    """
    if not isinstance(value, list):
        raise ListingError(f"expected a list of endpoints, not {_kind(value)}", path)
    found: dict[str, Endpoint] = {}
    for number, item in enumerate(value):
        endpoint = item if isinstance(item, Endpoint) else endpoint_from(item, (*path, number))
        if endpoint.address in found:
            raise ListingError(f"address {endpoint.address!r} is listed twice", (*path, number))
        found[endpoint.address] = endpoint
    return tuple(found.values())


def describe(path: Path) -> str:
    """Return a path as text: ``orders[2].weight``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def endpoint_from(item: Any, path: Path = ()) -> Endpoint:
    """Build one endpoint; ``path`` is where in its document it stands.

    Raises:
        ListingError: with the path of the first mistake.
    """
    try:
        return _usual(item)
    except (ValueError, KeyError, AttributeError, TypeError, OverflowError):  # ConfigError is a ValueError
        return _thorough(item, path)


def _usual(item: Any) -> Endpoint:
    """Build an endpoint in few steps, as long as nothing in it is wrong; any error says no more than that it is."""
    if type(item) is str:
        return Endpoint(item)
    address, weight, priority = item["address"], item.get("weight", 1), item.get("priority", 0)
    if (
        not _NAMES.issuperset(item)
        or type(weight) not in _NUMBERS
        or not 0 <= weight <= checks.LARGEST
        or type(priority) is not int
        or priority < 0
    ):
        raise ValueError
    check_address(address)
    locality, metadata = _locality(item.get("locality")), with_known_keys(_metadata(item.get("metadata", {})))
    return assembled(address, weight, locality, priority, metadata, _HEALTHS[item.get("health", "healthy")])


def _thorough(item: Any, path: Path) -> Endpoint:
    """Build an endpoint field by field, so that a mistake has its place."""
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


def _weight(value: Any) -> Any:
    checks.between("weight", value, 0, checks.LARGEST)
    return value  # as it was written: 3, not 3.0


def _priority(value: Any) -> int:
    return checks.whole("priority", value, 0)


def _locality(value: Any) -> Locality | None:
    if value is None:
        return None
    known = Locality.__dataclass_fields__
    if type(value) is dict and _PLACING.issuperset(value) and _TEXT.issuperset(map(type, value.values())):
        return locality_of(**value) or _NOWHERE  # as nearly all are
    if not isinstance(value, dict):
        raise ListingError(f"a locality is a mapping with {', '.join(known)}, not {_kind(value)}", ())
    for key, part in value.items():
        if key not in known:
            raise ListingError(f"unknown key {key!r}; known are {', '.join(known)}", (str(key),))
        if not isinstance(part, str):
            raise ListingError(f"expected text, not {_kind(part)}", (key,))
    return locality_of(value.get("region", ""), value.get("zone", ""), value.get("sub_zone", "")) or _NOWHERE


def _health(value: Any) -> Health:
    try:
        return Health(value)
    except ValueError:
        known = ", ".join(health.value for health in Health)
        raise ListingError(f"health is one of {known}, not {value!r}", ()) from None


def _metadata(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ListingError(f"metadata is a mapping, not {_kind(value)}", ())
    if (
        len(value) < LARGEST_METADATA
        and _TEXT.issuperset(map(type, value))
        and _PLAIN.issuperset(map(type, value.values()))
    ):
        return value  # as nearly all are
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


_HEALTHS = {health.value: health for health in Health}
_NOWHERE = Locality()
_PLACING = frozenset(Locality.__dataclass_fields__)
_NUMBERS = frozenset({int, float})
_TEXT = frozenset({str})
_PLAIN = frozenset({str, int, float, bool, type(None)})

_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "address": _address,
    "weight": _weight,
    "priority": _priority,
    "locality": _locality,
    "metadata": _metadata,
    "health": _health,
}
_NAMES = frozenset(_FIELDS)


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")
