"""The addresses of a host: one question for each IP version, and what is made of half an answer.

Some name servers fail on AAAA for names that have none, or do not answer at all (RFC 4074), and any answer may be lost.
What fails does not count as gone: its last addresses stay, and only when nothing succeeds is it a failure. Nor is it
waited for as long as others would be, once there is an address to go to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from cachetools import LRUCache

from svcmesh.core.clock import SYSTEM, Clock, wait_for
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.dns.records import TYPES, Reply
from svcmesh.discovery.reach import has_route, reachable

REMEMBERED = 4096
"""Names and IP versions whose last addresses are remembered."""

LATE = 1.0
"""Seconds for which an IP version is waited for once another one has an address to go to."""

Known = LRUCache[tuple[str, int], tuple[str, ...]]
"""The last addresses of names, by name and IP version."""

_NONE: Mapping[int, tuple[str, ...]] = {}


class Asker(Protocol):
    """What asks name servers."""

    async def ask(self, name: str, kind: int) -> Reply:
        """Return what they say of the records of type ``kind`` of ``name``; raise `DiscoveryError` if they do not."""


class Addresses(NamedTuple):
    """What a host has, and for how many seconds that holds."""

    found: tuple[str, ...]
    ttl: float


class Hosts:
    """Looks hosts up.

    Args:
        client: asks. families: IP versions that are wanted. known: what was found earlier; kept up to date.
        listed: addresses that need no asking, by name. retry: seconds after which what failed in part is asked again.
        clock: what is late is late by this one.
    """

    def __init__(
        self,
        client: Asker,
        families: Sequence[int],
        known: Known,
        listed: Callable[[str], Sequence[str]],
        retry: float,
        clock: Clock = SYSTEM,
    ) -> None:
        self._client = client
        self._families = families
        self._known = known
        self._listed = listed
        self._retry = retry
        self._clock = clock

    async def of(
        self, name: str, given: Mapping[int, tuple[str, ...]] = _NONE, versions: Sequence[int] | None = None
    ) -> Addresses:
        """Return the addresses of ``name``.

        Args:
            name: of the host. given: addresses that are known already, by IP version.
            versions: those of the wanted ones that matter; None, or none of them: all.

        Raises:
            DiscoveryError: nobody answers, or not what can be understood.
        """
        listed = dict.fromkeys(a for a in self._listed(name) if (6 if ":" in a else 4) in self._families)
        if listed:
            return Addresses(reachable(tuple(listed)), self._retry)
        wanted = [version for version in self._families if versions is None or version in versions] or self._families
        asked = [version for version in wanted if version not in given]
        replies = await self._replies(name, asked)
        failed = [reply for reply in replies.values() if isinstance(reply, DiscoveryError)]
        found = [address for version in wanted for address in self._taken(name, version, given, replies)]
        if failed and (len(failed) == len(wanted) or not found):
            raise failed[0]  # that there are no others says nothing of those that could not be asked for
        return Addresses(reachable(found), self._retry if failed else _shortest(replies.values()))

    async def _replies(self, name: str, versions: Sequence[int]) -> dict[int, Reply | DiscoveryError]:
        """Ask for all ``versions`` at the same time; who comes too late has failed."""
        asking = {version: asyncio.ensure_future(self._try(name, version)) for version in versions}
        late = DiscoveryError(f"DNS: {name!r} has an address, and {LATE:g} s later still no answer for the others")
        try:
            await self._until_enough(asking.values())
            return {version: one.result() if one.done() else late for version, one in asking.items()}
        finally:
            for one in asking.values():
                one.cancel()
            await asyncio.gather(*asking.values(), return_exceptions=True)

    async def _until_enough(self, asking: Iterable[asyncio.Future[Reply | DiscoveryError]]) -> None:
        waiting = set(asking)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if waiting and any(_leads_somewhere(one.result()) for one in done):
                others = asyncio.gather(*waiting, return_exceptions=True)
                await wait_for(self._clock, others, self._clock.now() + LATE)
                return

    def _taken(
        self,
        name: str,
        version: int,
        given: Mapping[int, tuple[str, ...]],
        replies: Mapping[int, Reply | DiscoveryError],
    ) -> tuple[str, ...]:
        reply = replies.get(version)
        if isinstance(reply, DiscoveryError):
            return self._known.get((name, version), ())
        found = given[version] if reply is None else reply.addresses
        self._known[name, version] = found
        return found

    async def _try(self, name: str, version: int) -> Reply | DiscoveryError:
        try:
            return await self._client.ask(name, TYPES[version])
        except DiscoveryError as error:
            return error


def _leads_somewhere(reply: Reply | DiscoveryError) -> bool:
    """Whether a reply has an address that this machine has a way to."""
    return isinstance(reply, Reply) and any(map(has_route, reply.addresses[:1]))


def _shortest(replies: Iterable[Reply | DiscoveryError]) -> float:
    """Return the shortest TTL of those that have addresses: that a host lacks an IP version is nothing to wait for."""
    good = [reply for reply in replies if isinstance(reply, Reply)]
    return min([r.ttl for r in good if r.addresses] or [r.ttl for r in good], default=float("inf"))
