"""A connection for a health check, and what is said of an endpoint that cannot be connected to."""

from __future__ import annotations

import asyncio
import errno
import ssl
from dataclasses import dataclass
from typing import Any

from svcmesh.core.address import Address, parse_address
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.outcome import OWN_TROUBLE
from svcmesh.engine.resolve import addresses_of
from svcmesh.policy.health.finding import Unasked, Unwell

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_OURS = OWN_TROUBLE | {errno.EADDRNOTAVAIL}
"""Errors of this host, which say nothing of the other one: no port is left, either."""


class Exhausted(Unasked):
    """This host has no file, port or memory left for one more connection."""


@dataclass(frozen=True, slots=True)
class Dialler:
    """Connects to endpoints.

    Attributes:
        port: instead of the endpoint's; None: the endpoint's.
        tls: the context of TLS, if it is used. name: what a certificate must be for.
    """

    port: int | None = None
    tls: ssl.SSLContext | None = None
    name: str | None = None

    async def dial(self, endpoint: Endpoint) -> Connection:
        """Return a new connection; of several addresses that a name has, to the first that accepts one.

        Raises:
            Unwell: nobody accepts it, or TLS fails. Unasked: nobody knows where it is.
            Exhausted: nothing can be dialled.
        """
        address = parse_address(endpoint.address)
        try:
            if address.path is not None:
                return await asyncio.open_unix_connection(address.path, **self._tls(address))
            return await self._dial(address)
        except OSError as error:
            raise self._why(error, address) from None

    async def _dial(self, address: Address) -> Connection:
        hosts = await addresses_of(address)
        if not hosts:
            raise Unasked(f"no name server knows {address.host}")
        for host in hosts[:-1]:
            try:
                return await asyncio.open_connection(host, self.port or address.port, **self._tls(address))
            except OSError:
                continue
        return await asyncio.open_connection(hosts[-1], self.port or address.port, **self._tls(address))

    def _tls(self, address: Address) -> dict[str, Any]:
        if self.tls is None:
            return {}
        return {"ssl": self.tls, "server_hostname": self.name or address.host or "localhost"}

    def _why(self, error: OSError, address: Address) -> Exception:
        if error.errno in _OURS:
            return Exhausted(f"cannot be dialled: {error.strerror}")
        if isinstance(error, ConnectionRefusedError | FileNotFoundError):
            calls_too = self.port is None or self.port == address.port or address.path is not None
            return Unwell("connection refused", refusing=calls_too)
        return Unwell(f"no connection: {error}")


def name_of(service: str) -> str | None:
    """Return the name of a service as a host; None for one that is known by a URI alone."""
    return (
        service if "://" not in service and service.isascii() and service.isprintable() and " " not in service else None
    )
