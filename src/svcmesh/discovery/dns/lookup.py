"""From a name to endpoints: the questions that one look takes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from svcmesh.core.address import join_address
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.dns.addresses import Addresses, Asker, Hosts
from svcmesh.discovery.dns.records import SRV, Reply
from svcmesh.discovery.dns.weights import Target, endpoints_of

AT_ONCE = 16
"""Targets of SRV records that are looked up at the same time."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one look found.

    Attributes:
        ttl: seconds for which it holds. absent: there decidedly is no such service.
        left_out: why records that were found are not used.
    """

    endpoints: tuple[Endpoint, ...]
    ttl: float
    absent: bool = False
    left_out: tuple[str, ...] = ()


async def look_up_host(hosts: Hosts, name: str, port: int) -> Found:
    """Return the endpoints of a host, one for each of its addresses.

    Raises:
        DiscoveryError: nobody answers, or not what can be understood.
    """
    addresses, ttl = await hosts.of(name)
    return Found(tuple(Endpoint(join_address(address, port)) for address in addresses), ttl)


async def look_up_services(client: Asker, hosts: Hosts, name: str) -> Found:
    """Return the endpoints that SRV records name.

    Raises:
        DiscoveryError: nobody answers, or not what can be understood; or no target could be looked up.
    """
    reply = await client.ask(name, SRV)
    asked = await _targets(hosts, reply)
    failed = {name: found for name, found in asked.items() if isinstance(found, DiscoveryError)}
    if failed and len(failed) == len(asked):
        raise next(iter(failed.values()))
    found = {name: addresses for name, addresses in asked.items() if not isinstance(addresses, DiscoveryError)}
    rows = [Target(s, found[s.target].found) for s in reply.services if s.target in found and s.port]
    left_out = (
        *(f"target {name!r}: {error}" for name, error in failed.items()),
        *(f"target {name!r} has no address" for name, addresses in found.items() if not addresses.found),
        *(f"target {s.target!r} has port 0" for s in reply.services if not s.port),
    )
    ttl = min(reply.ttl, *(addresses.ttl for addresses in found.values())) if found else reply.ttl
    return Found(endpoints_of(rows), ttl, reply.absent, left_out)


async def _targets(hosts: Hosts, reply: Reply) -> dict[str, Addresses | DiscoveryError]:
    """Return what is found of every target.

    What came along in the answer needs no asking. It may have been cut, though: where an IP version came for some
    targets, the others are asked for it.
    """
    came = sorted({version for _, version in reply.extra})
    gate = asyncio.Semaphore(AT_ONCE)
    given: dict[str, dict[int, tuple[str, ...]]] = {}
    for (target, version), found in reply.extra.items():
        given.setdefault(target, {})[version] = found

    async def one(name: str) -> Addresses | DiscoveryError:
        try:
            async with gate:
                return await hosts.of(name, given.get(name, {}), came if name in given else None)
        except DiscoveryError as error:
            return error

    names = sorted({service.target for service in reply.services})
    return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))
