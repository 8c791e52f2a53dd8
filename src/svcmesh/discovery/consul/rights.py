"""An empty list, and whether it means that there is nobody, or that we may not see who is there.

Consul removes from a list what a token may not read. That it did so it says in a header, but not to everybody:

- A question that is held is mostly answered from what the agent is sent (the streaming backend), which does not know.
  So an empty answer of that kind is asked for once more, of the servers.
- Who sends no token is never told, and an agent before 1.11 tells nobody. So it is asked what the token may do.
- What a prepared query finds may depend on a token of its own, and an agent before 1.8 does not answer that. But the
  servers are a service themselves, ``consul``, so whoever sees no service at all, and is not told that either, has no
  right to. (Whoever is told has the default token of the agent.) Before 1.8 that holds for who sends no token: one
  that is sent may be meant for a single service, which is empty.

None of it can be said of a namespace, a partition or a peer, which may well be empty.

Source: Consul's `maskResultsFilteredByACLs`, `health.Client.ServiceNodes`, `HealthView.Result` and `ACLAuthorize`.
"""

from __future__ import annotations

import json

from svcmesh.discovery.consul.client import Answer, Client
from svcmesh.discovery.consul.entries import decode_allowed, decode_nodes, decode_services
from svcmesh.discovery.consul.errors import Denied, Unknown
from svcmesh.discovery.consul.question import Question
from svcmesh.discovery.pace import SLOWLY

_SOME_MAY_BE_EMPTY = frozenset({"ns", "partition", "peer", "sg"})


def is_streamed(answer: Answer) -> bool:
    """Whether the agent answered by what it is sent of changes, which does not know of rights."""
    return answer.headers.get("x-consul-query-backend") == "streaming"


async def check_seen(client: Client, question: Question, answer: Answer, name: str) -> None:
    """Refuse an empty answer about ``name`` that rights have made empty.

    Raises:
        Denied: they have. ConsulError: Consul cannot be asked about it.
    """
    if _filtered(answer) or (unsure(client, question, answer) and await _may_not(client, question, name)):
        raise Denied(
            f"Consul shows no instance of {name!r}, because the token may not read them: it needs service:read and "
            f"node:read (asked {answer.agent.shown})",
            retry_after=SLOWLY,
        )


def _filtered(answer: Answer) -> bool:
    return answer.headers.get("x-consul-results-filtered-by-acls", "").lower() == "true"


def unsure(client: Client, question: Question, answer: Answer) -> bool:
    """Whether rights may have removed something without a word, and it can be found out."""
    if answer.headers.get("x-consul-default-acl-policy") == "allow":
        return False
    access = client.access
    return not (access.namespace or access.partition or any(key in _SOME_MAY_BE_EMPTY for key, _ in question.params))


async def _may_not(client: Client, question: Question, name: str) -> bool:
    if question.is_query:
        return await _sees_nothing(client, question)
    asked = [{"Resource": "service", "Access": "read", "Segment": name}, {"Resource": "node", "Access": "read"}]
    may = await allowed(client, question, asked)
    if may is None:
        return not client.access.credentials.sends_token and await _sees_nothing(client, question)
    service, any_node = may
    return not service or not (any_node or await _sees_nodes(client, question))


async def allowed(client: Client, question: Question, asked: list[dict[str, str]]) -> tuple[bool, ...] | None:
    """Return what of ``asked`` the token may do; None where the agent is too old to say so.

    Raises:
        ConsulError: Consul cannot be asked about it.
    """
    where = [pair for pair in question.params if pair[0] == "dc"]
    try:
        found = await client.post("/v1/internal/acl/authorize", where, json.dumps(asked).encode())
    except Unknown:
        return None
    except Denied as error:
        if error.status != 401:
            raise
        return (True,) * len(asked)  # ACLs are off
    return decode_allowed(found.body, len(asked))


async def _sees_nothing(client: Client, question: Question) -> bool:
    found = await client.get("/v1/catalog/services", question.about_all)
    return not decode_services(found.body) and not _filtered(found)


async def _sees_nodes(client: Client, question: Question) -> bool:
    """Whether the token may read a node at least, as the servers are."""
    return bool(decode_nodes((await client.get("/v1/catalog/nodes", question.about_all)).body))
