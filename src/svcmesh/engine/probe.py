"""Ask a host that refuses connections whether it is back, so that no call has to be the one that finds out.

Addresses and unix sockets are dialled, names resolved before that each time, since a host may come back elsewhere; all
of it on the worker's loop (`resolve`). What cannot be asked so is tried again when its ejection's or breaker's time is
over: a name that name servers do not know, and an IPv6 address with a scope, which is looked up like a name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from svcmesh.balance.picker import Rng
from svcmesh.core.address import parse_address
from svcmesh.core.clock import Clock, sleep_until
from svcmesh.core.endpoint import Endpoint
from svcmesh.engine.resolve import addresses_of

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
    """Return whether a connection to ``endpoint`` can be made within ``timeout`` seconds; it is closed at once.

    Of several addresses that a name has, one that answers is enough.
    """
    address = parse_address(endpoint.address)
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            if address.path is not None:
                return await _connects(asyncio.open_unix_connection(address.path))
            for host in await addresses_of(address):
                if await _connects(asyncio.open_connection(host, address.port)):
                    return True
    return False


async def _connects(opening: Awaitable[tuple[object, asyncio.StreamWriter]]) -> bool:
    try:
        _, writer = await opening
    except OSError:
        return False
    writer.transport.abort()  # nothing was sent; a reset tells the server so without a lingering state
    return True
