"""A stand-in for name servers: what a test writes down, by name and type."""

from __future__ import annotations

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.dns.records import SRV, Reply, Service


class Script:
    """Answers from ``replies``: a `Reply`, an error, or nothing, which is a no. ``asked`` has every question."""

    def __init__(self, replies=()):
        self.replies = dict(replies)
        self.asked = []

    async def ask(self, name, kind):
        self.asked.append((name, kind))
        reply = self.replies.get((name, kind), Reply(30.0))
        if isinstance(reply, DiscoveryError):
            raise reply
        return reply


def host(*addresses, ttl=60.0):
    """Return the answer that a host has these addresses."""
    return Reply(ttl, addresses)


def services(*rows, ttl=60.0, extra=()):
    """Return the answer that there are these services: priority, weight, port, target."""
    return Reply(ttl, services=tuple(Service(*row) for row in rows), extra=dict(extra))


DOWN = DiscoveryError("nobody answers")

__all__ = ["DOWN", "SRV", "Script", "host", "services"]
