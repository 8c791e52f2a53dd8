"""What an awaiting transport keeps for each event loop, since a connection belongs to the loop that made it.

Loops come and go, in any thread, and most go without a word: `asyncio.run` ends, and the client is there for the next
one. What they leave is closed when another one comes.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, _get_running_loop
from threading import Lock

from svcmesh.transport.http.connection.awaiting import AsyncConnections
from svcmesh.transport.http.message import OriginKey
from svcmesh.transport.http.passed_on import AsyncPassedOn


class Home:
    """What is kept for one loop.

    Attributes:
        connections: to services, by origin. passed_on: to hosts that are none; None before the first of them.
    """

    __slots__ = ("connections", "passed_on")

    def __init__(self) -> None:
        self.connections: dict[OriginKey, AsyncConnections] = {}
        self.passed_on: AsyncPassedOn | None = None

    def close(self) -> None:
        """Close the connections to services; those in use when their answer has been read. Threads: any."""
        for each in self.connections.values():
            each.close()


class Loops:
    """The homes of one transport.

    Threads: any. Cost: a known loop is found without a lock; a new one costs a look at all others.
    """

    def __init__(self) -> None:
        self._homes: dict[AbstractEventLoop, Home] = {}
        self._lock = Lock()  # for changes; the dict that others look at is never changed itself

    def home(self, loop: AbstractEventLoop) -> Home:
        """Return what is kept for ``loop``; what loops have left that ended meanwhile is closed where it is new."""
        found = self._homes.get(loop)
        return self._moved_in(loop) if found is None else found

    def values(self) -> list[Home]:
        """Return what is kept for all loops."""
        return list(self._homes.values())

    async def aclose(self) -> None:
        """Close everything, and have other loops close what only they can; their homes are made anew if need be."""
        with self._lock:
            homes, self._homes = self._homes, {}
        for home in homes.values():
            home.close()
        here = _get_running_loop()  # None under trio, where there is nothing of ours
        for loop, home in homes.items():
            if home.passed_on is None:
                continue
            if loop is here:
                await home.passed_on.aclose()
            else:
                home.passed_on.close_from_elsewhere(loop)

    def forget(self) -> None:
        """In a forked child: what there is belongs to the parent, and so may whoever holds the lock."""
        self._homes, self._lock = {}, Lock()

    def _moved_in(self, loop: AbstractEventLoop) -> Home:
        with self._lock:
            ended = [home for each, home in self._homes.items() if each.is_closed()]
            homes = {each: home for each, home in self._homes.items() if not each.is_closed()}
            found = homes.setdefault(loop, Home())
            self._homes = homes
        for home in ended:
            home.close()
        return found
