"""xDS as a registry: ``xds:///orders``. What is asked, and how, is in the files beside this one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit, silent
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.pace import Bucket
from svcmesh.discovery.xds.dialect import Dialect
from svcmesh.discovery.xds.feed import Feed, Way
from svcmesh.discovery.xds.found import Reader
from svcmesh.discovery.xds.question import Question


@dataclass(frozen=True, slots=True)
class Access:
    """How control planes are reached.

    Attributes:
        identity: who they are, and as whom they are asked. ways: to them, each standing in for those before it.
        dialect: makes what is spoken there. keeping: what is taken away there is to be used on.
    """

    identity: str
    ways: Sequence[Way]
    dialect: Callable[[], Dialect]
    keeping: bool = False


class XdsDiscovery:
    """Discovery by a control plane, over one stream for all services.

    Args:
        access: how the control plane is reached.
        question: what is asked for; by default the listener that is called as the service.
        clock: what waits are measured by. emit: told of what cannot be used.

    Nothing is dialled before the first watch. Threads: all coroutines of one discovery run on one loop at a time; a
    forked child has a stream of its own.
    """

    def __init__(self, access: Access, question: Question | None = None, *, clock: Clock, emit: Emit = silent) -> None:
        self._access = access
        self._question = Question() if question is None else question
        self._clock = clock
        self._emit = emit
        self._feed: Feed | None = None

    @property
    def identity(self) -> str:
        """The control planes, as whom they are asked, and for what."""
        return f"xds {self._access.identity} {self._question.kind.name} {self._question.called(self._question.name)}"

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield the endpoints of ``service``, as soon as they are known and after each change.

        Raises:
            DiscoveryError: the control plane cannot be asked, ends the stream, or says what cannot be followed.
        """
        name = self._question.about(service)
        reader = Reader(self._emit, service, keeping=self._access.keeping)
        busy = Bucket(self._clock, burst=20, seconds=0.05)
        feed = self._usable_feed()
        stale = feed.enter(name)
        try:
            while True:
                if feed.error is not None:
                    raise feed.error
                stale.clear()
                snapshot = reader.read(feed.path(name), feed.version)
                if snapshot is not None:
                    yield snapshot
                await stale.wait()
                await busy.take()  # what changes meanwhile is read at once
        finally:
            await feed.leave(name, stale)

    def _usable_feed(self) -> Feed:
        """Return what watches that begin now share: another one after a failure, or in a fork."""
        if self._feed is None or not self._feed.usable:
            access, asked = self._access, self._question
            self._feed = Feed(access.ways, access.dialect, asked.kind, asked.wait, self._clock, asked.called)
        return self._feed
