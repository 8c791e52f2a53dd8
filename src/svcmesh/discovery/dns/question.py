"""What is asked of DNS, as a URI says it: which name, of whom, how often, and for which kinds of addresses.

A name is taken as it stands. The search list of a machine turns one name into many questions, and in a cluster's
``ndots:5`` into a dozen for a name outside of it; so it is used only where the URI asks for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from svcmesh.core.address import parse_address, parse_port
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.uri_parts import SERVICE, Uri, decoded, flag_in, query_of, seconds_in

FLOOR, CEILING = 5.0, 300.0
"""Seconds that an answer is kept at least and at most, whatever its TTL."""

PORT = 53
KEYS = ("family", "min-ttl", "max-ttl", "search", "tcp", "grpc_config")
"""All keys of a query."""

_DOMAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,252}")
_FAMILIES = {"4": (4,), "6": (6,), "any": (4, 6)}


@dataclass(frozen=True, slots=True)
class Question:
    """What a URI asks for.

    Attributes:
        name: what is looked up; may hold ``{service}``. A final dot is allowed.
        port: of all endpoints; None: SRV records say it, or, with ``srv`` off, it stands behind the service's name.
        srv: whether SRV records are asked for. families: IP versions, 4 and 6.
        servers: hosts and ports of name servers; none: those of the system, after its hosts file.
        floor, ceiling: seconds that an answer is kept at least and at most.
        search: domains to append; ``("",)``: the system's; none: the name stands as it is.
        tcp: never ask by UDP. grpc_config: ask for the service config that gRPC's clients have, too.
    """

    name: str = SERVICE
    port: int | None = None
    srv: bool = False
    families: tuple[int, ...] = (4, 6)
    servers: tuple[tuple[str, int], ...] = ()
    floor: float = FLOOR
    ceiling: float = CEILING
    search: tuple[str, ...] = ()
    tcp: bool = False
    grpc_config: bool = False

    def about(self, service: str) -> Question:
        """Return the question for one service: its name is put in, and its port found.

        Raises:
            DiscoveryError: there is no port, or one that is none.
        """
        name = self.name.replace(SERVICE, service)
        if self.srv or self.port is not None:
            return replace(self, name=name)
        host, colon, port = name.rpartition(":")
        try:
            return replace(self, name=host, port=parse_port(port if colon else "", name))
        except ConfigError as error:
            raise DiscoveryError(f"{error}: DNS knows no ports; write dns:///{SERVICE}:8080") from None


def question_of(uri: Uri) -> Question:
    """Return what ``uri`` asks for.

    Raises:
        ConfigError: a malformed server, a name without port where one is needed or with one where SRV says it, an
            unknown key, a value that cannot be.
    """
    query = query_of(uri, KEYS)
    srv = uri.scheme == "dns+srv"
    name, port = _name(uri, srv=srv)
    family = query.get("family", ["any"])[0]
    if family not in _FAMILIES:
        raise ConfigError(f"{uri.text!r}: family is 4, 6 or any, not {family!r}")
    floor = seconds_in(uri, query, "min-ttl", 1.0, 86_400.0)
    ceiling = seconds_in(uri, query, "max-ttl", 1.0, 86_400.0)
    if floor is not None and ceiling is not None and floor > ceiling:
        raise ConfigError(f"{uri.text!r}: min-ttl ({floor:g} s) is more than max-ttl ({ceiling:g} s)")
    return Question(
        name=name,
        port=port,
        srv=srv,
        families=_FAMILIES[family],
        servers=tuple(_server(uri, text) for text in uri.authority.split(",")) if uri.authority else (),
        floor=min(FLOOR, ceiling or FLOOR) if floor is None else floor,
        ceiling=max(CEILING, floor or CEILING) if ceiling is None else ceiling,
        search=_search(uri, query),
        tcp=flag_in(uri, query, "tcp"),
        grpc_config=flag_in(uri, query, "grpc_config"),
    )


def names_endpoints(uri: Uri) -> bool:
    """Whether ``uri`` says which name is meant, so that nothing else has to."""
    return SERVICE not in question_of(uri).name


def _name(uri: Uri, *, srv: bool) -> tuple[str, int | None]:
    text = decoded(uri, uri.path.removeprefix("/")) or SERVICE
    if "/" in text or set("{}") & set(text.replace(SERVICE, "")):
        raise ConfigError(f"{uri.text!r}: after the server stands a name, or {SERVICE}, and no more")
    if srv:
        if ":" in text:
            raise ConfigError(f"{uri.text!r}: SRV records say the port themselves; leave it out, or write dns://")
        return text, None
    if text == SERVICE:
        return text, None
    host, colon, port = text.rpartition(":")
    if not colon or not host or (":" in host and not host.startswith("[")):
        raise ConfigError(f"{uri.text!r}: DNS knows no ports; write name:port, as in dns:///orders.example.org:8080")
    return host, parse_port(port, uri.text)


def _server(uri: Uri, text: str) -> tuple[str, int]:
    shown = decoded(uri, text)
    if "@" in shown:
        raise ConfigError(f"{uri.text!r}: a name server is host:port, without a user")
    if not shown:
        raise ConfigError(f"{uri.text!r}: a name server is missing; write dns://10.0.0.2:53,10.0.0.3:53/…")
    bare = shown.endswith("]") if shown.startswith("[") else ":" not in shown
    found = parse_address(f"{shown}:{PORT}" if bare else shown)
    return found.host, found.port


def _search(uri: Uri, query: dict[str, list[str]]) -> tuple[str, ...]:
    given = query.get("search", ["false"])[0]
    if given in {"false", "0"}:
        return ()
    if given in {"", "true", "1"}:
        return ("",)
    domains = tuple(given.split(","))
    for domain in domains:
        if not _DOMAIN.fullmatch(domain) or ".." in domain:
            raise ConfigError(f"{uri.text!r}: search is a list of domains, as in search=svc.test,example.org")
    return domains
