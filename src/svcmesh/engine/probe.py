"""Ask a host that refuses connections whether it is back, so that no call has to be the one that finds out.

Only IP addresses and unix sockets are asked. Resolving a name blocks, so asyncio does it on threads of a pool, and a
mesh has one thread. An endpoint given by name is therefore tried again when its ejection's or breaker's time is over.
"""

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
    """Connect to ``endpoint`` at a growing, jittered interval; return whether it answered while still ``wanted``.

    A host name is not asked: False at once.
    """
    if not _needs_no_resolver(endpoint):
        return False
    wait = FIRST_WAIT
    while wanted():
        await sleep_until(clock, clock.now() + wait * (0.8 + 0.4 * rng.random()))
        if wanted() and await answers(endpoint):
            return True
        wait = min(LONGEST_WAIT, wait * GROWTH)
    return False


async def answers(endpoint: Endpoint, timeout: float = CONNECT_TIMEOUT) -> bool:
    """Return whether a connection to ``endpoint`` can be made within ``timeout`` seconds; it is closed at once.

    A host name is not asked: False.
    """
    if not _needs_no_resolver(endpoint):
        return False
    address = parse_address(endpoint.address)
    try:
        async with asyncio.timeout(timeout):
            if address.path is not None:
                _, writer = await asyncio.open_unix_connection(address.path)
            else:
                _, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()  # nothing was sent; a reset tells the server so without a lingering state
    return True


def _needs_no_resolver(endpoint: Endpoint) -> bool:
    """Whether asyncio can dial it without a thread; the scope of an IPv6 address is looked up like a name."""
    address = parse_address(endpoint.address)
    return address.path is not None or (address.is_ip and "%" not in address.host)
