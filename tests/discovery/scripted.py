"""A source whose answers and failures a test writes down, for tests of what is made of several."""

from __future__ import annotations

import asyncio

from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot


def listed(*addresses, authoritative=False):
    return Snapshot(
        tuple(a if isinstance(a, Endpoint) else Endpoint(a) for a in addresses), authoritative=authoritative
    )


class Scripted:
    """Says what it is told to; `say` a snapshot, or an error that ends the watch. Silent at first."""

    def __init__(self, *said):
        self.said = said[-1] if said else None
        self.watches = 0
        self.open = 0
        self.refreshed = []
        self._changed = set()

    def say(self, what):
        self.said = what
        for event in self._changed:
            event.set()

    def refresh(self, service):
        self.refreshed.append(service)

    async def watch(self, service):
        changed = asyncio.Event()
        self._changed.add(changed)
        self.watches += 1
        self.open += 1
        try:
            while True:
                changed.clear()
                if isinstance(self.said, str):
                    raise DiscoveryError(self.said)
                if self.said is not None:
                    yield self.said
                await changed.wait()
        finally:
            self._changed.discard(changed)
            self.open -= 1


async def addresses(watch):
    """Return the addresses of the next snapshot."""
    return [endpoint.address for endpoint in (await anext(watch)).endpoints]
