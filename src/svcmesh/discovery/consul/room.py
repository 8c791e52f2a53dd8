"""What is held at agents: given up where an agent takes no more connections, and broken off where it says nothing more.

How many connections an agent takes from one address is a limit of its own, and all processes there share in it: eight
workers of thirty services each are more than it takes by default. Whoever comes last would be refused for as long as
the others live. So where one watch is refused all of its process go on by few connections together, which tell them
the same. An old agent has those that were given up until the questions on them run out.

A frozen agent keeps its connections, and a question that it holds looks like one of which nothing has changed. So of
all questions at an agent one is held for a short time only: if not even that is answered, none of them will be.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from svcmesh.discovery.consul.address import Agent
from svcmesh.discovery.consul.errors import Silent


class Displaced(Exception):
    """What was held by a connection of its own is to be learnt together with others from now on."""


class _Held:
    """What is held at one agent: each by what ends it, and whether it may be displaced."""

    def __init__(self) -> None:
        self.stays: dict[asyncio.Timeout, bool] = {}
        self.is_probed = False

    def end(self, *, all_of_them: bool) -> bool:
        """End what is held, or what of it may be displaced; return whether there was any."""
        ended = [stay for stay, displaceable in self.stays.items() if displaceable or all_of_them]
        for stay in ended:
            del self.stays[stay]
            stay.reschedule(asyncio.get_running_loop().time())
        return bool(ended)


class Room:
    """Room for questions that are held. Threads: any number of loops.

    Attributes:
        is_full: whether an agent has refused a connection: nobody holds one of his own any more.
    """

    def __init__(self) -> None:
        self.is_full = False
        self._held: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Agent, _Held]] = WeakKeyDictionary()

    @asynccontextmanager
    async def hold(self, agent: Agent, *, displaceable: bool) -> AsyncGenerator[bool, None]:
        """Have a question held at ``agent`` inside the block; it is given whether that is to be for a short time.

        Raises:
            Displaced: there is no room for it, or none any more. Silent: the agent does not answer others.
        """
        if displaceable and self.is_full:
            raise Displaced
        held = self._here.setdefault(agent, _Held())
        probes, held.is_probed = not held.is_probed, True
        try:
            async with asyncio.timeout(None) as stay:
                held.stays[stay] = displaceable
                try:
                    yield probes
                finally:
                    held.stays.pop(stay, None)
        except Silent:
            held.end(all_of_them=True)
            raise
        except TimeoutError:
            if displaceable and self.is_full:
                raise Displaced from None
            raise Silent(f"{agent.shown}: no answer, also not to what is asked beside") from None
        finally:
            if probes:
                held.is_probed = False

    def fill(self, *, sure: bool) -> bool:
        """Take note that an agent takes no more connections, and end what is held; return whether that is believed.

        Args:
            sure: it has said so. Else it has hung up, as old agents do, and as one does that is starting or ending: of
                these nothing is held.
        """
        ended = [held.end(all_of_them=False) for held in self._here.values()]
        self.is_full = self.is_full or sure or any(ended)
        return self.is_full

    @property
    def _here(self) -> dict[Agent, _Held]:
        return self._held.setdefault(asyncio.get_running_loop(), {})
