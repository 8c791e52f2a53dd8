"""Watching very many services by one watch of everything that they have in common: the prefix of the registry.

Over HTTP/1.1 each watch is a connection. That is the best there is for some services of many, and no good for a
thousand: file descriptors end before etcd does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import aclosing

from svcmesh.core.emit import Emit
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.etcd.answers import Item
from svcmesh.discovery.etcd.prefix import Prefix, Surface
from svcmesh.discovery.etcd.target import range_end
from svcmesh.discovery.etcd.watch import Reader
from svcmesh.discovery.shared import Shared


class Whole(Shared):
    """The keys of a registry, by the prefixes that somebody watches. Threads: one loop."""

    def __init__(self, surface: Surface, root: bytes) -> None:
        super().__init__("etcd")
        self.known = False
        self._client = surface.client
        self._keys = Prefix(surface, root)
        self._sorted: list[bytes] | None = None  # all keys, as long as none has come or gone

    @property
    def revision(self) -> int:
        """The revision up to which all is known."""
        return self._keys.revision

    def work(self) -> Collection[Callable[[], Coroutine[None, None, None]]]:
        """Return the one watch."""
        return (self._follow,)

    def items(self, prefix: bytes) -> dict[bytes, Item]:
        """Return the keys that begin with ``prefix``. Cost: all keys are sorted anew after a change, once."""
        if self._sorted is None:
            self._sorted = sorted(self._keys.items)
        beginning, end = bisect_left(self._sorted, prefix), bisect_left(self._sorted, range_end(prefix))
        return {key: self._keys.items[key] for key in self._sorted[beginning:end]}

    async def _follow(self) -> None:
        async with self._client.open(), aclosing(self._keys.follow()) as changes:
            async for changed in changes:
                self.known, self._sorted = True, None
                if changed is None:
                    self.touch(*self.watched)
                else:
                    self.touch(*{name for key in changed for name in _above(key)})


def _above(key: bytes) -> list[str]:
    """Return what `name_of` makes of every prefix of ``key`` that ends in a slash."""
    return [name_of(key[: at + 1]) for at, letter in enumerate(key) if letter == 0x2F]


def name_of(prefix: bytes) -> str:
    """Return a prefix as a name of what is shared: one text for each sequence of bytes."""
    return prefix.decode("latin-1")


class Common:
    """All services that are watched together. Threads: one loop at a time."""

    def __init__(self, surface: Surface, root: bytes, emit: Emit) -> None:
        self._surface = surface
        self._root = root
        self._emit = emit
        self._whole: Whole | None = None

    async def watch(self, prefix: bytes, service: str) -> AsyncGenerator[Snapshot, None]:
        """Yield the endpoints beneath ``prefix``, at once and after each change.

        Raises:
            DiscoveryError: as `watch_service`.
        """
        whole, reader = self._of_now(), Reader(prefix, self._emit, service)
        stale = whole.enter(name_of(prefix))
        try:
            if whole.known:
                stale.set()
            while True:
                await stale.wait()
                stale.clear()
                if whole.error is not None:
                    raise whole.error
                snapshot = reader.read(whole.items(prefix), None, whole.revision)
                if snapshot is not None:
                    yield snapshot
        finally:
            await whole.leave(name_of(prefix), stale)

    def _of_now(self) -> Whole:
        """Return what watches that begin now share."""
        if self._whole is None or not self._whole.usable or not self._whole.watched:
            self._whole = Whole(self._surface, self._root)
        return self._whole
