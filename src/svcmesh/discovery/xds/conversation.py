"""What is said on one stream: names as they are needed, an answer to each response, and when to give up waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from svcmesh.core.clock import Clock, sleep_until
from svcmesh.core.errors import DiscoveryError
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
        self._loop = asyncio.get_running_loop()
        self._due = False
        self._awaited: deque[tuple[float, Key]] = deque()  # in the order of time, for all wait alike
        self.want(Key(kind, name) for kind in Kind for name in tree.wanted(kind))

    def want(self, new: Iterable[Key]) -> None:
        """Say soon what is needed now; resources that are ``new`` in it are waited for."""
        until = self._clock.now() + self._wait
        self._awaited.extend((until, key) for key in new)
        if not self._due:
            self._due = True
            self._loop.call_soon(self._ask)  # with what others need who begin just now

    async def hold(self) -> None:
        """Talk until the stream ends.

        Raises:
            DiscoveryError: it has, or the control plane says nothing, or something that is no response.
        """
        waiting = asyncio.ensure_future(self._give_up_waiting())
        waiting.add_done_callback(self._end)
        try:
            while True:
                self._take(self._dialect.hear(await self._stream.read()))
        finally:
            waiting.cancel()

    def _end(self, waiting: asyncio.Task[None]) -> None:
        """End the stream by what has ended the waiting."""
        error = None if waiting.cancelled() else waiting.exception()
        if isinstance(error, DiscoveryError):
            self._stream.abort(error)
        elif error is not None:
            self._stream.abort(DiscoveryError(f"talking to the control plane broke: {type(error).__name__}: {error}"))

    def _ask(self) -> None:
        self._due = False
        for kind in Kind:
            self._tree.forget(kind)
            request = self._dialect.ask(kind, self._tree.wanted(kind))
            if request is not None:
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
        tree, named = self._tree, {one.name for one in said.found}
        changed = [Key(said.kind, name) for name in named]
        for one in said.found:
            key = Key(said.kind, one.name)
            if one.resource is None:
                tree.refuse(key, one.why)
            else:
                tree.put(key, one.resource)
        gone = set(said.removed)
        if said.whole and "" not in named:  # one whose name is not known may be any of those that seem to be missing
            gone.update(name for name in tree.settled(said.kind) if name not in named)
        for name in gone:
            tree.lose(Key(said.kind, name))
        answer = self._dialect.answer(said)
        if answer is not None:
            self._stream.write(answer)
        self._follow([*changed, *(Key(said.kind, name) for name in gone)])

    def _follow(self, changed: Iterable[Key]) -> None:
        names, new = self._tree.follow(changed)
        self.want(new)
        self._changed(names)
