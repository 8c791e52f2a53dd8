"""What a name in Consul's domain asks for: ``blue.orders.service.eu.consul``, read from its end.

Source: Consul's `agent/dns/router_query.go` and `agent/dns.go`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DOMAIN = "consul"
KINDS = ("service", "query", "node", "addr")
"""Kinds of names that are answered; of the others Consul has, only a service mesh of its own makes use."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a name asks for.

    Attributes:
        kind: one of `KINDS`. name: of the service, query or node; for ``addr`` the address in hexadecimal digits.
        tag: that instances must have, or "". datacenter: or "" for that of the agent.
    """

    kind: str
    name: str
    tag: str = ""
    datacenter: str = ""


def asked_by(name: str, *, srv: bool) -> Asked | None:
    """Return what ``name`` asks for; None when it cannot be understood, which is answered as a name that is not there.

    Args:
        name: in lower case, without the domain and without a final dot. srv: SRV records are wanted.
    """
    labels = name.split(".") if name else []
    for place in reversed(range(len(labels))):
        if labels[place] in KINDS:
            return _asked(labels[place], labels[:place], labels[place + 1 :])
        if srv and labels[place].startswith("_"):  # _orders._tcp.consul: the word "service" may be left out
            return _asked("service", labels[: place + 1], labels[place + 1 :])
    return None


def _asked(kind: str, parts: Sequence[str], rest: Sequence[str]) -> Asked | None:
    datacenter = _datacenter(rest)
    if datacenter is None or not parts:
        return None
    if kind != "service":
        return Asked(kind, ".".join(parts), datacenter=datacenter)
    *tags, name = parts
    if len(parts) == 2 and all(part.startswith("_") for part in parts):  # RFC 2782: a tag where a protocol stands
        name, tag = (part[1:] for part in parts)
        return Asked(kind, name, "" if tag == "tcp" else tag, datacenter)
    return Asked(kind, name, ".".join(tags), datacenter)


def _datacenter(rest: Sequence[str]) -> str | None:
    """Return the datacenter behind the kind, as ``eu`` or ``eu.dc``; None when something else stands there."""
    match rest:
        case []:
            return ""
        case [name] | [name, "dc"]:
            return name
        case _:
            return None
