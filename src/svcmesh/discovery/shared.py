"""What watches share: work, begun by the first and ended with the last, whose failure is all of theirs; and few seats.

A registry that is watched as a whole tells many watches of changes by few connections. The engine begins a watch that
broke anew, and jitters that; those that begin then share another such work.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Generator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from svcmesh.core.errors import DiscoveryError

Work = Callable[[], Coroutine[None, None, None]]


class Shared(ABC):
    """What the watches of one loop share. Made, entered and left on that loop.

    Attributes:
        error: what has broken it, or None.
    """

    def __init__(self, what: str) -> None:
        self.error: DiscoveryError | None = None
        self._what = what
        self._loop = asyncio.get_running_loop()
        self._stale: dict[str, list[asyncio.Event]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def usable(self) -> bool:
        """Whether a watch that begins now may share it: not after a failure, nor on another loop (of a fork)."""
        return self.error is None and self._loop is asyncio.get_running_loop()

    @property
    def watched(self) -> Collection[str]:
        """The names that somebody watches."""
        return self._stale.keys()

    def enter(self, name: str) -> asyncio.Event:
        """Return what is set when there may be news of ``name``, or everything is broken."""
        if not self._stale:
            self._tasks = [asyncio.ensure_future(self._guarded(one)) for one in self.work()]
        stale = asyncio.Event()
        self._stale.setdefault(name, []).append(stale)
        return stale

    async def leave(self, name: str, stale: asyncio.Event) -> None:
        """Take it back; the last one to leave ends the work."""
        events = self._stale[name]
        events.remove(stale)
        if not events:
            del self._stale[name]
        if not self._stale:
            tasks, self._tasks = self._tasks, []
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def touch(self, *names: str) -> None:
        """Wake those who watch these names."""
        for name in names:
            for stale in self._stale.get(name, ()):
                stale.set()

    @abstractmethod
    def work(self) -> Collection[Work]:
        """Return the parts of the work. They run until they are cancelled, beside each other."""

    async def _guarded(self, work: Work) -> None:
        """Do a part of the work, and tell all watches what breaks it."""
        try:
            await work()
        except DiscoveryError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - whatever it is, watches that are told of nothing would be stale
            self.error = DiscoveryError(f"watching {self._what} broke: {type(error).__name__}: {error}")
        self.touch(*self._stale)


class Seats:
    """Counts, for each loop, who has one of few things: a connection of its own. A fork's loop counts for itself."""

    def __init__(self) -> None:
        self._taken: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()

    @contextmanager
    def sit(self, most: int) -> Generator[bool, None, None]:
        """Take a seat for the block if fewer than ``most`` are taken; say whether it was had."""
        loop = asyncio.get_running_loop()
        had = self._taken.get(loop, 0) < most
        self._taken[loop] = self._taken.get(loop, 0) + had
        try:
            yield had
        finally:
            self._taken[loop] -= had
