"""One instance of a service, as its registry describes it: immutable, so that snapshots can share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from sys import intern
from types import MappingProxyType
from typing import Any, Final

from svcmesh.core import checks
from svcmesh.core.address import is_usual, parse_address
from svcmesh.core.errors import ConfigError


class Health(Enum):
    """What the registry says of an endpoint. A warning is HEALTHY at the weight that the registry gives it."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Locality:
    """Where an endpoint runs, from wide to narrow; empty strings where unknown.

    Raises:
        ConfigError: a part that is no string.
    """

    region: str = ""
    zone: str = ""
    sub_zone: str = ""

    def __post_init__(self) -> None:
        """Check every part."""
        for field_, part in (("region", self.region), ("zone", self.zone), ("sub_zone", self.sub_zone)):
            if not isinstance(part, str):
                raise ConfigError(f"{field_} of a locality must be a string, not {part!r}")


@lru_cache(maxsize=1024)
def locality_of(region: str = "", zone: str = "", sub_zone: str = "") -> Locality | None:
    """Return the one object for a place, None where nothing is known: thousands of endpoints are in few places."""
    return Locality(region, zone, sub_zone) if region or zone or sub_zone else None


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
"""The metadata of all who have none: thousands of endpoints need not have thousands of empty mappings."""


_LARGEST = checks.LARGEST


class _Counted:
    """What an endpoint carries that is no part of its value.

    Attributes:
        _cell: a shortcut: the counts that the newest picker made of this object keeps for it; see
            `svcmesh.balance.picker.Picker`.
    """

    __slots__ = ("_cell",)

    _cell: Any


@dataclass(frozen=True, eq=True, slots=True, init=False)
class Endpoint(_Counted):
    """An address and what is known about it.

    Args:
        address: ``"host:port"``, ``"[v6]:port"`` or ``"unix:/path"``. A name is resolved by the transport.
        weight: share of traffic relative to the other endpoints, at least 0; 0 takes no traffic.
        locality: where it runs, if known.
        priority: 0 is used first, 1 when too little of 0 is healthy, and so on.
        metadata: anything else that the registry says; read-only.
        health: what the registry says of its health.

    Equality compares all fields. The hash, and identity across snapshots, go by address. There may be thousands: all
    that one has is in one place in memory, which is half the work to make and one wait to read.

    Raises:
        ConfigError: a malformed address, a negative or non-finite weight, a negative priority, a field of another type.
    """

    address: str
    weight: float
    locality: Locality | None
    priority: int
    metadata: Mapping[str, Any]
    health: Health

    def __init__(
        self,
        address: str,
        *,
        weight: float = 1,
        locality: Locality | None = None,
        priority: int = 0,
        metadata: Mapping[str, Any] = _NOTHING,
        health: Health = Health.HEALTHY,
    ) -> None:
        """Check every field, and make the metadata read-only.

        A snapshot may hold thousands of us: fields of the very types that nearly all have are looked at here, in as few
        steps as there can be, and whatever is unusual is left to the thorough checks.
        """
        if not (
            (type(weight) is int or type(weight) is float)
            and 0 <= weight <= _LARGEST
            and type(priority) is int
            and priority >= 0
            and type(health) is Health
            and (locality is None or type(locality) is Locality)
            and (type(metadata) is dict or type(metadata) is MappingProxyType)
            and is_usual(address)
        ):
            _check_all(address, weight, locality, priority, metadata, health)
        _set_address(self, address)
        _set_weight(self, weight)
        _set_locality(self, locality)
        _set_priority(self, priority)
        _set_metadata(self, _kept(metadata) if metadata else _NOTHING)
        _set_health(self, health)

    def __hash__(self) -> int:
        """Hash by address: an endpoint is the same one when its weight or its metadata change."""
        return hash(self.address)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with a plain dict, since a mapping proxy cannot be pickled."""
        fields = (self.address, self.weight, self.locality, self.priority, dict(self.metadata), self.health)
        return _rebuild, fields

    @property
    def host(self) -> str:
        """The host part of the address; empty for a unix socket."""
        return parse_address(self.address).host

    @property
    def port(self) -> int:
        """The port; 0 for a unix socket."""
        return parse_address(self.address).port


_new = object.__new__
# What writes a field, in half the time that `object.__setattr__` takes to find it.
_set_address, _set_weight, _set_locality, _set_priority, _set_metadata, _set_health = (
    getattr(Endpoint, field).__set__ for field in ("address", "weight", "locality", "priority", "metadata", "health")
)


def assembled(
    address: str,
    weight: float,
    locality: Locality | None,
    priority: int,
    metadata: Mapping[str, Any],
    health: Health = Health.HEALTHY,
) -> Endpoint:
    """Return what `Endpoint` would make of fields that whoever calls has checked, all of them, in a third of the time.

    For backends: what an answer says of thousands is looked at field by field anyway, as the registry has it.

    Args:
        address: it has passed `check_address`. weight, locality, priority, health: such as the constructor would take.
        metadata: what nobody else holds, with keys as `with_known_keys` leaves them: kept, and not copied.
    """
    endpoint = _new(Endpoint)
    _set_address(endpoint, address)
    _set_weight(endpoint, weight)
    _set_locality(endpoint, locality)
    _set_priority(endpoint, priority)
    _set_metadata(endpoint, MappingProxyType(metadata) if metadata else _NOTHING)
    _set_health(endpoint, health)
    return endpoint


def with_known_keys(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of metadata. Thousands of endpoints have the same few keys: each is in memory once.

    Raises:
        TypeError: a key is no text, or of a type derived from it.
    """
    return {intern(key): value for key, value in metadata.items()}


def _check_all(
    address: str,
    weight: float,
    locality: Locality | None,
    priority: int,
    metadata: Mapping[str, Any],
    health: Health,
) -> None:
    """Check every field, thoroughly."""
    parse_address(address)
    if checks.number("weight", weight) < 0:
        raise ConfigError(f"weight of {address} must be at least 0, not {weight!r}")
    checks.whole("priority", priority, 0)
    _check("health", health, Health)
    _check("metadata", metadata, Mapping)
    if locality is not None:
        _check("locality", locality, Locality)


def _kept(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return metadata as they stay."""
    try:
        return MappingProxyType(with_known_keys(metadata))
    except TypeError:
        for key in metadata:
            _check("every key in the metadata", key, str)
        return MappingProxyType(dict(metadata))


def _check(field: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise ConfigError(f"{field} of an endpoint must be a {kind.__name__}, not {value!r}")


def _rebuild(
    address: str, weight: float, locality: Locality | None, priority: int, metadata: dict[str, Any], health: Health
) -> Endpoint:
    return Endpoint(address, weight=weight, locality=locality, priority=priority, metadata=metadata, health=health)


PICKED: Final[Endpoint] = Endpoint("picked.invalid:1")
"""Default of a parameter ``endpoint: Endpoint = PICKED`` that `Service.guard` fills on every attempt (RFC 2606)."""
