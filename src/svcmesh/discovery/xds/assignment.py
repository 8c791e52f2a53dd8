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

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from svcmesh.core.endpoint import Endpoint, Health, Locality, assembled, locality_of
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.xds.candidate import Candidate, Candidates, candidate_of
from svcmesh.discovery.xds.fraction import share_of
from svcmesh.discovery.xds.invalid import Invalid

if TYPE_CHECKING:
    from svcmesh._proto import svcmesh_xds_pb2 as wire

_UNHEALTHY = Health.UNHEALTHY  # a look at a member of an enumeration takes its time
_TOLD = 160  # characters of a text about a stranger's address


Listed = Sequence[Candidate]
"""The endpoints of a group."""


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


class _Place(NamedTuple):
    """What is listed of one locality at one priority. ``weight`` 0: it has none."""

    priority: int
    weight: int
    locality: Locality | None
    candidates: Sequence[Candidate]


def assignment_of(
    message: wire.UnreadAssignment, listed: Sequence[Listed] = (), known: Candidates | None = None
) -> Assignment:
    """Return what a message says.

    Args:
        message: the message. listed: the endpoints of each of its groups, if they are not in the message.
        known: those of the message before, to be used again; brought up to date.

    Raises:
        Invalid: it lists endpoints, and not one of them can be used; or drops parts of nothing known.
        DecodeError: what is listed is no endpoint.
    """
    left_out: list[str] = []
    levels = {level: number for number, level in enumerate(sorted({group.priority for group in message.endpoints}))}
    places = [
        _place(group, levels[group.priority], candidates)
        for group, candidates in zip(message.endpoints, listed or _listed(message, left_out, known), strict=True)
    ]
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


def unread(message: wire.ClusterLoadAssignment) -> wire.UnreadAssignment:
    """Return a message as one whose endpoints have yet to be read."""
    from svcmesh._proto import svcmesh_xds_pb2 as wire

    return wire.UnreadAssignment.FromString(message.SerializeToString())


def _priority(place: _Place) -> int:
    return place.priority


def _listed(message: wire.UnreadAssignment, left_out: list[str], known: Candidates | None) -> list[Listed]:
    """Return the endpoints of each group: those whose bytes are known are not looked at, which is most of thousands."""
    before: Candidates = {} if known is None else known
    now: Candidates = {}
    listed: list[Listed] = []
    for group in message.endpoints:
        contents = list(group.lb_endpoints)
        candidates = list(map(before.get, contents))
        for number, candidate in enumerate(candidates):
            if candidate is None:
                candidates[number] = _candidate(contents[number], left_out)
        now |= {content: one for content, one in zip(contents, candidates, strict=True) if one is not None}
        listed.append([one for one in candidates if one is not None])
    if known is not None:
        known.clear()
        known.update(now)
    return listed


def _candidate(content: bytes, left_out: list[str]) -> Candidate | None:
    from svcmesh._proto import svcmesh_xds_pb2 as wire

    one = wire.LbEndpoint.FromString(content)
    try:
        return candidate_of(one)
    except ConfigError as error:
        left_out.append(str(error)[:_TOLD])
        return None


def _place(group: wire.UnreadEndpoints, priority: int, listed: Listed) -> _Place:
    where = group.locality
    locality = None
    if group.HasField("locality"):
        locality = locality_of(where.region, where.zone, where.sub_zone) or Locality()
    candidates = [one for one in listed if not one.draining]
    return _Place(priority, group.load_balancing_weight.value, locality, candidates)


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
    """Return the endpoints of a place, with ``share`` / ``whole`` of their weights: those from before, if they are."""
    found = []
    where = place.locality, place.priority, share, whole
    for one in place.candidates:
        endpoint = one.made
        if endpoint is None or one.where != where:
            weight = one.weight * share / whole
            endpoint = one.made = assembled(
                one.address, weight, place.locality, place.priority, one.metadata, one.health
            )
            one.where = where
        found.append(endpoint)
    return found


def _usable(place: _Place) -> tuple[int, int]:
    """Return how many of a place's endpoints take calls, and the sum of their weights."""
    weights = [one.weight for one in place.candidates if one.health is not _UNHEALTHY]
    return len(weights), sum(weights) or sum(one.weight for one in place.candidates)


def _drop(message: wire.UnreadAssignment) -> float:
    """Return the share of all calls that is to be dropped."""
    kept = 1.0
    for one in message.policy.drop_overloads:
        kept *= 1 - share_of(one.drop_percentage)
    return 1 - kept
