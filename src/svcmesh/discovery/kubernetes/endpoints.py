"""What the slices of one service amount to: endpoints, each address once, as kube-proxy would choose them.

- A pod that is ready takes calls. If none is, those that are about to go and still serve do.
- While the controller moves endpoints, one may stand in two slices: ready in any of them is ready.
- A pod of a dual-stack service stands in a slice of each IP version, and is one endpoint all the same.
- Hints say for which zone each endpoint is meant. They count only if every endpoint has one, and only in a zone that
  one of them names; then the others are standbys (priority 1), where kube-proxy would not use them at all.

Source: Kubernetes, pkg/proxy/topology.go (CategorizeEndpoints); KEP-1669 (terminating), KEP-2433 (hints).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from svcmesh.core.address import check_address, join_address
from svcmesh.core.endpoint import Endpoint, assembled, locality_of
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.kubernetes.slices import Entry, Port, Slice
from svcmesh.discovery.pace import SLOWLY
from svcmesh.discovery.reach import has_route, reachable

_SHOWN = 10  # ports that an error names
_TOLD = 160  # characters of a text about a stranger's address


@dataclass(frozen=True, slots=True)
class Reading:
    """How slices are to be read.

    Attributes:
        port: a name, or a number of the pods; None: the only one there is.
        families: IP versions, the preferred one first. zone: the caller's, for hints; "" if not known.
    """

    port: str | int | None = None
    families: tuple[int, ...] = (4, 6)
    zone: str = ""


USUAL = Reading()


class Found(NamedTuple):
    """What slices hold.

    Attributes:
        endpoints: those that take calls, by address. left_out: what cannot be used, and why.
        sure: if there are none, whether that can only be meant: there are slices, and nobody in them.
    """

    endpoints: tuple[Endpoint, ...]
    left_out: tuple[str, ...]
    sure: bool


class _Candidate(NamedTuple):
    address: str
    family: int
    entry: Entry


Made = dict[str, tuple[Entry, int, Endpoint]]
"""Endpoints by address, with what they were made of."""


def endpoints_of(
    slices: Iterable[Slice],
    reading: Reading = USUAL,
    routed: Callable[[str], bool] = has_route,
    made: Made | None = None,
) -> Found:
    """Return the endpoints of a service.

    Args:
        slices: all that it has. reading: how to read them. routed: whether there is a way to an address.
        made: endpoints that were made before, to be used again where nothing has changed; brought up to date.

    Raises:
        DiscoveryError: there are endpoints, and none of them has the port that is wanted.

    Cost: O(endpoints), of which nearly all is making them; so most is saved by ``made`` when a slice of many changes.
    """
    ordered = sorted(slices, key=lambda one: one.name)
    left_out = [told for one in ordered for told in one.left_out]
    candidates = _unique(_candidates(ordered, reading, left_out))
    chosen = [one for one in candidates if one.entry.ready] or candidates
    chosen = _one_family_each(chosen, reading.families, routed)
    meant = _meant(chosen, reading.zone)
    before: Made = {} if made is None else dict(made)
    after: Made = {}
    for one in sorted(chosen, key=lambda one: one.address):
        try:
            after[one.address] = _made(one, 0 if meant is None or one.address in meant else 1, before)
        except ConfigError as error:
            left_out.append(str(error)[:_TOLD])
    if made is not None:
        made.clear()
        made.update(after)
    endpoints = tuple(endpoint for _, _, endpoint in after.values())
    sure = bool(endpoints) or (bool(ordered) and not left_out and not any(one.entries for one in ordered))
    return Found(endpoints, tuple(left_out), sure)


def _candidates(slices: Sequence[Slice], reading: Reading, left_out: list[str]) -> list[_Candidate]:
    found: list[_Candidate] = []
    strangers: list[Slice] = []
    for one in slices:
        usable = [entry for entry in one.entries if entry.ready or entry.draining]
        if not usable or (one.family and one.family not in reading.families):
            continue
        number = _number(one.ports, reading.port)
        if number is None:
            strangers.append(one)
            continue
        found += [_Candidate(join_address(entry.host, number), one.family, entry) for entry in usable]
    if strangers and not found:
        raise _no_port(strangers, reading.port)
    for one in strangers:
        left_out += [f"slice {one.name[:80]}: {_has(one.ports)}"] * len(one.entries)
    return found


def _number(ports: Sequence[Port], wanted: str | int | None) -> int | None:
    """Return the port to dial; None where it is not there, or not clear."""
    if isinstance(wanted, int):
        listed = not ports or any(port.number in {wanted, None} for port in ports)
        return wanted if listed else None
    named = [port.number for port in ports if wanted is None or port.name == wanted]
    return named[0] if len(named) == 1 else None


def _no_port(strangers: Sequence[Slice], wanted: str | int | None) -> DiscoveryError:
    there = _has(tuple(dict.fromkeys(port for one in strangers for port in one.ports)))
    if wanted is None:
        return DiscoveryError(f"the service {there}: say which one, as in k8s://prod/orders:http", retry_after=SLOWLY)
    hint = "; a number is that of the pods, which the service's own need not be" if isinstance(wanted, int) else ""
    return DiscoveryError(f"the service has no port {wanted!r} of TCP: it {there}{hint}", retry_after=SLOWLY)


def _has(ports: Sequence[Port]) -> str:
    if not ports:
        return "has no port of TCP"
    names = [f"{port.name or '(no name)'}={'any' if port.number is None else port.number}" for port in ports[:_SHOWN]]
    return f"has {', '.join(names)}{', …' if len(ports) > _SHOWN else ''}"


def _unique(candidates: Iterable[_Candidate]) -> list[_Candidate]:
    found: dict[str, _Candidate] = {}
    for one in candidates:
        other = found.get(one.address)
        if other is None or (one.entry.ready and not other.entry.ready):
            found[one.address] = one
    return list(found.values())


def _one_family_each(
    candidates: list[_Candidate], families: Sequence[int], routed: Callable[[str], bool]
) -> list[_Candidate]:
    """Return ``candidates`` without IP versions that lead nowhere from here, and each pod once."""
    first = {one.family: one.entry.host for one in reversed(candidates) if one.family}
    if len(first) < 2:
        return candidates
    ways = reachable(list(first.values()), routed)
    usable = [one for one in candidates if not one.family or first[one.family] in ways]
    best: dict[str, int] = {}
    for one in usable:
        rank = families.index(one.family) if one.family else len(families)
        if one.entry.pod:
            best[one.entry.pod] = min(rank, best.get(one.entry.pod, rank))
    return [
        one
        for one in usable
        if not one.entry.pod or not one.family or families.index(one.family) == best[one.entry.pod]
    ]


def _meant(candidates: Sequence[_Candidate], zone: str) -> frozenset[str] | None:
    """Return the addresses that are meant for callers of ``zone``; None where hints do not count."""
    if not zone or not all(one.entry.hints for one in candidates):
        return None
    return frozenset(one.address for one in candidates if zone in one.entry.hints) or None


def _made(one: _Candidate, priority: int, before: Made) -> tuple[Entry, int, Endpoint]:
    """Return the endpoint of a candidate with what it is made of: the one from before if that is the same."""
    entry, known = one.entry, before.get(one.address)
    if known is not None and known[0] == entry and known[1] == priority:
        return known
    metadata = {}
    if entry.name:
        metadata["pod"] = entry.name
    if entry.node:
        metadata["node"] = entry.node
    locality = locality_of(zone=entry.zone)
    check_address(one.address)
    return entry, priority, assembled(one.address, 1, locality, priority, metadata)
