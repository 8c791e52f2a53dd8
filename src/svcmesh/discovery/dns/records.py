"""What a DNS answer says, without its wire format: addresses or services, for how long, and whether it is a no.

dnspython has decoded the message and followed its aliases. Anybody may have written it, so nothing in here trusts
what a record holds: an address of nobody (``0.0.0.0``, which filters of names answer with, and which reaches this very
machine) is left out, and a TTL is only a number.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

A, AAAA, SRV, SOA, TXT = 1, 28, 33, 6, 16
"""Types of records, as they are numbered on the wire (RFC 1035, 3596, 2782)."""

IN = 1
"""The class of the internet's records; those of another have no addresses, whatever their type."""

TYPES = {4: A, 6: AAAA}
"""The type of the addresses of an IP version."""

NO = 30.0
"""Seconds that a negative answer is kept at most: what is missing may be about to come."""


@dataclass(frozen=True, slots=True, order=True)
class Service:
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What one question was answered with.

    Attributes:
        ttl: seconds for which it holds.
        addresses: those that were asked for, in order and without repetition.
        services: the SRV records, in order. absent: the domain says that there decidedly is no such service.
        texts: of the TXT records, in order, the strings of each joined.
        extra: addresses of targets that came along, by lower-case name and IP version.
    """

    ttl: float
    addresses: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    absent: bool = False
    texts: tuple[str, ...] = ()
    extra: dict[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)


def read(response: Any, kind: int) -> Reply:
    """Return what ``response`` (a `dns.message.QueryMessage`) says; one without records is a no.

    Args:
        response: an answer that says NOERROR or NXDOMAIN. kind: the type that was asked for.

    Raises:
        dns.exception.DNSException: it contradicts itself.
    """
    chain = response.resolve_chaining()
    records = () if chain.answer is None else tuple(chain.answer)
    ttl = float(chain.minimum_ttl)
    if kind == TXT:
        texts = tuple(sorted(b"".join(record.strings).decode(errors="replace") for record in records))
        return Reply(ttl if texts else min(ttl, NO), texts=texts)
    if kind != SRV:
        addresses = addresses_in(records)
        return Reply(ttl if addresses else min(ttl, NO), addresses)
    services = tuple(sorted({Service(r.priority, r.weight, r.port, _text(r.target)) for r in records}))
    there = tuple(service for service in services if service.target)
    if not there:
        return Reply(min(ttl, NO), absent=bool(services))
    extra, shortest = _extra(response.additional, {service.target for service in there})
    return Reply(min(ttl, shortest), services=there, extra=extra)


def addresses_in(records: Iterable[Any]) -> tuple[str, ...]:
    """Return the addresses of A or AAAA records that can be dialled, in order."""
    found = {ipaddress.ip_address(record.address) for record in records}
    usable = (ip for ip in found if not (ip.is_unspecified or ip.is_multicast))
    return tuple(map(str, sorted(usable, key=int)))


def _extra(additional: Iterable[Any], targets: set[str]) -> tuple[dict[tuple[str, int], tuple[str, ...]], float]:
    """Return the addresses in the additional section that belong to ``targets``, and the shortest TTL of them."""
    found: dict[tuple[str, int], tuple[str, ...]] = {}
    shortest = float("inf")
    for records in additional:
        version = {A: 4, AAAA: 6}.get(int(records.rdtype))
        name = _text(records.name)
        if version is not None and name in targets and records.rdclass == IN:
            found[name, version] = addresses_in(records)
            shortest = min(shortest, float(records.ttl))
    return found, shortest


def _text(name: Any) -> str:
    """Return a name as it is compared: in lower case, without the final dot; empty for the root."""
    return str(name.to_text(omit_final_dot=True)).lower().removesuffix(".")
