"""TLS to a registry: what a URI, an environment or a configuration file says of it, as a context."""

from __future__ import annotations

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import NamedTemporaryFile

from svcmesh.core.errors import DiscoveryError


@dataclass(frozen=True, slots=True)
class Tls:
    """Files and settings of TLS; the system's authorities where none are given. ``…_data`` is PEM instead of a file."""

    ca_file: str | None = None
    ca_path: str | None = None
    certificate: str | None = None
    key: str | None = None
    server_name: str | None = None
    verify: bool = True
    ca_data: str | None = field(default=None, repr=False)
    certificate_data: str | None = field(default=None, repr=False)
    key_data: str | None = field(default=None, repr=False)


def tls_context(tls: Tls, whose: str) -> ssl.SSLContext:
    """Return a context that trusts and shows what ``tls`` names; ``whose`` is what the error calls the registry.

    Raises:
        DiscoveryError: a file is missing, or not what it should be.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file, capath=tls.ca_path, cadata=tls.ca_data)
        with _as_file(tls.certificate, tls.certificate_data) as certificate, _as_file(tls.key, tls.key_data) as key:
            if certificate is not None:
                context.load_cert_chain(certificate, key)
    except OSError as error:  # SSLError is one
        named = (tls.ca_file, tls.ca_path, tls.certificate, tls.key)
        given = (("CA", tls.ca_data), ("certificate", tls.certificate_data), ("key", tls.key_data))
        sources = [name for name in named if name is not None] + [f"the {what} given" for what, data in given if data]
        told = error.strerror or error
        raise DiscoveryError(f"TLS for {whose} cannot be set up from {', '.join(sources)}: {told}") from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


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
