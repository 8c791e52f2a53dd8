"""The body of a registration, in the agent's own field names, and what can never be registered.

Many articles show `ServiceName` and its kin, which is how the *catalogue* answers; an agent refuses them today, and
dropped them in silence once, which made services without an address. So the names are written down here, once, and
a check that a user gives in Consul's words is held against them.

Source: Consul's `structs.ServiceDefinition` and `structs.CheckType`; limits of metadata: `structs.ValidateMetaTags`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from svcmesh.core.address import parse_address
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.consul.entries import HEAVIEST

SHORTEST_REAPING = 60.0
"""Seconds that Consul's reaper takes at least before it removes a critical service."""

_KINDS = (
    "TTL",
    "HTTP",
    "TCP",
    "UDP",
    "GRPC",
    "H2PING",
    "OSService",
    "AliasNode",
    "AliasService",
    "Args",
    "DockerContainerID",
)
_DETAILS = (
    "CheckID", "ID", "Name", "Notes", "Status", "Interval", "Timeout", "Header", "Method", "Body", "DisableRedirects",
    "TLSServerName", "TLSSkipVerify", "TCPUseTLS", "GRPCUseTLS", "H2PingUseTLS", "Shell", "OutputMaxSize",
    "SuccessBeforePassing", "FailuresBeforeWarning", "FailuresBeforeCritical", "DeregisterCriticalServiceAfter",
)  # fmt: skip
_META_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ITS_OWN = "consul-"
_MOST_META = 64
_LONGEST_VALUE = 512
_URL = re.compile(r"(https?|tcp|grpcs?)://([^/?#@]+)(/[^#]*)?")


def definition(announcement: Announcement, *, draining: bool = False) -> bytes:
    """Return the body that registers ``announcement``.

    Args:
        announcement: what is registered.
        draining: it was asked to take nothing new, so that it comes back as critical until that is said again.

    Raises:
        ConfigError: Consul can never take it; the message names the field.
    """
    address = parse_address(announcement.address)
    checks = checks_of(announcement)
    if draining:
        checks = [{**check, "Status": "critical"} for check in checks]
    body: dict[str, Any] = {
        "ID": announcement.id,
        "Name": announcement.service,
        "Tags": list(announcement.tags),
        "Meta": _meta(announcement),
        "Weights": {"Passing": _weight(announcement.weight), "Warning": 1},
        "Checks": checks,
    }
    if address.path is None:
        body |= {"Address": address.host, "Port": address.port}
    else:
        body |= {"SocketPath": address.path}
    return json.dumps(body).encode()


def checks_of(announcement: Announcement) -> list[dict[str, Any]]:
    """Return the checks of a registration: what ``check=`` says, and a TTL where it says nothing.

    Raises:
        ConfigError: it is none that Consul knows.
    """
    given = announcement.check
    listed = list(given) if isinstance(given, Sequence) and not isinstance(given, str | bytes) else [given]
    if not listed:
        raise ConfigError("check is an empty list: leave it out for heartbeats")
    checks = [_check(one, announcement) for one in listed]
    for number, check in enumerate(checks, 1):
        default = f"service:{announcement.id}" + (f":{number}" if len(checks) > 1 else "")
        check.setdefault("CheckID", check.pop("ID", default))
        check.setdefault("DeregisterCriticalServiceAfter", span(max(SHORTEST_REAPING, 3 * announcement.ttl)))
    return checks


def span(seconds: float) -> str:
    """Return a duration as Go reads it."""
    return f"{max(1, round(seconds * 1000))}ms"


def _check(given: Any, announcement: Announcement) -> dict[str, Any]:
    if given is None:
        return {"Name": "heartbeat", "TTL": span(announcement.ttl), "Status": "passing"}
    if isinstance(given, Mapping):
        return _in_consuls_words(given)
    if not isinstance(given, str):
        raise ConfigError(
            f"check must be a URL (http://…, tcp://host:port, grpc://host:port/service), a path such as '/healthz', "
            f"'tcp', 'grpc', a check in Consul's words such as {{'HTTP': …, 'Interval': '10s'}}, or a list of those, "
            f"not {given!r}"
        )
    timing = {"Interval": span(announcement.ttl), "Timeout": span(min(announcement.ttl, 10.0))}
    return _from_text(given, announcement.address) | timing


def _from_text(text: str, address: str) -> dict[str, Any]:
    if text.startswith("/"):
        return {"Name": "http", "HTTP": f"http://{address}{text}"}
    if text in {"tcp", "grpc"}:
        return {"Name": text, text.upper(): address}
    found = _URL.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"check {text!r} is neither a path, 'tcp', 'grpc' nor an http, tcp or grpc URL without a user"
        )
    scheme, host, path = found[1], found[2], found[3] or ""
    if scheme.startswith("http"):
        return {"Name": "http", "HTTP": text}
    parse_address(host)
    if scheme == "tcp":
        if path:
            raise ConfigError(f"check {text!r}: nothing follows the port of a TCP check")
        return {"Name": "tcp", "TCP": host}
    return {"Name": "grpc", "GRPC": host + path, "GRPCUseTLS": scheme == "grpcs"}


def _in_consuls_words(given: Mapping[Any, Any]) -> dict[str, Any]:
    for key in given:
        if key not in _KINDS and key not in _DETAILS:
            known = ", ".join((*_KINDS, *_DETAILS))
            raise ConfigError(f"check has the field {key!r}, which Consul does not know; known are {known}")
    kinds = [kind for kind in _KINDS if given.get(kind)]
    if not kinds or ("TTL" in kinds and ("Interval" in given or len(kinds) > 1)):
        raise ConfigError(f"check must have one of {', '.join(_KINDS)}; TTL stands alone and without Interval")
    if kinds[0] not in {"TTL", "AliasNode", "AliasService"} and not given.get("Interval"):
        raise ConfigError(f"check {kinds[0]} needs an Interval, such as '10s'")
    try:
        json.dumps(dict(given), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"check cannot be written as JSON: {error}") from None
    return dict(given)


def _meta(announcement: Announcement) -> dict[str, str]:
    """Return the metadata, the locality in it: as a field of its own only the newest agents take it."""
    locality = announcement.locality
    parts = {} if locality is None else {n: getattr(locality, n) for n in ("region", "zone", "sub_zone")}
    meta = {key: part for key, part in parts.items() if part} | announcement.meta
    if len(meta) > _MOST_META:
        raise ConfigError(f"meta has {len(meta)} keys (locality included); Consul takes {_MOST_META}")
    for key, value in meta.items():
        if not _META_KEY.fullmatch(key):
            raise ConfigError(f"meta: the key {key[:140]!r} must be 1 to 128 letters, digits, '_' or '-' for Consul")
        if key.startswith(_ITS_OWN):
            raise ConfigError(f"meta: the key {key!r} begins with {_ITS_OWN!r}, which Consul keeps for itself")
        if len(value.encode(errors="replace")) > _LONGEST_VALUE:
            raise ConfigError(f"meta[{key!r}] has more than {_LONGEST_VALUE} bytes, the most that Consul takes")
    return meta


def _weight(weight: float) -> int:
    if not (weight == int(weight) and 1 <= weight <= HEAVIEST):
        raise ConfigError(f"weight must be a whole number from 1 to {HEAVIEST} for Consul, not {weight!r}")
    return int(weight)
