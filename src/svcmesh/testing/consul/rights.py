"""Who may do what: ACLs as clients meet them. Lists are filtered, everything else is a 403.

That a list was filtered a header says, but only to who sends a token: others could find out what there is.

Source: Consul's `maskResultsFilteredByACLs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from svcmesh.testing.consul.answers import HttpError, Reply, Request

FILTERED = "X-Consul-Results-Filtered-By-ACLs"
EVERYTHING = frozenset({"service:read", "service:write", "node:read", "node:write", "query:read", "agent:read"})


class Rights:
    """Tokens and their rights; without any, everybody may do everything.

    A right is ``service:read`` or, for one name, ``service:read:web``; writing includes reading.
    """

    def __init__(self) -> None:
        self.enabled = False
        self._tokens: dict[str, frozenset[str]] = {}

    def set(self, tokens: Mapping[str, Iterable[str]] | None) -> None:
        """Give each token its rights ("" is who sends none); None switches ACLs off."""
        self.enabled = tokens is not None
        self._tokens = {token: frozenset(rights) for token, rights in (tokens or {}).items()}

    def check(self, request: Request) -> None:
        """Refuse a token that is not known.

        Raises:
            HttpError: 403.
        """
        if self.enabled and request.token and request.token not in self._tokens:
            raise HttpError(403, "ACL not found")

    def may(self, request: Request, right: str, name: str = "") -> bool:
        """Whether the token has a right, on everything or on ``name``."""
        if not self.enabled:
            return True
        owned = self._tokens.get(request.token, frozenset())
        wanted = {right, right.replace(":read", ":write")}
        return any(one in owned or f"{one}:{name}" in owned for one in wanted)

    def need(self, request: Request, right: str, name: str = "") -> None:
        """Refuse a token without a right.

        Raises:
            HttpError: 403.
        """
        if not self.may(request, right, name):
            accessor = "00000000-0000-0000-0000-000000000002"
            raise HttpError(
                403, f"Permission denied: token with AccessorID '{accessor}' lacks permission '{right}' on \"{name}\""
            )

    def filtered(self, request: Request, reply: Reply, entries: list[Any], name: str) -> list[Any]:
        """Return the instances or checks that a token may see, and tell it if some were removed."""
        reads_service = self.may(request, "service:read", name)
        seen = [entry for entry in entries if reads_service and self.may(request, "node:read", _node(entry))]
        if len(seen) < len(entries):
            self.tell_filtered(request, reply)
        return seen

    def tell_filtered(self, request: Request, reply: Reply) -> None:
        """Say in a reply that something was removed from it, to who may know."""
        if request.token:
            reply.headers[FILTERED] = "true"

    @property
    def default_policy(self) -> str:
        """What holds where no right says anything."""
        return "deny" if self.enabled else "allow"


def _node(entry: Any) -> str:
    """Return the name of the node that an instance or a check is on."""
    node = entry["Node"]
    return str(node["Node"] if isinstance(node, dict) else node)
