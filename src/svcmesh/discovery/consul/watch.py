"""Watching a service by blocking queries: Consul holds the question until the answer is another than it was.

Nearly every client got this wrong once, in ways that show only on a bad day, so the rules stand here in the open:

- The next question carries the index of the last *answer*, and the time for which it may be held. The client waits for
  longer than that: Consul adds up to a sixteenth. A frozen agent answers none; one that is held for less shows it.
- An index that went backwards (a restored snapshot, another server) says that the old one means nothing: the question
  is asked again without, and that answer counts. So it is after a connection that broke, though not by all at once.
- Index 0 would never block, and is taken for 1. An answer without a readable index is none.
- The same index, or another one with the same content, is no news. Both cost a token of a bucket that fills slowly.
  Only an order by distance (``near``) may be another one under the same index: that is seen when the wait is over.
- A list from which rights removed something is a lost permission and no empty service; see `rights` and `seen`.

Source: Consul's documentation of blocking queries; hashicorp/consul#4437, #5358, #3890; go-kit/kit#997.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from random import Random

from svcmesh.core.clock import Clock, sleep_until
from svcmesh.core.emit import Emit
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.consul.client import PATIENCE, Answer, Client, segment
from svcmesh.discovery.consul.entries import Entries, decode_query, decode_service
from svcmesh.discovery.consul.errors import PASSING_BY, Unreachable
from svcmesh.discovery.consul.question import Question
from svcmesh.discovery.consul.rights import is_streamed
from svcmesh.discovery.consul.room import Room
from svcmesh.discovery.consul.seen import Seen
from svcmesh.discovery.elements import Known
from svcmesh.discovery.news import News
from svcmesh.discovery.pace import Bucket, spread

PROBE = 15.0
"""Seconds for which at most one question of all is held, by whose answer it is known that the agent lives."""

_LARGEST_INDEX = 2**64 - 1
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Surface:
    """What a watch needs besides its question."""

    client: Client
    clock: Clock
    emit: Emit
    rng: Random
    seen: Seen = field(default_factory=Seen)
    room: Room = field(default_factory=Room)


def index_of(headers: Mapping[str, str]) -> int:
    """Return the index of an answer, at least 1.

    Raises:
        DiscoveryError: the header is missing, or no whole number of 64 bits.
    """
    text = headers.get("x-consul-index", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 20) or int(text) > _LARGEST_INDEX:
        raise DiscoveryError(f"Consul's answer has no index that can be read ({text[:40]!r}): is a proxy in between?")
    return max(1, int(text))


class Changes:
    """The answers to one question that may be news, each as soon as Consul gives it. The rules of indexes live here.

    Args:
        surface: whom to ask, and by which clock.
        path: what is asked, quoted. question: parameters and times.
        displaceable: whether it may be learnt together with others instead, see `Room`.
    """

    def __init__(self, surface: Surface, path: str, question: Question, *, displaceable: bool = False) -> None:
        self._room, self._displaceable = surface.room, displaceable
        self._client = surface.client
        self._clock, self._rng = surface.clock, surface.rng
        self._path = path
        self._question = question
        self._last: Answer | None = None
        self._index = 0  # of `_last`; 0: the next question is not to be held
        self._idle = Bucket(surface.clock, burst=3, seconds=2.0)
        self._busy = Bucket(surface.clock, burst=20, seconds=0.2)

    @property
    def index(self) -> int:
        """The index of the last answer."""
        return self._index

    async def next(self) -> Answer:
        """Return the next answer that may be news, the first one at once.

        Raises:
            ConsulError: nobody answers, also not when asked anew. DiscoveryError: an answer without index.
        """
        if self._last is not None:
            await self._busy.take()
        while True:
            answer = await self._ask()
            before, index = self._index, index_of(answer.headers)
            if index < before:
                self._index = 0
                await self._idle.take()
                continue
            self._index, self._last = index, answer
            if index != before or self._question.reading.ordered:
                return answer
            await self._idle.take()

    async def of_servers(self) -> Answer:
        """Return what servers say now: another answer in place of the last one, which the agent gave by itself.

        Raises:
            ConsulError: nobody answers. DiscoveryError: an answer without index.
        """
        answer = await self._client.get(self._path, self._question.of_servers)
        self._index, self._last = index_of(answer.headers), answer
        return answer

    async def unchanged(self) -> None:
        """Take note that the last answer brought nothing new: the next question may have to wait."""
        await self._idle.take()

    async def _ask(self) -> Answer:
        question, last = self._question, self._last
        if self._index and last is not None:
            try:
                async with self._room.hold(last.agent, displaceable=self._displaceable) as probes:
                    wait = min(question.wait, PROBE) if probes else question.wait
                    held = [*question.params, ("index", str(self._index)), ("wait", f"{round(wait * 1000)}ms")]
                    patience = wait * 17 / 16 + PATIENCE
                    return await self._client.get(self._path, held, agents=(last.agent,), patience=patience)
            except PASSING_BY as error:
                self._index = 0  # of an agent that may have restarted: an index that it has yet to reach would be held
                await self._idle.take()
                if isinstance(error, Unreachable):  # as it is to all of its clients
                    await spread(self._clock, self._rng)
        return await self._client.get(self._path, question.params)


async def watch_service(surface: Surface, question: Question, service: str) -> AsyncGenerator[Snapshot, None]:
    """Yield the instances of ``service``, at once and after each change.

    Raises:
        DiscoveryError: nobody answers, or what is answered is no list of instances, or one that lost its instances
            because the token lost its rights, or one that is older than the question allows.
        Displaced: there is no room to hold the question.
    """
    name = question.named(service)
    changes = Changes(surface, f"/v1/health/service/{segment(name)}", question, displaceable=True)
    reader = Reader(surface.emit, service)
    known = Known()
    while True:
        answer = await changes.next()
        entries = decode_service(answer.body, question.reading, known)
        if not entries.listed and is_streamed(answer):
            answer = await changes.of_servers()
            entries = decode_service(answer.body, question.reading, known)
        await surface.seen.check(surface.client, question, answer, name, entries)
        snapshot = reader.read(answer, entries, changes.index, question)
        if snapshot is None:
            await changes.unchanged()
        else:
            yield snapshot


async def poll_query(surface: Surface, question: Question, service: str) -> AsyncGenerator[Snapshot, None]:
    """Yield the instances that a prepared query selects, at once and when a later execution selects others.

    Raises:
        DiscoveryError: as `watch_service`; also where there is no such query.
    """
    name = question.named(service)
    path = f"/v1/query/{segment(name)}/execute"
    reader = Reader(surface.emit, service)
    known = Known()
    while True:
        answer = await surface.client.get(path, question.params)
        entries = decode_query(answer.body, question.reading, known)
        await surface.seen.check(surface.client, question, answer, name, entries)
        snapshot = reader.read(answer, entries, None, question)
        if snapshot is not None:
            yield snapshot
        jitter = 1.0 + _JITTER * (2.0 * surface.rng.random() - 1.0)
        await sleep_until(surface.clock, surface.clock.now() + question.every * jitter)


class Reader:
    """Makes snapshots of answers, and keeps what is none from looking like one."""

    def __init__(self, emit: Emit, service: str) -> None:
        self._news = News(emit, service, "Consul")

    def read(self, answer: Answer, entries: Entries, index: int | None, question: Question) -> Snapshot | None:
        """Return what an answer says; None if that was known.

        Raises:
            DiscoveryError: it is too old.
        """
        check_age(answer, question)
        return self._news.of(
            entries.endpoints,
            entries.left_out,
            version=index,
            authoritative=entries.listed > 0,
            ordered=question.reading.ordered,
        )


def check_age(answer: Answer, question: Question) -> None:
    """Refuse an answer of a server that has not heard of its leader for too long.

    Raises:
        DiscoveryError: it is older than ``max_stale``.
    """
    text = answer.headers.get("x-consul-lastcontact", "0")
    if question.max_stale is not None and text.isascii() and text.isdigit():
        seconds = int(text[:15]) / 1000
        if seconds > question.max_stale:
            raise DiscoveryError(
                f"{answer.agent.shown} has not heard of Consul's leader for {seconds:g} s; max-stale allows "
                f"{question.max_stale:g} s"
            )
