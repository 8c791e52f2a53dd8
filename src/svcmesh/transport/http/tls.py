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

from svcmesh.transport.tls_files import TlsFiles

_SETTINGS = ("minimum_version", "maximum_version", "options", "verify_flags", "keylog_filename", "sslsocket_class")

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

    What shakes hands is a context of the files' last content, made as this one is set.
    """

    _files: TlsFiles
    _lock: Lock
    _made: tuple[int, ssl.SSLContext]
    _protocols: list[str]

    def __new__(cls, files: TlsFiles) -> Self:
        """Return a context of files that have been read once."""
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        self._files = files
        self._lock = Lock()
        self._protocols = []
        self._made = (0, self)
        return self

    def __init__(self, files: TlsFiles) -> None:
        """Make the first context, so that what is wrong shows here."""
        self.current()

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

    def _new(self) -> ssl.SSLContext:
        given = self._files.root is not None
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if given else httpx.create_ssl_context()
        self._files.load_into(made)
        return made


def rotating_context(
    root: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    chain: str | os.PathLike[str] | None = None,
) -> ssl.SSLContext:
    """Return a context for ``verify=`` of `Service.http_client` and its like, or of any client, that follows its files.

    Each new connection is made with what the files hold then; open ones stay. Files that do not fit together (a new key
    beside an old certificate) are left out until they do.

    Args:
        root: PEM file of the authorities that servers are verified by; None: httpx's default.
        key: PEM file of the client's private key. chain: PEM file of its certificate chain. Both or neither.

    Raises:
        ConfigError: a file that cannot be read, or does not fit the others.

    Threads: any. Cost: three small files are read for each new connection.
    """
    return RotatingContext(TlsFiles(root, key, chain))
