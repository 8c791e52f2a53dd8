"""What the commands of registries read from the environment, and how they read it: both are Go programs.

Booleans are those of Go, a certificate goes with its key, and a host may leave out the port that everybody uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from svcmesh.core.address import parse_address
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.lines import Server
from svcmesh.discovery.uri_parts import Uri, decoded

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


def flag(environ: Mapping[str, str], name: str) -> bool | None:
    """Return a variable that is one of Go's booleans; None where it is not set.

    Raises:
        ConfigError: it is something else.
    """
    text = environ.get(name, "")
    if text and text not in _TRUE | _FALSE:
        raise ConfigError(f"{name} must be true or false (or 1, t, 0, f), not {text!r}")
    return text in _TRUE if text else None


def certificate_and_key(environ: Mapping[str, str], certificate: str, key: str) -> tuple[str | None, str | None]:
    """Return the files that two variables name: both, or none.

    Raises:
        ConfigError: one of them is missing.
    """
    found = environ.get(certificate) or None, environ.get(key) or None
    if (found[0] is None) != (found[1] is None):
        raise ConfigError(f"{certificate} and {key} belong together; one of them is missing")
    return found


def servers_of(uri: Uri, hosts: str, at: Callable[[str], Server]) -> tuple[Server, ...]:
    """Return the servers that a URI names, each as ``at`` reads it.

    Raises:
        ConfigError: what ``at`` raises; nothing is shown of what is meant as ``user:pass/word@host``.
    """
    try:
        return tuple(at(decoded(uri, host)) for host in hosts.split(","))
    except ConfigError:
        if "@" not in uri.path:
            raise
    raise ConfigError(
        f"a URI of {uri.scheme}:// has an '@' behind a slash: '/' in a password is written as %2F, '@' as %40"
    )


def server_at(host: str, *, secure: bool, port: int, prefix: str = "", where: str, instead: str) -> Server:
    """Return the server at ``host[:port]``.

    Args:
        host: with or without a port. secure: speak TLS. port: the one that everybody uses.
        prefix: of all paths there. where: what errors call the place of all this.
        instead: what to write where a path of a unix socket stands.

    Raises:
        ConfigError: this is no address, or that of a unix socket.
    """
    bare = host.rpartition("]")[2] if host.startswith("[") else host
    if ":" not in bare:
        host = f"{host}:{port}"
    try:
        address = parse_address(host)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if address.path is not None:
        raise ConfigError(f"{where}: {instead}")
    return Server(f"{'https' if secure else 'http'}://{host}{prefix}")
