"""Watching very many services: two held questions tell which of them changed, and only those are read.

Each held question is a connection, and Consul takes 200 from one address. So beyond a number of watches the rest share
one question for the state of all checks and one for the list of services. Both say only that something is another
than it was: a check names its service; a definition that changed without one (a weight, a port) moves the index of
the list and nothing else, and then all are read, a few at a time and not too often.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace

from svcmesh.core.clock import sleep_until
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.consul.client import segment
from svcmesh.discovery.consul.entries import USUAL, decode_service
from svcmesh.discovery.consul.question import Question
from svcmesh.discovery.consul.watch import Changes, Reader, Surface, index_of
from svcmesh.discovery.elements import Known
from svcmesh.discovery.pace import Bucket
from svcmesh.discovery.shared import Shared, Work

READERS = 8
"""Services that are read at a time."""

SWEEP = 60.0
"""Seconds after which all are read, whatever was told: a change that hid behind another one is found then."""

_EXPLAINED = 0.2  # seconds, before and after, in which the checks may tell what the list has changed by

_KEYS = ("ServiceName", "ServiceID", "Node", "CheckID", "Status")

State = dict[str, frozenset[tuple[str, ...]]]


class Catalogue:
    """All services that are watched together. Threads: one loop at a time."""

    def __init__(self, surface: Surface, question: Question) -> None:
        self._surface = surface
        self._question = question
        self._common: Common | None = None

    async def watch(self, service: str) -> AsyncGenerator[Snapshot, None]:
        """Yield the instances of ``service``, at once and after each change.

        Raises:
            DiscoveryError: as `watch_service`.
        """
        name = self._question.named(service)
        path, reader = f"/v1/health/service/{segment(name)}", Reader(self._surface.emit, service)
        known = Known()
        common = self._of_now()
        stale = common.enter(name)
        try:
            while True:
                stale.clear()
                async with common.reading:
                    answer = await self._surface.client.get(path, self._question.of_servers)  # an agent may lag behind
                entries = decode_service(answer.body, self._question.reading, known)
                await self._surface.seen.check(self._surface.client, self._question, answer, name, entries)
                snapshot = reader.read(answer, entries, index_of(answer.headers), self._question)
                if snapshot is not None:
                    yield snapshot
                await stale.wait()
                if common.error is not None:
                    raise common.error
        finally:
            await common.leave(name, stale)

    def _of_now(self) -> Common:
        """Return what watches that begin now share: another one after a failure, and on another loop (of a fork)."""
        common = self._common
        if common is None or not common.usable:
            common = self._common = Common(self._surface, self._question)
        return common


class Common(Shared):
    """The held questions that watches share. ``reading`` lets so many services be read at a time."""

    def __init__(self, surface: Surface, question: Question) -> None:
        super().__init__("Consul's catalogue")
        self.reading = asyncio.Semaphore(READERS)
        self._surface = surface
        self._question = replace(question, params=question.about_all, reading=USUAL)
        self._told = float("-inf")  # when the checks last told of a change

    def work(self) -> tuple[Work, ...]:
        """Hold both questions, and read everything now and then."""
        return self._checks, self._services, self._sweeps

    async def _checks(self) -> None:
        changes = Changes(self._surface, "/v1/health/state/any", self._question)
        before: State | None = None
        while True:
            state = states(await self._body(changes))
            if before is None:
                self.touch(*self.watched)  # what was read before this may have changed until then, and nobody told
            elif state != before:
                self._told = self._surface.clock.now()
                touched = {name for name in {*state, *before} if state.get(name) != before.get(name)}
                self.touch(*(self.watched if "" in touched else touched))  # a node's check is of all that is on it
            else:
                await changes.unchanged()
            before = state

    async def _services(self) -> None:
        clock = self._surface.clock
        changes = Changes(self._surface, "/v1/catalog/services", self._question)
        sweeps = Bucket(clock, burst=2, seconds=10.0)
        await self._body(changes)
        self.touch(*self.watched)
        while True:
            await self._body(changes)
            heard = clock.now()
            await sleep_until(clock, heard + _EXPLAINED)
            if self._told < heard - _EXPLAINED:
                await sweeps.take()
                self.touch(*self.watched)

    async def _sweeps(self) -> None:
        clock = self._surface.clock
        while True:
            await sleep_until(clock, clock.now() + SWEEP * (0.9 + 0.2 * self._surface.rng.random()))
            self.touch(*self.watched)

    async def _body(self, changes: Changes) -> bytes:
        """Return the next answer; the questions hold connections of their own, for as long as anybody watches."""
        async with self._surface.client.open():
            return (await changes.next()).body


def states(body: bytes) -> State:
    """Return what an answer of `/v1/health/state/any` says, by service; "" has the checks of nodes.

    Raises:
        DiscoveryError: it is no such answer.
    """
    try:
        checks = json.loads(body)
    except (ValueError, RecursionError):
        checks = None
    if not isinstance(checks, list):
        raise DiscoveryError(f"Consul's answer of {len(body)} bytes is no list of checks")
    found: dict[str, set[tuple[str, ...]]] = {}
    for check in checks:
        if isinstance(check, dict):
            name, *rest = (value if isinstance(value := check.get(key), str) else "" for key in _KEYS)
            found.setdefault(name, set()).add(tuple(rest))
    return {name: frozenset(listed) for name, listed in found.items()}
