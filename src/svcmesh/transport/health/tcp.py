"""Health checks by TCP: a connection of its own for each, because whether it is accepted is what is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from svcmesh.core.endpoint import Endpoint
from svcmesh.policy.health.check import HealthCheck
from svcmesh.policy.health.finding import Unwell
from svcmesh.policy.health.kinds import TcpHealthCheck
from svcmesh.transport.health.dial import Dialler, name_of

MOST_RECEIVED = 65536
"""Bytes among which what is expected has to be."""


class TcpAsker:
    """Connects, and if so wanted sends something and waits for something; see `Asker`."""

    def __init__(self, config: HealthCheck, tcp: TcpHealthCheck, service: str) -> None:
        self._dialler = Dialler(config.alt_port, tcp.tls, name_of(service))
        self._send = tcp.send
        self._receive = cast("Sequence[bytes]", tcp.receive)

    async def ask(self, endpoint: Endpoint) -> bool:
        """Return when there was a connection, and what is expected has come."""
        reader, writer = await self._dialler.dial(endpoint)
        try:
            if self._send:
                writer.write(self._send)
            if self._receive:
                await _expect(reader, self._receive)
            elif self._send:
                await writer.drain()
        except OSError as error:
            raise Unwell(f"the connection broke: {error}") from None
        else:
            return False
        finally:
            if self._send and not self._receive:
                writer.close()  # what was sent is still on its way
            else:
                writer.transport.abort()

    def forget(self, endpoint: Endpoint) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is kept."""


async def _expect(reader: asyncio.StreamReader, parts: Sequence[bytes]) -> None:
    """Return when all parts have come in their order, with anything in between."""
    came, read, at, left = b"", 0, 0, list(parts)
    while left:
        data = await reader.read(MOST_RECEIVED)
        if not data:
            raise Unwell("the connection was closed before what is expected came")
        read += len(data)
        came = came[at:] + data
        at = 0
        while left and (found := came.find(left[0], at)) >= 0:
            at = found + len(left.pop(0))
        if left and read >= MOST_RECEIVED:
            raise Unwell(f"what is expected is not among the first {MOST_RECEIVED} bytes", answered=True)
