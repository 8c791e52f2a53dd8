"""Whether an agent takes the connections that watches hold: once it takes no more, all of them give theirs up.

How many an agent takes from one address is a limit of its own, and all processes there share in it: eight workers of
thirty services each are more than it takes by default. Whoever comes last would be refused for as long as the others
live. So where one watch is refused all of its process go on by few connections together, which tell them the same. An
old agent has those that were given up until the questions on them run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary


class Displaced(Exception):
    """What was held by a connection of its own is to be learnt together with others from now on."""


class Room:
    """Room for questions that are held. Threads: any number of loops.

    Attributes:
        is_full: whether an agent has refused a connection: nobody holds one of his own any more.
    """

    def __init__(self) -> None:
        self.is_full = False
        self._stays: WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Timeout]] = WeakKeyDictionary()

    @asynccontextmanager
    async def hold(self) -> AsyncGenerator[None, None]:
        """Have a question held inside the block.

        Raises:
            Displaced: there is no room for it, or none any more.
        """
        if self.is_full:
            raise Displaced
        stays = self._stays.setdefault(asyncio.get_running_loop(), set())
        try:
            async with asyncio.timeout(None) as stay:
                stays.add(stay)
                try:
                    yield
                finally:
                    stays.discard(stay)
        except TimeoutError:
            raise Displaced from None

    def fill(self, *, sure: bool) -> bool:
        """Take note that an agent takes no more connections, and end what is held; return whether that is believed.

        Args:
            sure: it has said so. Else it has hung up, as old agents do, and as one does that is starting or ending: of
                these nothing is held.
        """
        loop = asyncio.get_running_loop()
        stays = self._stays.pop(loop, set())
        self.is_full = self.is_full or sure or bool(stays)
        for stay in stays:
            stay.reschedule(loop.time())
        return self.is_full
