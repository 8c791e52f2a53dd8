"""One instance of a service, as its registry describes it: immutable, so that snapshots can share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, Final

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


_set = object.__setattr__


@dataclass(frozen=True, eq=True)
class Endpoint:
    """An address and what is known about it.

    Args:
        address: ``"host:port"``, ``"[v6]:port"`` or ``"unix:/path"``. A name is resolved by the transport.
        weight: share of traffic relative to the other endpoints, at least 0; 0 takes no traffic.
        locality: where it runs, if known.
        priority: 0 is used first, 1 when too little of 0 is healthy, and so on.
        metadata: anything else that the registry says; read-only.
        health: what the registry says of its health.

    Equality compares all fields. The hash, and identity across snapshots, go by address.

    Raises:
        ConfigError: a malformed address, a negative or non-finite weight, a negative priority, a field of another type.
    """

    address: str
    weight: float = field(default=1, kw_only=True)
    locality: Locality | None = field(default=None, kw_only=True)
    priority: int = field(default=0, kw_only=True)
    metadata: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    health: Health = field(default=Health.HEALTHY, kw_only=True)

    _cell: ClassVar[Any]
    """A shortcut, no part of its value: the counts that the newest picker made of this object keeps for it; see
    `svcmesh.balance.picker.Picker`."""

    def __post_init__(self) -> None:
        """Check every field, and make the metadata read-only.

        A snapshot may hold thousands of us: fields of the very types that nearly all have are looked at here, in as few
        steps as there can be, and whatever is unusual is left to the thorough checks.
        """
        weight, metadata, locality = self.weight, self.metadata, self.locality
        if not (
            (type(weight) is int or type(weight) is float)
            and 0 <= weight <= checks.LARGEST
            and type(self.priority) is int
            and self.priority >= 0
            and type(self.health) is Health
            and (locality is None or type(locality) is Locality)
            and (type(metadata) is dict or type(metadata) is MappingProxyType)
            and is_usual(self.address)
        ):
            self._check()
        for key in metadata:
            if type(key) is not str:
                _check("every key in the metadata", key, str)
        _set(self, "metadata", MappingProxyType(dict(metadata)) if metadata else _NOTHING)

    def _check(self) -> None:
        """Check every field, thoroughly."""
        parse_address(self.address)
        if checks.number("weight", self.weight) < 0:
            raise ConfigError(f"weight of {self.address} must be at least 0, not {self.weight!r}")
        checks.whole("priority", self.priority, 0)
        _check("health", self.health, Health)
        _check("metadata", self.metadata, Mapping)
        if self.locality is not None:
            _check("locality", self.locality, Locality)

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


def _check(field: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise ConfigError(f"{field} of an endpoint must be a {kind.__name__}, not {value!r}")


def _rebuild(
    address: str, weight: float, locality: Locality | None, priority: int, metadata: dict[str, Any], health: Health
) -> Endpoint:
    return Endpoint(address, weight=weight, locality=locality, priority=priority, metadata=metadata, health=health)


PICKED: Final[Endpoint] = Endpoint("picked.invalid:1")
"""Default of a parameter ``endpoint: Endpoint = PICKED`` that `Service.guard` fills on every attempt (RFC 2606)."""
