"""Being registered with Consul: one agent holds the registration, and loses it when it is replaced.

An agent says that it knows nothing of a check by 404 (an old one by 500). That is how a process hears that the agent
was restarted without its data, and why a heartbeat may have to register again. Whoever is draining then comes back as
critical, and under maintenance, so that no caller is sent to it for a moment.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.consul.address import Agent
from svcmesh.discovery.consul.client import Client, segment
from svcmesh.discovery.consul.definition import checks_of, definition
from svcmesh.discovery.consul.errors import Denied, Unknown, Unreachable

REASON = "draining: asked to leave by svcmesh"
_BEAT = json.dumps({"Status": "passing", "Output": "heartbeat of svcmesh"}).encode()


@dataclass(slots=True)
class _Held:
    """Who holds one registration. ``agents``: all that were ever told of it, the one that holds it now last."""

    agents: list[Agent] = field(default_factory=list)
    draining: bool = False


class Registrations:
    """Registers, keeps alive, drains and takes back. Threads: the loop it is used on.

    Args:
        client: asks. named: what a service is called in Consul, where its name is part of a pattern.
    """

    def __init__(self, client: Client, named: Callable[[str], str] = str) -> None:
        self._client = client
        self._named = named
        self._held: dict[tuple[str, str], _Held] = {}

    async def register(self, announcement: Announcement) -> None:
        """Announce, or announce again exactly as it stands: checks of an earlier life go, maintenance included.

        Raises:
            DiscoveryError: no agent takes it.
        """
        held = self._of(announcement)
        held.draining = False
        async with self._client.open():
            await self._register(announcement, held)

    async def heartbeat(self, announcement: Announcement) -> None:
        """Say that the process is alive, or look whether the agent still checks it; register again where it is lost.

        Raises:
            DiscoveryError: no agent takes it.
        """
        held = self._of(announcement)
        async with self._client.open():
            if held.agents:
                try:
                    await self._beat(announcement, held.agents[-1])
                except Unreachable:
                    if len(self._client.agents) == 1:
                        raise
                except (Unknown, Denied):
                    pass  # registering is idempotent, and says why it is refused if it is
                else:
                    return
            await self._register(announcement, held)

    async def drain(self, announcement: Announcement) -> None:
        """Put the service under maintenance, which takes it out of the answers, and keep it registered.

        Raises:
            DiscoveryError: the agent cannot be told.
        """
        held = self._of(announcement)
        held.draining = True
        async with self._client.open():
            await self._maintain(announcement, held)

    async def deregister(self, announcement: Announcement) -> None:
        """Take it back from every agent that was told of it.

        Raises:
            DiscoveryError: the agent that holds it cannot be told; others forget it by themselves.
        """
        held = self._held.get(_key(announcement)) or _Held()
        holders = held.agents or [self._client.agents[0]]
        path = f"/v1/agent/service/deregister/{segment(announcement.id)}"
        async with self._client.open():
            for agent in holders:
                try:
                    await self._client.put(path, agents=(agent,))
                except Unknown:
                    pass  # it is gone already
                except DiscoveryError:
                    if agent is holders[-1]:
                        raise
        self._held.pop(_key(announcement), None)

    async def _register(self, announcement: Announcement, held: _Held) -> None:
        called = replace(announcement, service=self._named(announcement.service))
        body = definition(called, draining=held.draining)
        agents = tuple(dict.fromkeys((*held.agents[-1:], *self._client.agents)))
        params = [("replace-existing-checks", "true")]
        answer = await self._client.put("/v1/agent/service/register", params, body, agents=agents)
        if answer.agent in held.agents:
            held.agents.remove(answer.agent)
        held.agents.append(answer.agent)
        if held.draining:
            await self._maintain(announcement, held)

    async def _beat(self, announcement: Announcement, agent: Agent) -> None:
        beaten = [check["CheckID"] for check in checks_of(announcement) if check.get("TTL")]
        for check_id in beaten:
            await self._client.put(f"/v1/agent/check/update/{segment(check_id)}", (), _BEAT, agents=(agent,))
        if not beaten:  # Consul checks it by itself, as long as it has not forgotten it
            await self._client.get(f"/v1/agent/service/{segment(announcement.id)}", agents=(agent,))

    async def _maintain(self, announcement: Announcement, held: _Held) -> None:
        path = f"/v1/agent/service/maintenance/{segment(announcement.id)}"
        params = [("enable", "true"), ("reason", REASON)]
        for agent in held.agents:
            try:
                await self._client.put(path, params, agents=(agent,))
            except Unknown:
                pass  # nobody is sent to what the agent has lost; the next heartbeat brings it back under maintenance
            except DiscoveryError:
                if agent is held.agents[-1]:
                    raise

    def _of(self, announcement: Announcement) -> _Held:
        return self._held.setdefault(_key(announcement), _Held())


def _key(announcement: Announcement) -> tuple[str, str]:
    return announcement.service, announcement.id
