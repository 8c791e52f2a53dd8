"""Being registered with Consul: one agent holds the registration, and loses it when it is replaced.

An agent says that it knows nothing of a check by 404 (an old one by 500). That is how a process hears that the agent
was restarted without its data, and why a heartbeat may have to register again. Whoever is draining then comes back as
critical, and under maintenance, so that no caller is sent to it for a moment.

Whoever registers has less patience than a connection: a third of a TTL. So an agent that he gave up on while it was
asked (one that is frozen says nothing, and hangs up on nobody) is asked after the others until it answers again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from svcmesh.discovery.base import Announcement
from svcmesh.discovery.consul.address import Agent
from svcmesh.discovery.consul.client import Client, Params, all_of, segment
from svcmesh.discovery.consul.definition import checks_of, definition
from svcmesh.discovery.consul.errors import PASSING_BY, ConsulError, Denied, Unknown, Unreachable

REASON = "draining: asked to leave by svcmesh"
_OF_DOUBTED = 0.8  # seconds for one that held a registration once and does not answer: it forgets it by itself
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
        self._given_up: dict[Agent, int] = {}  # how often in a row, while they were asked

    async def register(self, announcement: Announcement) -> None:
        """Announce, or announce again exactly as it stands: checks of an earlier life go, maintenance included.

        Raises:
            DiscoveryError: no agent takes it.
        """
        held = self._of(announcement)
        held.draining = False
        async with self._client.open():
            await self._register(announcement, held)

    async def heartbeat(self, announcement: Announcement) -> bool:
        """Say that the process is alive, or look whether the agent still checks it; register again where it is lost.

        Returns:
            Whether the agent had lost it.

        Raises:
            DiscoveryError: no agent takes it.
        """
        held, lost = self._of(announcement), False
        async with self._client.open():
            if held.agents and (not self._doubted(held.agents[-1]) or len(self._client.agents) == 1):
                try:
                    with self._doubting(held.agents[-1], 2):
                        await self._beat(announcement, held.agents[-1])
                except Unreachable:
                    if len(self._client.agents) == 1:
                        raise
                except (Unknown, Denied) as error:  # registering is idempotent, and says why it is refused if it is
                    lost = isinstance(error, Unknown)
                else:
                    return False
            await self._register(announcement, held)
        return lost

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
            await self._tell(holders, path)  # whom it is unknown to, it is gone from
        self._held.pop(_key(announcement), None)

    async def _register(self, announcement: Announcement, held: _Held) -> None:
        called = replace(announcement, service=self._named(announcement.service))
        body = definition(called, draining=held.draining)
        agents = dict.fromkeys((*held.agents[-1:], *self._client.agents))
        agent = await self._taken(sorted(agents, key=self._doubted), body)
        if agent in held.agents:
            held.agents.remove(agent)
        held.agents.append(agent)
        if held.draining:
            await self._maintain(announcement, held)

    async def _taken(self, agents: Sequence[Agent], body: bytes) -> Agent:
        """Return the first agent that takes a registration."""
        failed: list[ConsulError] = []
        params = [("replace-existing-checks", "true")]
        for agent in agents:
            try:
                with self._doubting(agent):
                    await self._client.put("/v1/agent/service/register", params, body, agents=(agent,))
            except PASSING_BY as error:
                failed.append(error)
            else:
                return agent
        raise all_of(failed)

    @contextmanager
    def _doubting(self, agent: Agent, times: int = 1) -> Generator[None, None, None]:
        """Count who is given up on, until it does what it is asked."""
        try:
            yield
        except asyncio.CancelledError:
            self._given_up[agent] = self._given_up.get(agent, 0) + times
            raise
        self._given_up.pop(agent, None)

    def _doubted(self, agent: Agent) -> bool:
        """Whether others are to be asked before it: for one missed heartbeat, and for two other questions.

        The first question of a process is late by itself: what it is asked with has to be loaded.
        """
        return self._given_up.get(agent, 0) > 1

    async def _beat(self, announcement: Announcement, agent: Agent) -> None:
        beaten = [check["CheckID"] for check in checks_of(announcement) if check.get("TTL")]
        for check_id in beaten:
            await self._client.put(f"/v1/agent/check/update/{segment(check_id)}", (), _BEAT, agents=(agent,))
        if not beaten:  # Consul checks it by itself, as long as it has not forgotten it
            await self._client.get(f"/v1/agent/service/{segment(announcement.id)}", agents=(agent,))

    async def _maintain(self, announcement: Announcement, held: _Held) -> None:
        path = f"/v1/agent/service/maintenance/{segment(announcement.id)}"
        # Nobody is sent to what an agent has lost; the next heartbeat brings it back under maintenance.
        await self._tell(held.agents, path, [("enable", "true"), ("reason", REASON)])

    async def _tell(self, holders: Sequence[Agent], path: str, params: Params = ()) -> None:
        """Tell all agents that may know a registration; only the last one, which holds it now, has to hear it."""
        told = [self._told(agent, path, params, None) for agent in holders[-1:]]
        told += [self._told(agent, path, params, _OF_DOUBTED) for agent in holders[:-1]]
        for error in (await asyncio.gather(*told, return_exceptions=True))[:1]:
            if isinstance(error, BaseException) and not isinstance(error, Unknown):
                raise error

    async def _told(self, agent: Agent, path: str, params: Params, seconds: float | None) -> None:
        """Tell one agent, within so many seconds if it is doubted."""
        async with asyncio.timeout(seconds if self._doubted(agent) else None):
            with self._doubting(agent):
                await self._client.put(path, params, agents=(agent,))

    def _of(self, announcement: Announcement) -> _Held:
        return self._held.setdefault(_key(announcement), _Held())


def _key(announcement: Announcement) -> tuple[str, str]:
    return announcement.service, announcement.id
