"""Which keys a URI means: those of all services beneath a prefix, or those of one.

The path is the key, without the slash that begins it: ``etcd://host/apps`` means keys such as ``apps/orders/1``, and
``etcd://host//apps`` those that begin with a slash themselves, as many have them.
"""

from __future__ import annotations

from dataclasses import dataclass

from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.names import LONGEST_NAME
from svcmesh.discovery.uri_parts import SERVICE, Uri, decoded, query_of, seconds_in

WAIT = 30.0
"""Seconds for which a watch may be silent before it is checked."""

KEYS = frozenset({"wait", "password-file"})
"""All keys of a query."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a URI asks for.

    Attributes:
        template: the key of a service without the slash behind it; may hold ``{service}``.
        wait: seconds, see `WAIT`.
    """

    template: str = SERVICE
    wait: float = WAIT

    @property
    def root(self) -> bytes:
        """What all keys of all services begin with; empty where they have nothing in common."""
        return self.template.partition(SERVICE)[0].encode()

    def prefix(self, service: str) -> bytes:
        """Return what the keys of a service begin with. The slash at its end keeps ``web`` and ``web2`` apart.

        Raises:
            DiscoveryError: the name is empty, too long, or no Unicode.
        """
        try:
            named = self.template.replace(SERVICE, service).encode()
        except UnicodeEncodeError:
            service, named = "", b""
        if not service or len(service) > LONGEST_NAME:
            raise DiscoveryError("etcd has keys for names of 1 to 4096 letters of Unicode, and this is none")
        return named + b"/"


def registry_of(uri: Uri) -> Target:
    """Return what ``uri`` asks for as a registry of names: a name goes behind the path, or where ``{service}`` stands.

    Raises:
        ConfigError: an unknown key in the query, a value that cannot be, braces that hold something else.
    """
    path = decoded(uri, uri.path[1:])
    if set("{}") & set(path.replace(SERVICE, "")):
        raise ConfigError(f"{uri.text!r}: the only thing that braces can hold is {SERVICE}")
    if SERVICE not in path:
        path = f"{path.removesuffix('/')}/{SERVICE}" if path else SERVICE
    return Target(path.removesuffix("/"), _wait(uri))


def service_of(uri: Uri) -> Target:
    """Return what ``uri`` asks for where it stands for one service: the path is its key.

    Raises:
        ConfigError: as `registry_of`.
    """
    return Target(decoded(uri, uri.path[1:]).removesuffix("/"), _wait(uri))


def names_service(uri: Uri) -> bool:
    """Whether ``uri`` can stand for one service: its path may be a key."""
    return bool(uri.path.strip("/")) and SERVICE not in decoded(uri, uri.path)


def range_end(prefix: bytes) -> bytes:
    """Return the first key behind all that begin with ``prefix``, as etcd's ranges want it."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\0"


def _wait(uri: Uri) -> float:
    return seconds_in(uri, query_of(uri, KEYS), "wait", 1.0, 600.0) or WAIT
