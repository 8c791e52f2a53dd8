"""What Consul says of a service, as endpoints: pure decoding of `/v1/health/service/:name` and of prepared queries.

Installations differ: Go writes null for an empty list, old agents lack fields, people register services without
address, port or checks. So everything that may be missing may be missing, and one entry that nobody can dial takes no
other one away. What is no answer of Consul's at all (a proxy's page, half a body) is an error: never "no instances".

Source: Consul's `HealthChecks.AggregatedStatus`, its DNS for weights, `TranslateServiceAddress` for addresses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from svcmesh.core.address import check_address, join_address
from svcmesh.core.endpoint import Endpoint, Health, Locality, assembled, locality_of, with_known_keys
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.elements import Known, read_elements

HEAVIEST = 65_535
"""The largest weight that Consul takes."""

_NODE_MAINTENANCE = "_node_maintenance"
_SERVICE_MAINTENANCE = "_service_maintenance:"
_TOLD = 80  # characters of a stranger's text in an error message
_LOCALITY_KEYS = (
    ("region",),
    ("zone", "availability_zone", "availability-zone", "az"),
    ("sub_zone", "sub-zone"),
)
_LOCALITY_WORDS = frozenset(word for words in _LOCALITY_KEYS for word in words)
_HEALTHY, _UNHEALTHY = Health.HEALTHY, Health.UNHEALTHY  # a look at a member of an enumeration takes its time
_TEXT = frozenset({str})  # a question to all values at once, which nearly always is all that has to be asked
_RANK = {"passing": 0, "warning": 1, "critical": 2}


_Said = tuple[int, Endpoint | None]
"""Rank and endpoint of an entry; None for one in maintenance."""


class Entries(NamedTuple):
    """What an answer holds.

    Attributes:
        endpoints: those that can be dialled, without those in maintenance; each address once.
        left_out: what could not be read, and why; for a warning.
        listed: how many entries there were, those in maintenance included.
    """

    endpoints: tuple[Endpoint, ...]
    left_out: tuple[str, ...]
    listed: int


@dataclass(frozen=True, slots=True)
class Reading:
    """How entries are to be read.

    Attributes:
        address: which address is dialled: "" for the usual one, else the name of a tagged one, such as ``wan``.
        ordered: keep the order of the answer (which ``near`` sorted) instead of sorting by address.
    """

    address: str = ""
    ordered: bool = False


USUAL = Reading()


def decode_service(body: bytes, reading: Reading = USUAL, known: Known | None = None) -> Entries:
    """Return the endpoints in an answer of `/v1/health/service/:name`.

    Args:
        body: the answer. reading: how to read it.
        known: what entries said before, read in the same way; brought up to date.

    Raises:
        DiscoveryError: it is no such answer, or it has entries and not one of them can be read.
    """
    return _entries(_json(_elements(reading, known), body), reading)


def decode_query(body: bytes, reading: Reading = USUAL, known: Known | None = None) -> Entries:
    """Return the endpoints in an answer of `/v1/query/:name/execute`; they carry the datacenter that they are of.

    Raises:
        DiscoveryError: as `decode_service`.
    """
    answer = _json(_elements(reading, known, ("Nodes",)), body)
    if not isinstance(answer, dict) or "Nodes" not in answer:
        raise DiscoveryError(f"Consul's answer is no result of a prepared query but {_shown(answer)}")
    nodes = answer["Nodes"]
    return _entries([] if nodes is None else nodes, reading)


def decode_services(body: bytes) -> frozenset[str]:
    """Return the names in an answer of `/v1/catalog/services`.

    Raises:
        DiscoveryError: it is no such answer.
    """
    answer = _json(json.loads, body)
    if not isinstance(answer, dict):
        raise DiscoveryError(f"Consul's answer is no catalogue of services but {_shown(answer)}")
    return frozenset(answer)


def decode_nodes(body: bytes) -> int:
    """Return how many nodes an answer of `/v1/catalog/nodes` lists.

    Raises:
        DiscoveryError: it is no such answer.
    """
    answer = _json(json.loads, body)
    if not isinstance(answer, list):
        raise DiscoveryError(f"Consul's answer is no list of nodes but {_shown(answer)}")
    return len(answer)


def decode_allowed(body: bytes, count: int) -> tuple[bool, ...]:
    """Return what a token may do, of so many things that were asked in `/v1/internal/acl/authorize`.

    Raises:
        DiscoveryError: it is no such answer.
    """
    answer = _json(json.loads, body)
    if not isinstance(answer, list) or len(answer) != count:
        raise DiscoveryError(f"Consul's answer is no list of {count} rights but {_shown(answer)}")
    return tuple(isinstance(right, dict) and right.get("Allow") is True for right in answer)


def status_of(checks: Any) -> str:
    """Return the status that checks amount to: maintenance, critical, warning or passing.

    No checks are passing; a status that is not known counts as critical, for it is not passing.
    """
    worst = "passing"
    for check in checks if isinstance(checks, list) else ():
        if not isinstance(check, dict):
            continue
        check_id = check.get("CheckID")
        if isinstance(check_id, str) and (check_id == _NODE_MAINTENANCE or check_id.startswith(_SERVICE_MAINTENANCE)):
            return "maintenance"
        status = check.get("Status")
        if status == worst:
            continue
        known = status if isinstance(status, str) and status in _RANK else "critical"
        if _RANK[known] > _RANK[worst]:
            worst = known
    return worst


def _json(parse: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return parse(body)
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:_TOLD]
        raise DiscoveryError(f"Consul's answer of {len(body)} bytes is no JSON: {what}") from None


def _elements(reading: Reading, known: Known | None, path: Sequence[str] = ()) -> Callable[[bytes], Any]:
    """Return what reads JSON, and makes something of each entry in it at once."""
    return partial(read_elements, each=partial(_said, reading), path=path, known=known)


def _said(reading: Reading, entry: Any) -> _Said | str:
    """Return what an entry says; if it cannot be read, whose it is and why."""
    try:
        return _endpoint(entry, reading)
    except ValueError as error:  # ConfigError of an address is one, and so is what cannot be encoded
        return f"{_name(entry)}: {str(error)[: 2 * _TOLD]}"


def _entries(answer: Any, reading: Reading) -> Entries:
    if not isinstance(answer, list):
        raise DiscoveryError(f"Consul's answer is no list of instances but {_shown(answer)}")
    found: dict[str, tuple[int, Endpoint]] = {}
    left_out: list[str] = []
    for number, entry in enumerate(answer):
        if isinstance(entry, str):
            left_out.append(f"entry {number}{entry}")
            continue
        rank, endpoint = entry
        if endpoint is not None:
            other = found.get(endpoint.address)
            if other is None or _preferred(rank, endpoint, *other):
                found[endpoint.address] = (rank, endpoint)
    if left_out and len(left_out) == len(answer):
        raise DiscoveryError(f"no instance of {len(answer)} can be read; {left_out[0]}")
    endpoints = [endpoint for _, endpoint in found.values()]
    if not reading.ordered:
        endpoints.sort(key=attrgetter("address"))
    return Entries(tuple(endpoints), tuple(left_out), len(answer))


def _preferred(rank: int, endpoint: Endpoint, other_rank: int, other: Endpoint) -> bool:
    """Whether of two instances at one address the first speaks for it: one that is well shows that it answers."""
    return (rank, -endpoint.weight) < (other_rank, -other.weight)


def _endpoint(entry: Any, reading: Reading) -> _Said:
    """Return what an entry says.

    Raises:
        ValueError: it cannot be dialled.
    """
    service, node = _mapping(entry, "Service"), _mapping(entry, "Node")
    if not service:
        raise ValueError("it has no Service")
    status = status_of(entry.get("Checks"))
    if status == "maintenance":
        return len(_RANK), None
    address = _dialled(service, node, reading.address)
    check_address(address)
    weight, locality = _weight(service.get("Weights"), status), _locality(service, node)
    health = _UNHEALTHY if status == "critical" else _HEALTHY
    endpoint = assembled(address, weight, locality, 0, _metadata(service, node), health)
    return _RANK[status], endpoint


def _dialled(service: Mapping[str, Any], node: Mapping[str, Any], wanted: str) -> str:
    """Return the address: a tagged one of the service, its own, a tagged one of the node, its own."""
    port = service.get("Port") or _default_port(service.get("Ports"))
    host, tagged_port = _tagged(service, wanted) if wanted else ("", 0)
    if host:
        port = tagged_port or port
    own = service.get("Address")
    host = host or (own if isinstance(own, str) else "")
    if not host:
        path = service.get("SocketPath")
        if isinstance(path, str) and path and not port:
            return f"unix:{path}"
        if wanted:
            host, _ = _tagged(node, wanted)
        address = node.get("Address")
        host = host or (address if isinstance(address, str) else "")
    if not host:
        raise ValueError("neither the service nor its node has an address")
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65_535:
        raise ValueError(f"its port is {_shown(port)}: register it with the port that it listens on")
    return join_address(host.strip("[]"), port)


def _default_port(ports: Any) -> Any:
    """Return the default one of several ports, which an instance has had instead of one since Consul 1.22; else 0."""
    listed = [one for one in ports if isinstance(one, dict)] if isinstance(ports, list) else []
    for one in sorted(listed, key=lambda one: one.get("Default", one.get("default")) is not True)[:1]:
        return one.get("Port", one.get("port"))
    return 0


def _tagged(holder: Mapping[str, Any], wanted: str) -> tuple[str, int]:
    """Return a tagged address and its port: a service has ``{Address, Port}`` in either case, a node plain text."""
    tagged = _mapping(holder, "TaggedAddresses").get(wanted)
    if isinstance(tagged, str):
        return tagged, 0
    if not isinstance(tagged, dict):
        return "", 0
    host, port = tagged.get("Address", tagged.get("address")), tagged.get("Port", tagged.get("port"))
    return host if isinstance(host, str) else "", port if type(port) is int else 0


def _weight(weights: Any, status: str) -> float:
    """Return the weight of a status; a critical one keeps its own, for when a panic uses it after all."""
    found = weights.get("Warning" if status == "warning" else "Passing") if isinstance(weights, dict) else None
    return found if type(found) is int and 0 <= found <= HEAVIEST else 1


def _locality(service: Mapping[str, Any], node: Mapping[str, Any]) -> Locality | None:
    """Return where it runs: as Consul knows it, else as the metadata of service or node say."""
    for holder in (service, node):
        known = holder.get("Locality")
        if isinstance(known, dict) and known:
            return locality_of(_told(known, ("Region",)), _told(known, ("Zone",))) or Locality()
        told = holder.get("Meta")
        if isinstance(told, dict) and not _LOCALITY_WORDS.isdisjoint(told):
            region, zone, sub_zone = _LOCALITY_KEYS
            found = locality_of(_told(told, region), _told(told, zone), _told(told, sub_zone))
            if found is not None:
                return found
    return None


def _told(meta: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """Return the first text under one of these keys; "" if there is none."""
    for key in keys:
        if isinstance(found := meta.get(key), str):
            return found
    return ""


def _metadata(service: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """Return what else is known: the service's own metadata, its tags, id, node and datacenter."""
    metadata: dict[str, Any] = {}
    if isinstance(service_id := service.get("ID"), str) and service_id:
        metadata["id"] = service_id
    if isinstance(name := node.get("Node"), str) and name:
        metadata["node"] = name
    if isinstance(datacenter := node.get("Datacenter"), str) and datacenter:
        metadata["datacenter"] = datacenter
    tags = service.get("Tags")
    if isinstance(tags, list) and tags:
        metadata["tags"] = tuple(tags if _TEXT.issuperset(map(type, tags)) else filter(_is_text, tags))
    own = _mapping(service, "Meta")
    text = own if _TEXT.issuperset(map(type, own.values())) else {k: v for k, v in own.items() if _is_text(v)}
    metadata |= with_known_keys(text)
    return metadata


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _mapping(holder: Any, key: str) -> dict[str, Any]:
    found = holder.get(key) if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else {}


def _name(entry: Any) -> str:
    service, node = _mapping(entry, "Service"), _mapping(entry, "Node")
    identity = service.get("ID") or service.get("Service")
    return f" ({_shown(identity)} on {_shown(node.get('Node'))})" if isinstance(identity, str) else ""


def _shown(value: Any) -> str:
    """Return what an error may show of a stranger's value: its beginning, or just its kind."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return repr(value)[:_TOLD]
