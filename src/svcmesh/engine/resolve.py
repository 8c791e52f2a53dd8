"""Resolving a host name on the worker's loop, without a thread.

asyncio resolves by ``getaddrinfo``, which blocks and so runs on a pool of threads; a mesh has one thread. What is
needed here is only to ask whether a host that refused connections is back. So this reads the hosts file, and asks the
system's name servers by dnspython, which uses sockets of the loop. A name that only another part of the system's
resolver knows (mDNS, LDAP) is not found, and its endpoint waits until its ejection is over.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from svcmesh.core.address import Address
from svcmesh.discovery.dns.hosts import listed


async def resolve(host: str) -> list[str]:
    """Return the IP addresses that ``host`` stands for, none when nobody knows it. Bound it by a timeout."""
    return listed(host) or await _asked_for(host)


async def addresses_of(address: Address) -> list[str]:
    """Return the IP addresses to dial for ``address``; asyncio would look up any other text on a thread.

    None for an IPv6 address with a scope, which is looked up like a name.
    """
    if address.is_ip:
        return [] if "%" in address.host else [address.host]
    return await resolve(address.host)


async def _asked_for(host: str) -> list[str]:
    """Ask name servers. dnspython is imported at the first name that is neither listed nor local: it takes a while."""
    import dns.exception

    with suppress(dns.exception.DNSException, OSError):
        return list((await _resolver().resolve_name(host, search=True)).addresses())
    return []


def _resolver() -> Any:
    import dns.asyncresolver

    return dns.asyncresolver.Resolver()
