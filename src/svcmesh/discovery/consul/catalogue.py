"""Watching very many services: two held questions tell which of them changed, and only those are read.

Each held question is a connection, and Consul takes 200 from one address. So beyond a number of watches the rest share
one question for the state of all checks and one for the list of services. Both say only that something is another
than it was: a check names its service; a definition that changed without one (a weight, a port) moves the index of
the list and nothing else, and then all are read, a few at a time and not too often.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import replace

from svcmesh.core.clock import sleep_until
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.consul.client import segment
from svcmesh.discovery.consul.entries import decode_service
from svcmesh.discovery.consul.question import Question
from svcmesh.discovery.consul.watch import Changes, Reader, Surface, index_of
from svcmesh.discovery.pace import Bucket

READERS = 8
"""Services that are read at a time."""

SWEEP = 60.0
"""Seconds after which all are read, whatever was told: a change that hid behind another one is found then."""

_EXPLAINED = 0.2  # seconds, before and after, in which the checks may tell what the list has changed by
_NARROWING = frozenset({"tag", "node-meta", "filter", "near", "passing", "sg"})

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
        common = self._of_now()
        stale = common.enter(name)
        try:
            while True:
                stale.clear()
                async with common.reading:
                    answer = await self._surface.client.get(path, self._question.params)
                entries = decode_service(answer.body, self._question.reading)
                snapshot = reader.read(answer, entries, index_of(answer.headers), self._question, name)
                if snapshot is not None:
                    yield snapshot
                await stale.wait()
                if common.error is not None:
                    raise common.error
        finally:
            await common.leave(name, stale)

    def _of_now(self) -> Common:
        """Return what watches that begin now share: another one after a failure, and on another loop (of a fork)."""
        common, loop = self._common, asyncio.get_running_loop()
        if common is None or common.error is not None or common.loop is not loop:
            common = self._common = Common(self._surface, self._question, loop)
        return common


class Common:
    """The held questions that watches share, from the first of these to the last.

    What breaks one of them breaks all watches; the engine begins each anew, and then they share another one.

    Attributes:
        error: what has broken it. reading: lets so many services be read at a time. loop: that of the watches.
    """

    def __init__(self, surface: Surface, question: Question, loop: asyncio.AbstractEventLoop) -> None:
        self.error: DiscoveryError | None = None
        self.reading = asyncio.Semaphore(READERS)
        self.loop = loop
        self._surface = surface
        whose = tuple(pair for pair in question.params if pair[0] not in _NARROWING)
        self._question = replace(question, params=whose)
        self._stale: dict[str, list[asyncio.Event]] = {}
        self._told = float("-inf")  # when the checks last told of a change
        self._tasks: list[asyncio.Task[None]] = []

    def enter(self, name: str) -> asyncio.Event:
        """Return what is set when the service called ``name`` is to be read again, or everything is broken."""
        if not self._stale:
            work = (self._checks(), self._services(), self._sweeps())
            self._tasks = [asyncio.ensure_future(self._guarded(one)) for one in work]
        stale = asyncio.Event()
        self._stale.setdefault(name, []).append(stale)
        return stale

    async def leave(self, name: str, stale: asyncio.Event) -> None:
        """Take it back; the last one to leave ends the questions."""
        events = self._stale[name]
        events.remove(stale)
        if not events:
            del self._stale[name]
        if not self._stale:
            tasks, self._tasks = self._tasks, []
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        """Do one of the shared parts, and tell all watches what breaks it."""
        try:
            await work
        except DiscoveryError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - whatever it is, watches that are told of nothing would be stale
            self.error = DiscoveryError(f"watching Consul's catalogue broke: {type(error).__name__}: {error}")
        self._touch(*self._stale)

    async def _checks(self) -> None:
        changes = Changes(self._surface, "/v1/health/state/any", self._question)
        before: State | None = None
        while True:
            state = states(await self._body(changes))
            if before is None:
                self._touch(*self._stale)  # what was read before this may have changed until then, and nobody told
            elif state != before:
                self._told = self._surface.clock.now()
                touched = {name for name in {*state, *before} if state.get(name) != before.get(name)}
                self._touch(*(self._stale if "" in touched else touched))  # a node's check is of all that is on it
            else:
                await changes.unchanged()
            before = state

    async def _services(self) -> None:
        clock = self._surface.clock
        changes = Changes(self._surface, "/v1/catalog/services", self._question)
        sweeps = Bucket(clock, burst=2, seconds=10.0)
        await self._body(changes)
        self._touch(*self._stale)
        while True:
            await self._body(changes)
            heard = clock.now()
            await sleep_until(clock, heard + _EXPLAINED)
            if self._told < heard - _EXPLAINED:
                await sweeps.take()
                self._touch(*self._stale)

    async def _sweeps(self) -> None:
        clock = self._surface.clock
        while True:
            await sleep_until(clock, clock.now() + SWEEP * (0.9 + 0.2 * self._surface.rng.random()))
            self._touch(*self._stale)

    async def _body(self, changes: Changes) -> bytes:
        """Return the next answer; the questions hold connections of their own, for as long as anybody watches."""
        async with self._surface.client.open():
            return (await changes.next()).body

    def _touch(self, *names: str) -> None:
        for name in names:
            for stale in self._stale.get(name, ()):
                stale.set()


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
