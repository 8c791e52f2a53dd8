"""Where etcd is and who we are to it: from a URI, and from the environment that ``etcdctl`` reads.

What works with ``etcdctl`` on a machine works here without a further word. A URI that names members has the last word
on where they are; user, password and TLS come from the environment unless the URI has them.

Source: etcd's `etcdctl` (flags, and ``ETCDCTL_`` variables named after them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.environment import certificate_and_key, flag, server_at, servers_of
from svcmesh.discovery.lines import Server
from svcmesh.discovery.regular_file import read_regular
from svcmesh.discovery.tls import Tls
from svcmesh.discovery.tokens import ADVICE
from svcmesh.discovery.uri_parts import Uri, decoded

DEFAULT = "127.0.0.1:2379"

_PORT = 2379
_LONGEST_PASSWORD = 4096


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to etcd. The password is never shown: not in a repr, not in an error.

    ``password_file`` wins over ``password``, and is read for every login: passwords rotate.
    """

    user: str
    password: str = field(default="", repr=False)
    password_file: str | None = None

    def secret(self) -> str:
        """Return the password as of now.

        Raises:
            DiscoveryError: its file cannot be read, or is too long for one.
        """
        if self.password_file is None:
            return self.password
        try:
            content = read_regular(self.password_file, _LONGEST_PASSWORD, follow=True)
        except OSError as error:
            told = f"cannot read etcd's password from {self.password_file}: {error.strerror}; {ADVICE}"
            raise DiscoveryError(told) from None
        if len(content) > _LONGEST_PASSWORD:
            raise DiscoveryError(f"{self.password_file} is too large for a password")
        return content.decode("utf-8", errors="replace").rstrip("\r\n")


@dataclass(frozen=True, slots=True)
class Access:
    """All that is needed to ask: members in the order in which they are tried, credentials if any, and TLS."""

    members: tuple[Server, ...]
    credentials: Credentials | None = None
    tls: Tls = field(default_factory=Tls)


def access(uri: Uri, environ: Mapping[str, str], *, password_file: str | None = None) -> Access:
    """Return how the etcd that ``uri`` means is reached.

    Args:
        uri: ``etcd://[user[:password]@]host[:port],…`` or ``etcd+https://…``; without a host ``ETCDCTL_ENDPOINTS`` says
            where it is.
        environ: where the ``ETCDCTL_…`` variables are read.
        password_file: the file that the URI names.

    Raises:
        ConfigError: a malformed address, or a variable that cannot be understood. Passwords are not repeated.
    """
    user, _, hosts = uri.authority.rpartition("@")
    tls = _tls(environ)
    secure = uri.scheme == "etcd+https"
    return Access(_members(uri, hosts, environ, secure), _credentials(uri, user, environ, password_file), tls)


def _members(uri: Uri, hosts: str, environ: Mapping[str, str], secure: bool) -> tuple[Server, ...]:
    if not hosts:
        return _from_environment(environ, secure)
    return servers_of(uri, hosts, lambda host: _at(host, secure, repr(uri.text)))


def _from_environment(environ: Mapping[str, str], secure: bool) -> tuple[Server, ...]:
    where = "ETCDCTL_ENDPOINTS"
    secure = secure or any(environ.get(name) for name in ("ETCDCTL_CACERT", "ETCDCTL_CERT"))
    members: list[Server] = []
    for text in (environ.get(where) or DEFAULT).split(","):
        scheme, separator, host = text.strip().rstrip("/").partition("://")
        if not separator:
            scheme, host = "https" if secure else "http", scheme
        if scheme not in {"http", "https"} or "@" in host:
            raise ConfigError(f"{where} is a list of host:port, http://host:port or https://host:port, without a user")
        members.append(_at(host, secure or scheme == "https", where))
    return tuple(members)


def _at(host: str, secure: bool, where: str) -> Server:
    return server_at(host, secure=secure, port=_PORT, where=where, instead="etcd is reached by host:port")


def _credentials(uri: Uri, told: str, environ: Mapping[str, str], password_file: str | None) -> Credentials | None:
    name, colon, password = told.partition(":")
    user, password = decoded(uri, name), decoded(uri, password)
    if not user:
        user, has, password = environ.get("ETCDCTL_USER", "").partition(":")
        colon = has
    if not user:
        if told or password_file:
            raise ConfigError(f"{uri.text!r} has a password and no user: write etcd://user@host")
        return None
    if not colon:
        password = environ.get("ETCDCTL_PASSWORD", "")
    if not password and password_file is None:
        raise ConfigError(
            f"{uri.text!r}: user {user!r} has no password; put it into the URI, a file (?password-file=) or "
            "ETCDCTL_PASSWORD"
        )
    return Credentials(user, password, password_file)


def _tls(environ: Mapping[str, str]) -> Tls:
    certificate, key = certificate_and_key(environ, "ETCDCTL_CERT", "ETCDCTL_KEY")
    careless = flag(environ, "ETCDCTL_INSECURE_SKIP_TLS_VERIFY")
    return Tls(ca_file=environ.get("ETCDCTL_CACERT") or None, certificate=certificate, key=key, verify=not careless)
