"""One EndpointSlice as the API server writes it: pure decoding, before it is known which port is wanted.

A slice holds up to a thousand endpoints of one service, of one kind of addresses, with the same ports. Whatever may be
missing may be missing (Go leaves out what is empty, or writes null), and one endpoint that nobody can dial takes no
other one away. What is no EndpointSlice at all is an error: never "no endpoints".

Source: Kubernetes, discovery.k8s.io/v1 (EndpointSlice, EndpointConditions, EndpointPort).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from svcmesh.core.errors import DiscoveryError

SERVICE_LABEL = "kubernetes.io/service-name"
"""The label by which a slice says whose it is."""

_TOLD = 80  # characters of a stranger's text in an error message
_KINDS = {"IPv4": 4, "IPv6": 6, "FQDN": 0}


class Port(NamedTuple):
    """A port that all endpoints of a slice have. ``number`` None: all of them."""

    name: str
    number: int | None


class Entry(NamedTuple):
    """One endpoint of a slice.

    Attributes:
        host: its first address; the others, if there are any, mean the same.
        ready: whether it takes calls. draining: it is about to go, and would still answer.
        zone: where it runs, or "". hints: zones whose callers it is meant for; none: it has no hint.
        pod: what identifies its pod, or "". node, name: for its metadata.
    """

    host: str
    ready: bool
    draining: bool
    zone: str = ""
    hints: tuple[str, ...] = ()
    pod: str = ""
    node: str = ""
    name: str = ""


class Slice(NamedTuple):
    """One EndpointSlice.

    Attributes:
        name: unique in its namespace. service: whose it is; "" if it does not say. version: its resourceVersion.
        family: 4, 6, or 0 for names. ports: those of TCP. entries: all endpoints that can be read.
        left_out: why others cannot.
    """

    name: str
    service: str
    version: str
    family: int
    ports: tuple[Port, ...] = ()
    entries: tuple[Entry, ...] = ()
    left_out: tuple[str, ...] = ()


def slice_of(found: Any) -> Slice:
    """Return the slice in a decoded object.

    Raises:
        DiscoveryError: it is none.
    """
    meta = mapping(found, "metadata")
    name, version = text(meta, "name"), text(meta, "resourceVersion")
    if not name or not version:
        raise DiscoveryError(f"the API server sent {shown(found)} without name and version instead of an EndpointSlice")
    entries: list[Entry] = []
    left_out: list[str] = []
    kind = found.get("addressType")
    family = _KINDS.get(kind) if isinstance(kind, str) else None
    listed = found.get("endpoints") or ()
    if family is None:
        left_out.append(f"slice {name[:_TOLD]}: its addressType is {shown(kind)}")
    elif not isinstance(listed, list | tuple):
        left_out.append(f"slice {name[:_TOLD]}: its endpoints are {shown(listed)}")
    else:
        for number, one in enumerate(listed):
            entry = _entry(one)
            if entry is None:
                left_out.append(f"endpoint {number} of slice {name[:_TOLD]}: it has no address")
            else:
                entries.append(entry)
    service = text(mapping(meta, "labels"), SERVICE_LABEL)
    return Slice(name, service, version, family or 0, _ports(found.get("ports")), tuple(entries), tuple(left_out))


def _entry(one: Any) -> Entry | None:
    addresses = one.get("addresses") if isinstance(one, dict) else None
    host = addresses[0] if isinstance(addresses, list) and addresses else None
    if not isinstance(host, str) or not host:
        return None
    conditions, target = mapping(one, "conditions"), mapping(one, "targetRef")
    ready = conditions.get("ready") is not False  # unknown counts as ready
    draining = False
    if conditions.get("terminating") is True:
        serving = conditions.get("serving")
        draining = ready if serving is None else serving is True
    pod = name = ""
    if target.get("kind") == "Pod":
        pod, name = text(target, "uid"), text(target, "name")
    hints = _hints(one["hints"]) if "hints" in one else ()
    return Entry(host, ready, draining, text(one, "zone"), hints, pod, text(one, "nodeName"), name)


def _hints(hints: Any) -> tuple[str, ...]:
    zones = hints.get("forZones") if isinstance(hints, dict) else None
    return tuple(name for zone in zones if (name := text(zone, "name"))) if isinstance(zones, list) else ()


def _ports(listed: Any) -> tuple[Port, ...]:
    """Return the ports of TCP; a number that cannot be is a port that nobody can ask for."""
    ports: list[Port] = []
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and one.get("protocol") in ("TCP", None):
            number = one.get("port")
            if number is None or (type(number) is int and 1 <= number <= 65_535):
                ports.append(Port(text(one, "name"), number))
    return tuple(ports)


def mapping(holder: Any, key: str) -> Mapping[str, Any]:
    """Return an object in another one; an empty one if it is not there."""
    found = holder.get(key) if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else {}


def text(holder: Any, key: str) -> str:
    """Return a text in an object; "" if it is not there."""
    found = holder.get(key) if isinstance(holder, dict) else None
    return found if isinstance(found, str) else ""


def shown(value: Any) -> str:
    """Return what an error may show of a stranger's value: its beginning, or just its kind."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return repr(value)[:_TOLD]
