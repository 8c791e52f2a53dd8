"""The one stream of a mesh to its control plane, and what all watches learn by it.

Whatever is needed for any service is asked for on it, and each response wakes those whose way leads through what has
changed. When the stream breaks, all watches end: the engine keeps what they said, waits, and the first of them to
come back begins another stream, which learns everything anew.

Where a server stands in for others, it does so until one of those answers again: each is asked now and then. Nobody
who watches notices the change: what was known holds until the other one says something else.

Source: gRPC, proposal A71.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from random import Random

from svcmesh.core.clock import Clock, sleep_until, wait_for
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.shared import Shared, Work
from svcmesh.discovery.xds.conversation import Conversation, Line
from svcmesh.discovery.xds.dialect import Dialect
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.path import Path
from svcmesh.discovery.xds.tree import Tree

Way = Callable[[], AbstractAsyncContextManager[Line]]
"""Opens a line to one control plane, anew for each attempt."""

RETURN = 30.0
"""Seconds, spread by half, between two looks at the servers that others stand in for."""


class Feed(Shared):
    """What a control plane says, for the watches of one loop.

    Args:
        ways: to control planes, each of which stands in for those before it. dialect: makes one for each stream.
        first: the kind of resource that is watched. called: what that of a service is called.
        wait: seconds after which what has not come does not exist. clock: what that is measured by.
    """

    def __init__(
        self,
        ways: Sequence[Way],
        dialect: Callable[[], Dialect],
        first: Kind,
        wait: float,
        clock: Clock,
        called: Callable[[str], str] = str,
    ) -> None:
        super().__init__("xDS")
        self._ways = ways
        self._dialect = dialect
        self._first = first
        self._wait = wait
        self._clock = clock
        self._called = called
        self._chance = Random()
        self._tree = Tree(first, called)
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
        self._tree, self._conversation = Tree(self._first, self._called), None
        return (self._speak,)

    async def _speak(self) -> None:
        """Speak to the first server that answers, for as long as it does, or until one before it does so again."""
        told: list[str] = []
        while len(told) < len(self._ways):
            try:
                await self._speak_by(self._ways[len(told)], self._ways[: len(told)])
            except DiscoveryError as error:
                answered = self._conversation is not None and self._conversation.answered
                if answered or len(self._ways) == 1:
                    raise
                told.append(str(error))
            else:
                told.clear()
                self._conversation = None
        raise DiscoveryError("; ".join(told))

    async def _speak_by(self, way: Way, better: Sequence[Way]) -> None:
        """Speak to a server until one of those that are ``better`` answers; without these for ever."""
        async with way() as line:
            talk = Conversation(line, self._dialect(), self._tree, self._changed, self._wait, self._clock)
            self._conversation = talk
            parts = [asyncio.ensure_future(one) for one in (talk.hold(), *([self._answer(better)] if better else []))]
            try:
                ended, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
                for one in ended:
                    one.result()
            finally:
                for one in parts:
                    one.cancel()
                await asyncio.gather(*parts, return_exceptions=True)

    async def _answer(self, ways: Sequence[Way]) -> None:
        """Wait until one of several servers answers."""
        while True:
            await sleep_until(self._clock, self._clock.now() + RETURN * self._chance.uniform(0.5, 1.5))
            for way in ways:
                with suppress(DiscoveryError):
                    if await self._answers(way):
                        return

    async def _answers(self, way: Way) -> bool:
        """Whether a server says something when it is asked for what is needed.

        Raises:
            DiscoveryError: it cannot be asked, or says what nobody understands.
        """
        async with way() as line:
            dialect = self._dialect()
            request = dialect.ask(self._first, self._tree.wanted(self._first))
            if request is None:
                return False
            line.write(request)
            reading = asyncio.ensure_future(line.read())
            try:
                heard = await wait_for(self._clock, reading, self._clock.now() + self._wait)
                return heard and bool(dialect.hear(reading.result()))
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    def _changed(self, names: Iterable[str]) -> None:
        self.touch(*names)
