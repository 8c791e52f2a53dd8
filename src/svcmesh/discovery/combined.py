"""Several sources as one: the first that has an answer, or all of them together.

Every source is followed all the time. That costs a watch more, and is what makes the other one there when it is needed:
a spare registry that is asked only in an emergency has never been tried.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from cachetools import LRUCache

from svcmesh.core import checks
from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.base import Discovery, Lag, Named, Refreshing
from svcmesh.discovery.opened import identity_of
from svcmesh.discovery.strand import News, Strand, failure, following
from svcmesh.discovery.uri import open_discovery
from svcmesh.discovery.uri_parts import Surroundings
from svcmesh.policy.watch_backoff import WATCHES

Source = str | Discovery | Mapping[str, Sequence[str | Endpoint]]
"""What a part may be: all that ``Mesh(discovery=…)`` takes."""

PATIENCE = 5.0
"""Seconds that a source is waited for."""

REMEMBERED = 1024
"""Services whose last answers are remembered while nobody watches them."""


def first(*sources: Source, patience: float = PATIENCE) -> First:
    """Return a discovery that goes by the first of ``sources`` that has endpoints.

    A source that fails, or has none of a service, is passed over for the next; when it has endpoints again, it is gone
    back to.

    Args:
        sources: URIs, discoveries or dicts, the preferred one first.
        patience: seconds that a source is waited for before it is passed over: for its first answer, and for its
            return when it fails after one. It is asked again at intervals of up to 5 s, so that one that failed is
            passed over when it has failed for so long and is asked the next time. One that fails at once is not
            waited for.

    Raises:
        ConfigError: a source that ``Mesh(discovery=…)`` would refuse, or none; ``patience`` is negative.
    """
    return First(sources, patience)


def union(*sources: Source, priorities: Sequence[int] | None = None, patience: float = PATIENCE) -> Union:
    """Return a discovery that has the endpoints of all ``sources``.

    A source that fails keeps what it said last, and `Mesh.state` says for how long it fails. An address that several
    have is that of the source with the lowest priority, or of the first.

    Args:
        sources: URIs, discoveries or dicts.
        priorities: of the sources, whole numbers from 0: those with 0 are used first, the next when too little of
            them is well. Inside a source its own priorities count on. None: all alike.
        patience: seconds that the first answer of a source is waited for; then the others go ahead.

    Raises:
        ConfigError: a source that ``Mesh(discovery=…)`` would refuse, or none; not one priority for each source.
    """
    return Union(sources, priorities, patience)


class _Several:
    """What both have in common: parts, opened where they are used.

    Attributes:
        parts: the sources, opened.
    """

    def __init__(self, sources: Sequence[Source], patience: float, surroundings: Surroundings | None) -> None:
        if not sources:
            raise ConfigError("name at least one source, such as 'consul://' or a discovery")
        self._sources = sources
        self._patience = checks.duration("patience", patience, zero=True)
        self._surroundings = around = surroundings or Surroundings(SYSTEM, silent, os.environ)
        self.parts = tuple(
            open_discovery(source, clock=around.clock, emit=around.emit, environ=around.environ) for source in sources
        )

    @property
    def identity(self) -> str | None:
        """All who are behind the parts; None where nobody is behind any."""
        found = [identity_of(part, source) for part, source in zip(self.parts, self._sources, strict=True)]
        kind = type(self).__name__.lower()
        return f"{kind}({', '.join(each or 'given' for each in found)})" if any(found) else None

    @property
    def names(self) -> tuple[str, ...]:
        """The services that the parts know of."""
        return tuple({name: None for part in self.parts if isinstance(part, Named) for name in part.names})

    def refresh(self, service: str) -> None:
        """Have those parts asked again that can be."""
        for part in self.parts:
            if isinstance(part, Refreshing):
                part.refresh(service)

    def _strands(self, service: str, before: Sequence[Strand] = ()) -> list[Strand]:
        left: Sequence[Strand | None] = before or [None] * len(self.parts)
        return [Strand(part, service, self._surroundings, one) for part, one in zip(self.parts, left, strict=True)]

    def _now(self) -> float:
        return self._surroundings.clock.now()


class First(_Several):
    """The first source that has endpoints, see `first`."""

    def __init__(self, sources: Sequence[Source], patience: float, surroundings: Surroundings | None = None) -> None:
        super().__init__(sources, patience, surroundings)

    def opened(self, surroundings: Surroundings) -> First:
        """Return the same by the clock of a mesh, and reporting to it."""
        return First(self._sources, self._patience, surroundings)

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield the endpoints of the first source that has some, whenever that is another answer.

        Raises:
            DiscoveryError: no source answers; or one fails, and the others have no endpoints.
        """
        strands, news, began = self._strands(service), News(self._surroundings.clock), self._now()
        shown: Snapshot | None = None
        async with following(strands, news):
            while True:
                chosen, until = self._choose(strands, began)
                if chosen is None or chosen is shown:
                    await news.next(until)
                else:
                    shown = chosen
                    yield chosen

    def _choose(self, strands: Sequence[Strand], began: float) -> tuple[Snapshot | None, float | None]:
        """Return the answer that counts, if any does yet, and when another one may without news.

        Raises:
            DiscoveryError: none does, nor will while things are as they are.
        """
        now, empty, passed = self._now(), None, False
        instants: list[float] = []
        for strand in strands:
            until = self._awaited(strand, began)
            if until is not None and until <= now:
                passed = True
                continue
            instants += [] if until is None else [until]
            if strand.said is None:
                return None, min(instants)
            if strand.said.endpoints:
                return strand.said, min(instants, default=None)
            empty = empty or strand.said
        if any(strand.error is not None for strand in strands):
            raise failure(strands)  # what the failing one has, nobody else can know to be nothing
        return (None if passed else empty), min(instants, default=None)

    def _awaited(self, strand: Strand, began: float) -> float | None:
        """Return until when a source counts; None: it is well, and counts."""
        if strand.error is None:
            return began + self._patience if strand.said is None else None
        if strand.said is None:
            return float("-inf")
        # It is not asked all the time: that it is still away is known when it fails again, or does not even do that.
        late = strand.failed_at - strand.failing_since >= self._patience
        return strand.failed_at if late else strand.failing_since + self._patience + WATCHES.cap


