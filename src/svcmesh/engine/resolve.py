"""Resolving a host name on the worker's loop, without a thread.

asyncio resolves by ``getaddrinfo``, which blocks and so runs on a pool of threads; a mesh has one thread. What is
needed here is only to ask whether a host that refused connections is back. So this reads the hosts file, and asks the
system's name servers by dnspython, which uses sockets of the loop. A name that only another part of the system's
resolver knows (mDNS, LDAP) is not found, and its endpoint waits until its ejection is over.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from pathlib import Path
from typing import Any

HOSTS = Path("/etc/hosts")
_LOOPBACK = ("127.0.0.1", "::1")


async def resolve(host: str) -> list[str]:
    """Return the IP addresses that ``host`` stands for, none when nobody knows it. Bound it by a timeout."""
    name = host.rstrip(".").lower()
    listed = _in_hosts_file(name)
    if listed:
        return listed
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, where a hosts file leaves it out
        return [*_LOOPBACK]
    return await _asked_for(host)


def _in_hosts_file(name: str) -> list[str]:
    found: list[str] = []
    with suppress(OSError, UnicodeDecodeError):
        for line in HOSTS.read_text(encoding="utf-8").splitlines():
            address, *names = line.partition("#")[0].split() or ("",)
            if name in (listed.lower() for listed in names) and _is_address(address):
                found.append(address)
    return found


def _is_address(text: str) -> bool:
    with suppress(ValueError):
        return "%" not in text and bool(ipaddress.ip_address(text))
    return False


async def _asked_for(host: str) -> list[str]:
    """Ask name servers. dnspython is imported at the first name that is neither listed nor local: it takes a while."""
    import dns.exception

    with suppress(dns.exception.DNSException, OSError):
        return list((await _resolver().resolve_name(host, search=True)).addresses())
    return []


def _resolver() -> Any:
    import dns.asyncresolver

    return dns.asyncresolver.Resolver()
