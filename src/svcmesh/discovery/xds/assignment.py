"""The endpoints of a cluster: what a ClusterLoadAssignment says, in our words.

- The weight of a locality is its share of its priority, whatever the number of its endpoints; that of an endpoint is
  its share of its locality. Ours have one weight, which is the product. Where one locality of a priority has a weight,
  those that have none take nothing, as in gRPC; where none has, they count for nothing.
- Priorities are counted without gaps.
- DRAINING is left out: it finishes its calls and gets nothing new. UNHEALTHY and TIMEOUT stay, for a panic.
- Drops are drawn in turn, each of what those before it left. One of everything is a cluster without endpoints.

Source: Envoy, endpoint.proto and endpoint_components.proto; gRPC, proposal A27.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from svcmesh.core.address import check_address, join_address
from svcmesh.core.endpoint import Endpoint, Health, Locality
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.xds.invalid import Invalid

if TYPE_CHECKING:
    from svcmesh._proto import svcmesh_xds_pb2 as wire

_UNHEALTHY = Health.UNHEALTHY  # a look at a member of an enumeration takes its time
_HEALTH: Mapping[int, Health] = {0: Health.HEALTHY, 1: Health.HEALTHY, 5: Health.DEGRADED}
_DRAINING = 3
_PARTS = (100, 10_000, 1_000_000)  # by DenominatorType
_TOLD = 160  # characters of a text about a stranger's address
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_SUBSETS = "envoy.lb"  # the filter whose metadata describe an endpoint to balancers


@dataclass(frozen=True, slots=True)
class Assignment:
    """The endpoints of one cluster.

    Attributes:
        name: of the cluster. endpoints: each address once. left_out: what cannot be used, and why.
        drop: the share of its calls that is to be dropped, from 0 to 1.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    left_out: tuple[str, ...] = ()
    drop: float = 0.0


class _Candidate(NamedTuple):
    """An endpoint to be: its weight is not known yet."""

    address: str
    weight: int
    health: Health
    metadata: Mapping[str, Any]


class _Place(NamedTuple):
    """What is listed of one locality at one priority. ``weight`` 0: it has none."""

    priority: int
    weight: int
    locality: Locality | None
    candidates: Sequence[_Candidate]


def assignment_of(message: wire.ClusterLoadAssignment) -> Assignment:
    """Return what a message says.

    Raises:
        Invalid: it lists endpoints, and not one of them can be used; or drops parts of nothing known.
    """
    left_out: list[str] = []
    levels = {level: number for number, level in enumerate(sorted({group.priority for group in message.endpoints}))}
    places = [_place(group, levels[group.priority], left_out) for group in message.endpoints]
    found: dict[str, Endpoint] = {}
    for _, same in groupby(sorted(places, key=_priority), key=_priority):
        made = _weighted(list(same), left_out)
        again = [one for one in made if found.setdefault(one.address, one) is not one]
        left_out += [f"{one.address} is listed twice" for one in again]
    if left_out and not found:
        raise Invalid(f"none of its endpoints can be used; {left_out[0]}")
    drop = _drop(message)
    endpoints = () if drop == 1 else tuple(found.values())
    return Assignment(message.cluster_name, endpoints, tuple(left_out), drop)


def _priority(place: _Place) -> int:
    return place.priority


def _place(group: wire.LocalityLbEndpoints, priority: int, left_out: list[str]) -> _Place:
    where = group.locality
    locality = Locality(where.region, where.zone, where.sub_zone) if group.HasField("locality") else None
    candidates = []
    for one in group.lb_endpoints:
        status = one.health_status
        if status == _DRAINING:
            continue
        try:
            address = _address(one.endpoint.address)
        except ConfigError as error:
            left_out.append(str(error)[:_TOLD])
            continue
        weight = one.load_balancing_weight.value or 1  # Envoy and gRPC refuse 0, and absent is 1
        candidates.append(_Candidate(address, weight, _HEALTH.get(status, _UNHEALTHY), _metadata(one)))
    return _Place(priority, group.load_balancing_weight.value, locality, candidates)


def _address(address: wire.Address) -> str:
    if address.HasField("pipe"):
        found = f"unix:{address.pipe.path}"
    else:
        socket = address.socket_address
        if not socket.port_value or socket.protocol:
            told = f"address {socket.address[:80]!r}: an endpoint has an address and a port of TCP, or a path"
            raise ConfigError(told)
        found = join_address(socket.address, socket.port_value)
    check_address(found)
    return found


def _metadata(one: wire.LbEndpoint) -> Mapping[str, Any]:
    named = one.endpoint.hostname
    if not named and not one.HasField("metadata"):
        return _NOTHING
    found: dict[str, Any] = {"hostname": named} if named else {}
    if _SUBSETS in one.metadata.filter_metadata:
        for key, value in one.metadata.filter_metadata[_SUBSETS].fields.items():
            kind = value.WhichOneof("kind")
            if kind in {"number_value", "string_value", "bool_value"}:
                found[key] = getattr(value, kind)
    return found


def _weighted(places: Sequence[_Place], left_out: list[str]) -> list[Endpoint]:
    """Return the endpoints of one priority, with the weights of their localities in their own."""
    if not any(place.weight for place in places):
        return [one for place in places for one in _made(place, 1, 1)]
    counted = [(place, *_usable(place)) for place in places if place.weight and place.candidates]
    of_localities = sum(place.weight for place, number, _ in counted if number) or 1
    total = sum(number for _, number, _ in counted) or 1  # so that they are 1 on average
    for place in places:
        if not place.weight:
            left_out += [f"{one.address} is in a locality without a weight" for one in place.candidates]
    shares = [(place, place.weight * total, of_endpoints * of_localities) for place, _, of_endpoints in counted]
    return [one for place, share, whole in shares for one in _made(place, share, whole)]


def _made(place: _Place, share: int, whole: int) -> list[Endpoint]:
    """Return the endpoints of a place, with ``share`` / ``whole`` of their weights."""
    return [
        Endpoint(
            one.address,
            weight=one.weight * share / whole,
            locality=place.locality,
            priority=place.priority,
            metadata=one.metadata,
            health=one.health,
        )
        for one in place.candidates
    ]


def _usable(place: _Place) -> tuple[int, int]:
    """Return how many of a place's endpoints take calls, and the sum of their weights."""
    weights = [one.weight for one in place.candidates if one.health is not _UNHEALTHY]
    return len(weights), sum(weights) or sum(one.weight for one in place.candidates)


def _drop(message: wire.ClusterLoadAssignment) -> float:
    """Return the share of all calls that is to be dropped."""
    kept = 1.0
    for one in message.policy.drop_overloads:
        share = one.drop_percentage
        if share.denominator not in range(len(_PARTS)):
            raise Invalid(f"drops parts of {share.denominator}, which is no denominator")
        kept *= max(1 - share.numerator / _PARTS[share.denominator], 0)
    return 1 - kept
