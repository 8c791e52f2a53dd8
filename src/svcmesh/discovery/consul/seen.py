"""Instances that are not listed any more, and whether they have gone or are only hidden.

A token that loses the right to read some nodes sees fewer instances, and nothing else tells it so: what an agent is
sent of changes (the streaming backend) says nothing of rights, and the header for it only that something is hidden,
which for a token with few rights was so from the beginning. So where some are missing, however many are listed by now,
Consul is asked whether the token may read their nodes. Whoever is hidden still serves, and stays in force.

Nobody is asked where ACLs let everybody read, and of prepared queries, which choose among instances.
"""

from __future__ import annotations

from collections.abc import Iterable

from cachetools import LRUCache

from svcmesh.core.endpoint import Endpoint
from svcmesh.discovery.consul.client import Answer, Client
from svcmesh.discovery.consul.entries import Entries
from svcmesh.discovery.consul.errors import Denied
from svcmesh.discovery.consul.question import Question
from svcmesh.discovery.consul.rights import allowed, check_seen, unsure
from svcmesh.discovery.pace import SLOWLY

REMEMBERED = 1024
"""Services whose last list is remembered, from one watch to the next."""

_ASKED = 16  # missing nodes: rights follow names, and those of one loss have much in common


class Seen:
    """What was listed last of each service. Threads: the loop of the watches."""

    def __init__(self) -> None:
        self._last: LRUCache[str, tuple[Endpoint, ...]] = LRUCache(REMEMBERED)

    async def check(self, client: Client, question: Question, answer: Answer, name: str, entries: Entries) -> None:
        """Refuse an answer about ``name`` that rights have made empty, or robbed of some that were listed.

        Raises:
            Denied: they have. ConsulError: Consul cannot be asked about it.
        """
        if not entries.listed:
            await check_seen(client, question, answer, name)
        elif name in self._last and not question.is_query and unsure(client, question, answer):
            await self._check_missing(client, question, answer, name, entries.endpoints)
        self._last[name] = entries.endpoints

    async def _check_missing(
        self, client: Client, question: Question, answer: Answer, name: str, listed: tuple[Endpoint, ...]
    ) -> None:
        here = {endpoint.address for endpoint in listed}
        missing = _nodes(endpoint for endpoint in self._last[name] if endpoint.address not in here)[:_ASKED]
        known = _nodes(listed)[:1]  # what metadata calls a node may be somebody's own word: then this is none, either
        if not missing or not known:
            return
        asked = [{"Resource": "node", "Access": "read", "Segment": node} for node in (*known, *missing)]
        may = await allowed(client, question, asked)
        if may is not None and may[0] and not all(may):
            raise Denied(
                f"Consul hides instances of {name!r} that it has shown, because the token may not read their nodes any "
                f"more, such as {missing[may[1:].index(False)]!r}: it needs node:read (asked {answer.agent.shown})",
                retry_after=SLOWLY,
            )


def _nodes(endpoints: Iterable[Endpoint]) -> list[str]:
    """Return the nodes of these, each once."""
    found = (endpoint.metadata.get("node") for endpoint in endpoints)
    return list(dict.fromkeys(node for node in found if isinstance(node, str)))