class Union(_Several):
    """The endpoints of all sources, see `union`."""

    def __init__(
        self,
        sources: Sequence[Source],
        priorities: Sequence[int] | None,
        patience: float,
        surroundings: Surroundings | None = None,
    ) -> None:
        super().__init__(sources, patience, surroundings)
        self._priorities = tuple([0] * len(sources) if priorities is None else priorities)
        if len(self._priorities) != len(sources):
            raise ConfigError(f"priorities needs one number for each of {len(sources)} sources, not {priorities!r}")
        for priority in self._priorities:
            checks.whole("priorities", priority, 0)
        self._last: LRUCache[str, list[Strand]] = LRUCache(REMEMBERED)
        self._followed: dict[str, list[Strand]] = {}

    def opened(self, surroundings: Surroundings) -> Union:
        """Return the same by the clock of a mesh, and reporting to it."""
        return Union(self._sources, self._priorities, self._patience, surroundings)

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield the endpoints of all sources together, whenever one of them says something else.

        Raises:
            DiscoveryError: all sources fail.
        """
        clock = self._surroundings.clock
        strands, news = self._strands(service, self._last.get(service, ())), News(clock)
        until: float | None = self._now() + self._patience
        shown: list[int] = []
        async with self._following(service, strands, news):
            while True:
                if until is not None and (self._now() >= until or all(strand.settled for strand in strands)):
                    until = None
                said = [strand.said for strand in strands]
                answers = [id(each) for each in said]
                if until is not None or answers == shown or not any(strand.fresh for strand in strands):
                    if all(strand.error is not None for strand in strands):
                        raise failure(strands)
                    await news.next(until)
                    continue
                snapshot = joined(said, self._priorities)
                if not snapshot.endpoints and any(s.error is not None and s.said is None for s in strands):
                    raise failure(strands)
                self._last[service], shown = strands, answers
                yield snapshot

    def lag(self, service: str) -> Lag | None:
        """Return what is known of the part whose word is the oldest of those that fail; None if none does."""
        lags = [lag for strand in self._followed.get(service, ()) if (lag := strand.lag) is not None]
        if not lags:
            return None
        oldest = min(lags, key=lambda lag: lag.since)
        return replace(oldest, error=f"{len(lags)} of {len(self.parts)} sources: {oldest.error}")

    @asynccontextmanager
    async def _following(self, service: str, strands: list[Strand], news: News) -> AsyncGenerator[None]:
        self._followed[service] = strands
        try:
            async with following(strands, news):
                yield
        finally:
            if self._followed.get(service) is strands:
                del self._followed[service]


def joined(said: Sequence[Snapshot | None], priorities: Sequence[int]) -> Snapshot:
    """Return one snapshot of several; priorities of sources and their own become tiers from 0 without gaps."""
    ranked: dict[str, tuple[tuple[int, int], Endpoint]] = {}
    for priority, snapshot in sorted(zip(priorities, said, strict=True), key=lambda pair: pair[0]):
        for endpoint in () if snapshot is None else snapshot.endpoints:
            ranked.setdefault(endpoint.address, ((priority, endpoint.priority), endpoint))
    tiers = {rank: tier for tier, rank in enumerate(sorted({rank for rank, _ in ranked.values()}))}
    endpoints = tuple(
        endpoint if endpoint.priority == tiers[rank] else replace(endpoint, priority=tiers[rank])
        for rank, endpoint in ranked.values()
    )
    there = [snapshot for snapshot in said if snapshot is not None]
    policy = next((snapshot.policy for snapshot in there if snapshot.policy is not None), None)
    vouched = len(there) == len(said) and all(snapshot.authoritative for snapshot in there)
    ordered = any(snapshot.ordered for snapshot in there)
    return Snapshot(endpoints, policy=policy, authoritative=vouched, ordered=ordered)
