"""TLS to a registry: what a URI, an environment or a configuration file says of it, as a context."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from svcmesh.core.errors import DiscoveryError


@dataclass(frozen=True, slots=True)
class Tls:
    """Files and settings of TLS; the system's authorities where none are given."""

    ca_file: str | None = None
    ca_path: str | None = None
    certificate: str | None = None
    key: str | None = None
    server_name: str | None = None
    verify: bool = True


def tls_context(tls: Tls, whose: str) -> ssl.SSLContext:
    """Return a context that trusts and shows what ``tls`` names; ``whose`` is what the error calls the registry.

    Raises:
        DiscoveryError: a file is missing, or not what it should be.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file, capath=tls.ca_path)
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # SSLError is one
        files = ", ".join(name for name in (tls.ca_file, tls.ca_path, tls.certificate, tls.key) if name is not None)
        raise DiscoveryError(f"TLS for {whose} cannot be set up from {files}: {error.strerror or error}") from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
