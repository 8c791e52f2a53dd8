"""The one stream of a mesh to its control plane, and what all watches learn by it.

Whatever is needed for any service is asked for on it, and each response wakes those whose way leads through what has
changed. When the stream breaks, all watches end: the engine keeps what they said, waits, and the first of them to
come back begins another stream, which learns everything anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager

from svcmesh.core.clock import Clock
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.shared import Shared, Work
from svcmesh.discovery.xds.conversation import Conversation, Line
from svcmesh.discovery.xds.dialect import Dialect
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.path import Path
from svcmesh.discovery.xds.tree import Tree

Way = Callable[[], AbstractAsyncContextManager[Line]]
"""Opens a line to one control plane, anew for each attempt."""


class Feed(Shared):
    """What a control plane says, for the watches of one loop.

    Args:
        ways: to control planes, each of which stands in for those before it. dialect: makes one for each stream.
        first: the kind of resource that is watched by name.
        wait: seconds after which what has not come does not exist. clock: what that is measured by.
    """

    def __init__(
        self, ways: Sequence[Way], dialect: Callable[[], Dialect], first: Kind, wait: float, clock: Clock
    ) -> None:
        super().__init__("xDS")
        self._ways = ways
        self._dialect = dialect
        self._first = first
        self._wait = wait
        self._clock = clock
        self._tree = Tree(first)
        self._conversation: Conversation | None = None

    @property
    def version(self) -> str:
        """The version of the last response, for logs."""
        return "" if self._conversation is None else self._conversation.version

    def enter(self, name: str) -> asyncio.Event:
        """Return what is set when there is news of ``name``, which is asked for from now on."""
        stale = super().enter(name)
        if name not in self._tree:
            new = self._tree.add(name)
            if self._conversation is not None:
                self._conversation.want(new)
        return stale

    async def leave(self, name: str, stale: asyncio.Event) -> None:
        """Take it back."""
        await super().leave(name, stale)
        if name not in self.watched and name in self._tree:
            self._tree.remove(name)
            if self._conversation is not None:
                self._conversation.want(())

    def path(self, name: str) -> Path:
        """Return the way of a name that somebody has entered."""
        return self._tree.path(name)

    def work(self) -> tuple[Work, ...]:
        """Speak to the control plane, from the beginning."""
        self._tree, self._conversation = Tree(self._first), None
        return (self._speak,)

    async def _speak(self) -> None:
        """Speak to the first server that answers, for as long as it does."""
        told: list[str] = []
        for way in self._ways:
            try:
                await self._speak_by(way)
            except DiscoveryError as error:
                answered = self._conversation is not None and self._conversation.answered
                if answered or len(self._ways) == 1:
                    raise
                told.append(str(error))
        raise DiscoveryError("; ".join(told))

    async def _speak_by(self, way: Way) -> None:
        async with way() as line:
            talk = Conversation(line, self._dialect(), self._tree, self._changed, self._wait, self._clock)
            self._conversation = talk
            await talk.hold()

    def _changed(self, names: Iterable[str]) -> None:
        self.touch(*names)
