"""The addresses of a host: one question for each IP version, and what is made of half an answer.

Some name servers fail on AAAA for names that have none, and any answer may be lost. What fails does not count as gone:
its last addresses stay, and only when nothing succeeds is it a failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from cachetools import LRUCache

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.dns.records import TYPES, Reply
from svcmesh.discovery.reach import reachable

REMEMBERED = 4096
"""Names and IP versions whose last addresses are remembered."""

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
    """

    def __init__(
        self,
        client: Asker,
        families: Sequence[int],
        known: Known,
        listed: Callable[[str], Sequence[str]],
        retry: float,
    ) -> None:
        self._client = client
        self._families = families
        self._known = known
        self._listed = listed
        self._retry = retry

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
        replies = dict(zip(asked, await asyncio.gather(*(self._try(name, v) for v in asked)), strict=True))
        failed = [reply for reply in replies.values() if isinstance(reply, DiscoveryError)]
        found = [address for version in wanted for address in self._taken(name, version, given, replies)]
        if failed and (len(failed) == len(wanted) or not found):
            raise failed[0]  # that there are no others says nothing of those that could not be asked for
        return Addresses(reachable(found), self._retry if failed else _shortest(replies.values()))

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


def _shortest(replies: Iterable[Reply | DiscoveryError]) -> float:
    """Return the shortest TTL of those that have addresses: that a host lacks an IP version is nothing to wait for."""
    good = [reply for reply in replies if isinstance(reply, Reply)]
    return min([r.ttl for r in good if r.addresses] or [r.ttl for r in good], default=float("inf"))
