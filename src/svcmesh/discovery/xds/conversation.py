"""What is said on one stream: names as they are needed, an answer to each response, and when to give up waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from svcmesh.core.clock import Clock, sleep_until
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.pace import Bucket
from svcmesh.discovery.xds.dialect import Dialect, Said
from svcmesh.discovery.xds.kinds import Key, Kind
from svcmesh.discovery.xds.tree import Tree


class Line(Protocol):
    """What a conversation is held on: a stream of gRPC, or what stands for one."""

    def write(self, message: bytes) -> None:
        """Send a message, soon."""

    async def read(self) -> bytes:
        """Return the next message; DiscoveryError: there will be none."""

    def abort(self, error: DiscoveryError) -> None:
        """Have `read` raise ``error``."""


class Conversation:
    """Keeps a tree up to date by one stream.

    Args:
        stream: what it is held on. dialect: one that has not been spoken yet. tree: what is needed, and known.
        changed: told of the names whose ways have changed.
        wait: seconds after which what has not come does not exist. clock: what that is measured by.

    Attributes:
        answered: whether the control plane has said anything. version: of its last response.
    """

    def __init__(
        self,
        stream: Line,
        dialect: Dialect,
        tree: Tree,
        changed: Callable[[Iterable[str]], object],
        wait: float,
        clock: Clock,
    ) -> None:
        self.answered = False
        self.version = ""
        self._stream = stream
        self._dialect = dialect
        self._tree = tree
        self._changed = changed
        self._wait = wait
        self._clock = clock
        self._asked: set[Kind] = set()
        self._news = asyncio.Event()
        self._pace = Bucket(clock, burst=20, seconds=0.05)
        self._awaited: deque[tuple[float, Key]] = deque()  # in the order of time, for all wait alike
        self.want(Key(kind, name) for kind in Kind for name in tree.wanted(kind))

    def want(self, new: Iterable[Key]) -> None:
        """Say soon what is needed now; resources that are ``new`` in it are waited for."""
        until = self._clock.now() + self._wait
        self._awaited.extend((until, key) for key in new)
        self._news.set()

    async def hold(self) -> None:
        """Talk until the stream ends.

        Raises:
            DiscoveryError: it has, or the control plane says nothing, or something that is no response.
        """
        aside = [asyncio.ensure_future(one) for one in (self._ask(), self._give_up_waiting())]
        for task in aside:
            task.add_done_callback(self._end)
        try:
            while True:
                self._take(self._dialect.hear(await self._stream.read()))
        finally:
            for task in aside:
                task.cancel()
            await asyncio.gather(*aside, return_exceptions=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        """End the stream by what has ended a part of the conversation."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, DiscoveryError):
            self._stream.abort(error)
        elif error is not None:
            self._stream.abort(DiscoveryError(f"talking to the control plane broke: {type(error).__name__}: {error}"))

    async def _ask(self) -> None:
        """Say what is needed whenever that changes: at once, and for many who begin one by one in a few requests.

        Each request of the state of the world is answered with everything, so that a thousand of them would be a
        million resources.
        """
        while True:
            await self._news.wait()
            await self._pace.take()
            self._news.clear()
            for kind in Kind:
                self._tree.forget(kind)
                request = self._dialect.ask(kind, self._tree.wanted(kind))
                if request is not None:
                    self._asked.add(kind)
                    self._stream.write(request)

    async def _give_up_waiting(self) -> None:
        """Take for absent what has not come in time; a control plane that says nothing at all has failed instead."""
        while True:
            await sleep_until(self._clock, self._awaited[0][0] if self._awaited else self._clock.now() + self._wait)
            now, late = self._clock.now(), []
            while self._awaited and self._awaited[0][0] <= now:
                late.append(self._awaited.popleft()[1])
            lost = [key for key in late if self._tree.waits_for(key)]
            if lost and not self.answered:
                raise DiscoveryError(f"the control plane says nothing: no answer for {self._wait:g} s")
            for key in lost:
                self._tree.lose(key)
            self._follow(lost)

    def _take(self, said: Said) -> None:
        self.answered, self.version = True, said.version
        if said.kind is None:
            return
        changed = self._changes(said.kind, said)
        was_asked = said.kind in self._asked  # else to answer would be to subscribe, and without names: to all there is
        answer = self._dialect.answer(said) if was_asked else None
        if answer is not None:
            self._stream.write(answer)
        self._follow(changed)

    def _changes(self, kind: Kind, said: Said) -> list[Key]:
        """Take note of what a response says; return what is another than before."""
        tree, changed = self._tree, []
        for one in said.found:
            key = Key(kind, one.name)
            if tree.refuse(key, one.why) if one.resource is None else tree.put(key, one.resource):
                changed.append(key)
        gone, named = set(said.removed), {one.name for one in said.found}
        if said.whole and "" not in named:  # one whose name is not known may be any of those that seem to be missing
            gone.update(name for name in tree.settled(kind) if name not in named)
        lost = [Key(kind, name) for name in gone]
        return changed + [key for key in lost if tree.lose(key)]

    def _follow(self, changed: Iterable[Key]) -> None:
        names, new = self._tree.follow(changed)
        self.want(new)
        self._changed(names)
