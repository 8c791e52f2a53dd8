"""Where Consul is and how it is spoken to: from a URI, and from the environment that all HashiCorp tools read.

What works with the ``consul`` command on a machine works here without a further word. A URI that names an agent has the
last word on where it is; token, TLS and namespace come from the environment unless the URI has them.

Source: HashiCorp's Go client (`api.DefaultConfig`, `api.NewClient`), which is the only full description there is.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from svcmesh.core.errors import ConfigError
from svcmesh.discovery.environment import certificate_and_key, flag, server_at, servers_of
from svcmesh.discovery.lines import Server
from svcmesh.discovery.tls import Tls
from svcmesh.discovery.tokens import check_token, token_in
from svcmesh.discovery.uri_parts import Uri, decoded

DEFAULT = "127.0.0.1:8500"

_WHOSE = "Consul's"

Agent = Server
"""One agent (or server) of Consul."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to Consul. Nothing here is ever shown: not in a repr, not in an error.

    ``token_file`` wins over ``token`` while it is not empty, and is read for every request: tokens rotate.
    """

    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    user: str | None = field(default=None, repr=False)

    def headers(self) -> dict[str, str]:
        """Return the headers that say it, as of now.

        Raises:
            DiscoveryError: the token file cannot be read, or holds no token.
        """
        found: dict[str, str] = {}
        token = self._token()
        if token:
            found["X-Consul-Token"] = token
        if self.user is not None:
            found["Authorization"] = "Basic " + base64.b64encode(self.user.encode()).decode("ascii")
        return found

    @property
    def sends_token(self) -> bool:
        """Whether a token goes along.

        Raises:
            DiscoveryError: as `headers`.
        """
        return bool(self._token())

    def _token(self) -> str | None:
        if self.token_file is None:
            return self.token
        return token_in(self.token_file, _WHOSE) or self.token


@dataclass(frozen=True, slots=True)
class Access:
    """All that is needed to ask: agents in the order in which they are tried, credentials, TLS, and whose data."""

    agents: tuple[Agent, ...]
    credentials: Credentials = Credentials()
    tls: Tls = field(default_factory=Tls)
    namespace: str | None = None
    partition: str | None = None


def access(uri: Uri, environ: Mapping[str, str], *, token_file: str | None = None) -> Access:
    """Return how the Consul that ``uri`` means is reached.

    Args:
        uri: ``consul://[token@]host:port,…``, ``consul+https://…`` or ``consul+unix://%2Fpath`` (or ``:///path``);
            without a host ``CONSUL_HTTP_ADDR`` says where it is. ``user:password@`` is for basic authentication.
        environ: where the ``CONSUL_…`` variables are read.
        token_file: the token's file that the URI names.

    Raises:
        ConfigError: a malformed address, or a variable that cannot be understood. Values of secrets are not repeated.
    """
    user, at, hosts = uri.authority.rpartition("@")
    credentials = _credentials(decoded(uri, user) if at else None, environ, token_file)
    return Access(
        agents=_agents(uri, hosts, environ),
        credentials=credentials,
        tls=_tls(environ),
        namespace=environ.get("CONSUL_NAMESPACE") or None,
        partition=environ.get("CONSUL_PARTITION") or None,
    )


def _agents(uri: Uri, hosts: str, environ: Mapping[str, str]) -> tuple[Agent, ...]:
    secure = uri.scheme == "consul+https" or bool(flag(environ, "CONSUL_HTTP_SSL"))
    if uri.scheme == "consul+unix":
        path = decoded(uri, hosts) if hosts else decoded(uri, uri.path)
        return (_socket(path, repr(uri.text)),)
    if not hosts:
        return (_from_environment(environ.get("CONSUL_HTTP_ADDR") or DEFAULT, secure),)
    return servers_of(uri, hosts, lambda host: _at(host, secure, "", repr(uri.text)))


def _from_environment(text: str, secure: bool) -> Agent:
    where = "CONSUL_HTTP_ADDR"
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    if scheme == "unix":
        return _socket(rest, where)
    if scheme not in {"http", "https"}:
        raise ConfigError(f"{where} begins with {scheme!r}: write host:port, http://…, https://… or unix:///path")
    host, slash, prefix = rest.partition("/")
    if "@" in rest or "?" in prefix or "#" in prefix:
        raise ConfigError(f"{where} takes no user, query or fragment; tokens go into CONSUL_HTTP_TOKEN")
    secure = secure or scheme == "https"  # http never takes back that SSL was asked for
    return _at(host, secure, (slash + prefix).rstrip("/"), where, 443 if secure else 80)  # it is a URL to HashiCorp


def _at(host: str, secure: bool, prefix: str, where: str, port: int | None = None) -> Agent:
    """Return the agent at ``host[:port]``."""
    instead = "a unix socket is consul+unix://%2Frun%2Fconsul.sock"
    usual = 8501 if secure else 8500
    return server_at(host, secure=secure, port=port or usual, prefix=prefix, where=where, instead=instead)


def _socket(path: str, where: str) -> Agent:
    if not path.startswith("/") or path.endswith("/"):
        raise ConfigError(f"{where}: a unix socket is an absolute path, as in consul+unix://%2Frun%2Fconsul.sock")
    return Agent("http://localhost", path)


def _credentials(user: str | None, environ: Mapping[str, str], token_file: str | None) -> Credentials:
    basic = environ.get("CONSUL_HTTP_AUTH") or None
    if basic is not None and ":" not in basic:
        basic += ":"  # a user without a password
    token = environ.get("CONSUL_HTTP_TOKEN", "").strip() or None
    file = environ.get("CONSUL_HTTP_TOKEN_FILE") or None
    where = "CONSUL_HTTP_TOKEN"
    if user is not None and ":" in user:
        basic = user
    elif user:
        token, file, where = user, None, "the URI"
    if token is not None:
        check_token(token, _WHOSE, where)
    return Credentials(token, token_file or file, basic)


def _tls(environ: Mapping[str, str]) -> Tls:
    certificate, key = certificate_and_key(environ, "CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY")
    return Tls(
        ca_file=environ.get("CONSUL_CACERT") or None,
        ca_path=environ.get("CONSUL_CAPATH") or None,
        certificate=certificate,
        key=key,
        server_name=environ.get("CONSUL_TLS_SERVER_NAME") or None,
        verify=flag(environ, "CONSUL_HTTP_SSL_VERIFY") is not False,
    )
