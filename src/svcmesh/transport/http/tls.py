"""TLS for HTTP clients: a context that follows its files, and the alerts by which servers turn a client away.

Under TLS 1.3 a client's handshake is over before the server has looked at its certificate. So a refusal comes with the
first read, and looks like a connection that broke while a request was on its way, although the server cannot have read
one byte of it.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from threading import Lock
from typing import Any, Self

import httpx

from svcmesh.core.errors import ConfigError
from svcmesh.transport.tls_files import TlsFiles

_SETTINGS = (
    "minimum_version",
    "maximum_version",
    "options",
    "verify_flags",
    "keylog_filename",
    "hostname_checks_common_name",
    "post_handshake_auth",
    "sslobject_class",
    "sslsocket_class",
)
"""What is carried over as it is; `check_hostname` and `verify_mode` depend on each other, see `_verify_as`."""

TURNED_AWAY = frozenset(
    {
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_ALERT_ACCESS_DENIED",
        "TLSV1_ALERT_DECRYPT_ERROR",
    }
)
"""OpenSSL's names of the alerts that end a handshake because of the client's certificate. Source: RFC 8446, 6.2."""


def turned_away(error: BaseException) -> bool:
    """Whether the server did not accept us as a client, so that it cannot have processed a first request."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, ssl.SSLError):
        found = found.__cause__
    return found is not None and found.reason in TURNED_AWAY


class RotatingContext(ssl.SSLContext):
    """A context for clients that reads its files again when they have changed; see `rotating_context`.

    What shakes hands is a context of the files' last content, made as this one is set. Whatever could be set here and
    not there is refused: a setting that is lost without a word may be what a program's safety rests on.
    """

    _files: TlsFiles
    _lock: Lock
    _made: tuple[int, ssl.SSLContext]
    _protocols: list[str]
    _chosen: dict[str, str]

    def __new__(cls, files: TlsFiles) -> Self:
        """Return a context of files that have been read once."""
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        self._files = files
        self._lock = Lock()
        self._protocols = []
        self._chosen = {}
        self._made = (0, self)
        return self

    def __init__(self, files: TlsFiles) -> None:
        """Make the first context, so that what is wrong shows here; this one begins with its settings."""
        first = self._new()
        for name in _SETTINGS:
            if getattr(self, name) != getattr(first, name):
                setattr(self, name, getattr(first, name))
        self._made = (self._files.version, first)

    def current(self) -> ssl.SSLContext:
        """Return the context for one more connection. Cost: the files are read, and taken up where they changed."""
        self._files.refresh()
        with self._lock:
            version, made = self._made
            if version != self._files.version:
                version, made = self._files.version, self._new()
                self._made = (version, made)
            for name in _SETTINGS:
                if getattr(made, name) != getattr(self, name):
                    setattr(made, name, getattr(self, name))
            _verify_as(made, self)
            made.set_alpn_protocols(self._protocols)
            return made

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Shake hands over a socket, with what the files hold now."""
        return self.current().wrap_socket(*args, **kwargs)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Shake hands in memory, with what the files hold now."""
        return self.current().wrap_bio(*args, **kwargs)

    def set_alpn_protocols(self, alpn_protocols: Sequence[str]) -> None:  # type: ignore[override]
        """Offer these protocols from now on."""
        self._protocols = list(alpn_protocols)

    def set_ciphers(self, cipherlist: str, /) -> None:
        """Offer these ciphers from now on."""
        super().set_ciphers(cipherlist)
        self._choose("set_ciphers", cipherlist)

    def set_ecdh_curve(self, name: str, /) -> None:
        """Use this curve from now on."""
        super().set_ecdh_curve(name)
        self._choose("set_ecdh_curve", name)

    def load_verify_locations(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: nobody would follow them."""
        raise _elsewhere("authorities", "root=, all in one file")

    def load_default_certs(self, *args: Any, **kwargs: Any) -> None:
        """Refuse, as `load_verify_locations`."""
        raise _elsewhere("authorities", "root=, all in one file; without root= they are httpx's default")

    def set_default_verify_paths(self) -> None:
        """Refuse, as `load_verify_locations`."""
        self.load_default_certs()

    def load_cert_chain(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: nobody would follow them."""
        raise _elsewhere("a client's certificate", "key= and chain=")

    def get_ca_certs(self, *args: Any, **kwargs: Any) -> Any:
        """Return the authorities that are in force."""
        return self.current().get_ca_certs(*args, **kwargs)

    def cert_store_stats(self) -> dict[str, int]:
        """Return how many authorities and lists of revoked certificates are in force."""
        return self.current().cert_store_stats()

    def _choose(self, method: str, value: str) -> None:
        with self._lock:
            self._chosen[method] = value
            self._made = (0, self._made[1])  # the next connection has a new one: what is in use is not changed

    def _new(self) -> ssl.SSLContext:
        given = self._files.root is not None
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if given else httpx.create_ssl_context()
        self._files.load_into(made)
        for method, value in self._chosen.items():
            getattr(made, method)(value)
        return made


def _verify_as(made: ssl.SSLContext, wanted: ssl.SSLContext) -> None:
    """Verify with ``made`` what ``wanted`` verifies: a name can be checked only where there must be a certificate."""
    if made.check_hostname and not wanted.check_hostname:
        made.check_hostname = False
    if made.verify_mode != wanted.verify_mode:
        made.verify_mode = wanted.verify_mode
    if wanted.check_hostname and not made.check_hostname:
        made.check_hostname = True


def _elsewhere(what: str, argument: str) -> ConfigError:
    return ConfigError(f"a rotating context follows its files only: give {what} to rotating_context as {argument}")


def rotating_context(
    root: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    chain: str | os.PathLike[str] | None = None,
) -> ssl.SSLContext:
    """Return a context for ``verify=`` of `Service.http_client` and its like, or of any client, that follows its files.

    Each new connection is made with what the files hold then; open ones stay. Files that do not fit together (a new key
    beside an old certificate) are left out until they do.

    It is set as any `ssl.SSLContext` (ciphers, ``check_hostname``, ``verify_mode``, …); that holds for all new
    connections. Its ``load_…`` methods, and ``cert=`` beside it, are a `ConfigError`: give the files here.

    Args:
        root: PEM file of the authorities that servers are verified by; None: httpx's default.
        key: PEM file of the client's private key. chain: PEM file of its certificate chain. Both or neither.

    Raises:
        ConfigError: a file that cannot be read, or does not fit the others.

    Threads: any. Cost: three small files are read for each new connection.
    """
    return RotatingContext(TlsFiles(root, key, chain))
