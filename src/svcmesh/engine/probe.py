"""Ask a host that refuses connections whether it is back, so that no call has to be the one that finds out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from svcmesh.balance.picker import Rng
from svcmesh.core.address import parse_address
from svcmesh.core.clock import Clock, sleep_until
from svcmesh.core.endpoint import Endpoint

FIRST_WAIT = 0.1
LONGEST_WAIT = 1.0
GROWTH = 1.6
CONNECT_TIMEOUT = 1.0
"""Seconds; traffic is then back well within 2 s of a server's return."""


async def probe(endpoint: Endpoint, clock: Clock, rng: Rng, wanted: Callable[[], bool]) -> bool:
    """Connect to ``endpoint`` at a growing, jittered interval; return whether it answered while still ``wanted``."""
    wait = FIRST_WAIT
    while wanted():
        await sleep_until(clock, clock.now() + wait * (0.8 + 0.4 * rng.random()))
        if wanted() and await answers(endpoint):
            return True
        wait = min(LONGEST_WAIT, wait * GROWTH)
    return False


async def answers(endpoint: Endpoint, timeout: float = CONNECT_TIMEOUT) -> bool:
    """Return whether a connection to ``endpoint`` can be made within ``timeout`` seconds; it is closed at once."""
    address = parse_address(endpoint.address)
    try:
        async with asyncio.timeout(timeout):
            if address.path is not None:
                _, writer = await asyncio.open_unix_connection(address.path)
            else:
                _, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError, UnicodeError):  # the last one: a name that no resolver can be asked for
        return False
    writer.transport.abort()  # nothing was sent; a reset tells the server so without a lingering state
    return True
