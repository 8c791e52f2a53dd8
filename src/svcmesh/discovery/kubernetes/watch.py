"""Watching slices: a list, and then what has changed since, for ever.

The rules are those of every client that gets it right, and stand here in the open:

- A version is opaque: it is handed back as it came, and never compared.
- A watch that ended, in time or not, goes on at the last version that it told, bookmarks included: nothing is missed,
  and nothing is listed again. Only one that breaks off twice without a word in between is a failure. To end as soon as
  it has begun, and without a word, is to break off: else one that never tells of anything would look like a quiet one.
- 410 says that this version is forgotten: everything is listed again. It comes as a status, as an event inside of a
  good answer, and between two pages of a list.
- Whoever has to come back because something broke waits for its moment (`pace.spread`): others have to as well.
- A list that cannot be had is a failure, and a lost right is one. Neither is an empty list.

Source: Kubernetes, API concepts (efficient detection of changes); client-go, tools/cache/reflector.go.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from random import Random

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.elements import Known
from svcmesh.discovery.kubernetes.answers import Event
from svcmesh.discovery.kubernetes.client import PAGE, Client, Scope
from svcmesh.discovery.kubernetes.errors import Gone, Unreachable
from svcmesh.discovery.kubernetes.slices import Slice
from svcmesh.discovery.pace import SLOWLY, Bucket, spread

MOST_SLICES = 20_000
"""Slices that one list may have: two million endpoints. A server that never ends a list is stopped there."""

_STEADY = 5.0  # seconds after which a watch that breaks off has held for a while
_BRIEF = 1.0  # seconds: client-go's "very short watch"
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Surface:
    """What a watch needs besides its scope. ``wait``: see `question.WAIT`."""

    client: Client
    clock: Clock
    emit: Emit
    rng: Random
    wait: float


class Feed:
    """The slices of one scope, kept up to date while `follow` is iterated.

    Attributes:
        version: of the newest state that is known.
    """

    def __init__(self, surface: Surface, scope: Scope) -> None:
        self.version = ""
        self._surface = surface
        self._scope = scope
        self._slices: dict[str, dict[str, Slice]] = {}  # by service and name
        self._owners: dict[str, str] = {}  # services by name of slice
        self._pages_before: dict[int, Known] = {}
        self._idle = Bucket(surface.clock, burst=3, seconds=2.0)

    def of(self, service: str) -> Iterable[Slice]:
        """Return the slices of a service."""
        return self._slices.get(service, {}).values()

    async def follow(self) -> AsyncGenerator[frozenset[str], None]:
        """Yield the services whose slices are others than before: at first all that there are, then as they change.

        Raises:
            KubernetesError: the API server cannot be asked, or refuses. DiscoveryError: what it says is nonsense.
        """
        clock, forgotten = self._surface.clock, 0
        while True:
            yield await self._list()
            began = clock.now()
            try:
                async with aclosing(self._watch()) as changes:
                    async for touched in changes:
                        yield touched
            except Gone:
                forgotten = 1 if clock.now() - began >= _STEADY else forgotten + 1
                if forgotten > 1:
                    raise
                await self._spread()

    async def _list(self) -> frozenset[str]:
        try:
            found, version = await self._pages(PAGE)
        except Gone:  # between two pages: in one piece nothing can be forgotten
            found, version = await self._pages(0)
        before = frozenset(self._slices)
        self._slices, self._owners = {}, {}
        for one in found:
            self._put(one)
        self.version = version
        return before | self._slices.keys()

    async def _pages(self, limit: int) -> tuple[list[Slice], str]:
        found: list[Slice] = []
        more, number = "", 0
        while True:
            known = self._pages_before.setdefault(number, Known())
            page = await self._surface.client.page(self._scope, more, limit, known)
            found += page.slices
            if len(found) > MOST_SLICES or (page.more and not page.slices):
                raise DiscoveryError(f"the API server's list of EndpointSlices does not end ({len(found)} so far)")
            if not page.more:
                return found, page.version
            more, number = page.more, number + 1

    async def _watch(self) -> AsyncGenerator[frozenset[str], None]:
        """Yield the services that change, over as many watches as it takes; empty sets for bookmarks."""
        surface, broken = self._surface, 0
        while True:
            began, heard = surface.clock.now(), False
            seconds = surface.wait * (1.0 + _JITTER * (2.0 * surface.rng.random() - 1.0))
            try:
                async with aclosing(surface.client.watch(self._scope, self.version, seconds)) as batches:
                    async for events in batches:
                        broken, heard = 0, True
                        yield self._take(events)
                if not heard and surface.clock.now() - began < min(_BRIEF, seconds / 2):
                    raise Unreachable(f"{self._scope.asked('watch', 'the API server')}: it ended as it began")
            except Unreachable:
                broken = 1 if surface.clock.now() - began >= _STEADY else broken + 1
                if broken > 1:
                    raise
                await self._spread()
            await self._idle.take()

    def _take(self, events: Iterable[Event]) -> frozenset[str]:
        """Take note of events; return the services that they touch."""
        touched: set[str] = set()
        for event in events:
            self.version = event.version
            if event.slice is not None:
                touched |= self._drop(event.slice.name)
                if not event.deleted:
                    self._put(event.slice)
                touched.add(event.slice.service)
        if len(self._owners) > MOST_SLICES:
            raise DiscoveryError(f"there are more than {MOST_SLICES} EndpointSlices", retry_after=SLOWLY)
        return frozenset(touched)

    def _put(self, one: Slice) -> None:
        self._slices.setdefault(one.service, {})[one.name] = one
        self._owners[one.name] = one.service

    def _drop(self, name: str) -> set[str]:
        """Forget a slice; return the service that had it, which need not be the one that has it now."""
        service = self._owners.pop(name, None)
        if service is None:
            return set()
        held = self._slices[service]
        del held[name]
        if not held:
            del self._slices[service]
        return {service}

    async def _spread(self) -> None:
        await spread(self._surface.clock, self._surface.rng)
