"""PEM files that may be replaced while the program runs: read again when somebody asks, believed only when whole.

Certificates are short-lived where they are made by machines, and whoever makes them replaces the files under a running
program: by renaming, by pointing a symlink elsewhere (Kubernetes), or by writing one file after the other. A key that
does not belong to its certificate yet must not take the service down, so what was good stays in force until all files
fit together again.

The files are read, not asked for their time stamps: they are small, and stamps may be too coarse to show a change.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from svcmesh.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Pem:
    """What the files hold; None for a file that was not given. The key is in no repr."""

    root: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    chain: bytes | None = None


class TlsFiles:
    """The files of one TLS client: whom it trusts, and what it shows.

    Args:
        root: certificates of the authorities that servers are verified by; None: the library's default.
        key: the client's private key, not encrypted. chain: its certificate and those in between.

    Attributes:
        pem: the last contents that fitted together. version: counts them.
        error: why what is there now is not in force; None when it is.

    Raises:
        ConfigError: a file that cannot be read, is not what it should be, or does not fit the others.

    Threads: any.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        chain: str | os.PathLike[str] | None = None,
    ) -> None:
        if (key is None) != (chain is None):
            raise ConfigError("key and chain belong together: give both files, or neither")
        if root is None and key is None:
            raise ConfigError("root, key and chain are all missing: there is no file to read")
        self.root, self.key, self.chain = (None if path is None else Path(path) for path in (root, key, chain))
        self._lock = Lock()
        self._rejected: Pem | None = None
        self.error: str | None = None
        self.pem = self._read()
        self._check(self.pem)
        self.version = 1

    def __str__(self) -> str:
        return ", ".join(str(path) for path in (self.root, self.key, self.chain) if path is not None)

    def refresh(self) -> bool:
        """Look whether the files hold something new, and take it if it is good; return whether it was taken.

        Cost: reading three small files; checking them only where they changed.
        """
        with self._lock:
            try:
                found = self._read()
                if found == self.pem:
                    self.error = self._rejected = None
                    return False
                if found == self._rejected:
                    return False
                self._rejected = found
                self._check(found)
            except ConfigError as error:
                self.error = str(error)
                return False
            self.pem, self.error, self._rejected = found, None, None
            self.version += 1
            return True

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let ``context`` trust the authorities and show the certificate."""
        if self.root is not None:
            context.load_verify_locations(self.root)
        if self.chain is not None:
            context.load_cert_chain(self.chain, self.key, password=_no_password)

    def _read(self) -> Pem:
        return Pem(_bytes("root", self.root), _bytes("key", self.key), _bytes("chain", self.chain))

    def _check(self, found: Pem) -> None:
        """Let OpenSSL read the files, which takes paths, and see that they are still those in ``found``."""
        try:
            self.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self}: {_words(error)}") from None
        if self._read() != found:
            raise ConfigError(f"{self}: being written at this moment")


def _bytes(name: str, path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{name}={str(path)!r} cannot be read: {error.strerror}") from None


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return {"KEY_VALUES_MISMATCH": "the key is not that of the certificate"}.get(error.reason or "", str(error))
    return str(error)


def _no_password() -> str:
    raise ValueError("the key is encrypted: gRPC cannot use it, and nobody is there to be asked for a password")
