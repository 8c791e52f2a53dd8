"""TLS to a registry: what a URI, an environment or a configuration file says of it, as a context.

What is said was written for programs in Go, so it is taken as they take it, where OpenSSL is another opinion:

- A directory of authorities is all files in it, whatever they are called; OpenSSL looks for names that are hashes.
- An authority that is given is trusted though another one stands above it.
- One that lacks what RFC 5280 demands of it is taken. Python 3.13 asks for that, and the authorities of many clusters
  are older (kubernetes-client/python#2394).

Source: HashiCorp's `rootcerts.LoadCACerts`; Go's `crypto/x509`.
"""

from __future__ import annotations

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import ENOENT
from pathlib import Path
from tempfile import NamedTemporaryFile

from svcmesh.core.errors import DiscoveryError


@dataclass(frozen=True, slots=True)
class Tls:
    """Files and settings of TLS; the system's authorities where none are given. ``…_data`` is PEM instead of a file.

    ``ca_path`` is a directory of authorities, which ``ca_file`` goes before.
    """

    ca_file: str | None = None
    ca_path: str | None = None
    certificate: str | None = None
    key: str | None = None
    server_name: str | None = None
    verify: bool = True
    ca_data: str | None = field(default=None, repr=False)
    certificate_data: str | None = field(default=None, repr=False)
    key_data: str | None = field(default=None, repr=False)


class _Encrypted(Exception):
    """A key is encrypted. OpenSSL would ask for its password at the terminal, and every watch would wait for that."""


def tls_context(tls: Tls, whose: str) -> ssl.SSLContext:
    """Return a context that trusts and shows what ``tls`` names; ``whose`` is what the error calls the registry.

    Raises:
        DiscoveryError: a file is missing, or not what it should be.
    """
    try:
        authorities = _authorities(tls)
        context = ssl.create_default_context(cafile=next(authorities, None), cadata=tls.ca_data)
        for file in authorities:
            context.load_verify_locations(file)
        with _as_file(tls.certificate, tls.certificate_data) as certificate, _as_file(tls.key, tls.key_data) as key:
            if certificate is not None:
                context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, _Encrypted) as error:  # SSLError is one
        named = (tls.ca_file, tls.ca_path, tls.certificate, tls.key)
        given = (("CA", tls.ca_data), ("certificate", tls.certificate_data), ("key", tls.key_data))
        sources = [name for name in named if name is not None] + [f"the {what} given" for what, data in given if data]
        told = getattr(error, "strerror", None) or error
        raise DiscoveryError(f"TLS for {whose} cannot be set up from {', '.join(sources)}: {told}") from None
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_password() -> str:
    raise _Encrypted("the key is encrypted, and nobody is there to be asked for its password")


def _authorities(tls: Tls) -> Generator[str, None, None]:
    """Yield the files that hold authorities.

    Raises:
        OSError: a directory that is none, or holds no file: nobody would be trusted.
    """
    if tls.ca_file is not None:
        yield tls.ca_file
    elif tls.ca_path is not None:
        files = [str(file) for file in sorted(Path(tls.ca_path).rglob("*")) if file.is_file()]
        if not files:
            raise FileNotFoundError(ENOENT, "no file in that directory")
        yield from files


@contextmanager
def _as_file(path: str | None, data: str | None) -> Generator[str | None, None, None]:
    """Have ``data`` in a file that only we can read, for as long as it takes: OpenSSL reads a chain from files only."""
    if data is None:
        yield path
        return
    with NamedTemporaryFile("w", encoding="ascii") as file:
        file.write(data)
        file.flush()
        yield file.name
