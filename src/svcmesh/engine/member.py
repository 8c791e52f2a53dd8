"""One endpoint of a cluster while it stays in discovery: its counts, its breakers, and what transports keep for it.

A member outlives snapshots: an endpoint that only changed its weight keeps its connections, its number in flight
and its history. One that left and came back is a new member and starts afresh.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, RLock
from typing import Protocol, TypeVar, runtime_checkable

from svcmesh.balance.cell import Cell
from svcmesh.core.endpoint import Endpoint
from svcmesh.policy.breaker import Breaker
from svcmesh.policy.circuit import CircuitBreaker
from svcmesh.policy.timeline import Timeline

NEVER = math.inf
Permits = tuple[tuple[Breaker, int], ...]
"""What an endpoint's breakers gave for one attempt, each to be settled once."""
MOST_REPLACED = 4
"""Attachments kept per key although newer ones have taken their place, for the calls that may run on them."""


class Closable(Protocol):
    """What a transport keeps per endpoint: a channel, a connection pool."""

    def close(self) -> object:
        """Release everything; called once, off the path of calls, from any thread. May not block for long."""


@runtime_checkable
class Reconnecting(Closable, Protocol):
    """Something closable that dials by itself, and after a failure waits before it does so again.

    Closing it ends the calls on it, too.
    """

    def renew(self) -> bool:
        """Stop waiting, for there is an answer now; return whether it is of no use any more and has to be made anew."""

    def retire(self) -> object:
        """Let go of it: the calls on it go on, and it ends with the last one. Any thread."""


C = TypeVar("C", bound=Closable)


class Commons:
    """What the members of one cluster have in common: there may be thousands, and each has one word for all of it.

    Attributes:
        look: has the cluster do what is due; returns the next instant to look. guard: held while a lock is made.
        horizon: seconds back for which successes are remembered; 0 where nobody needs a window. tick: to within which.
    """

    __slots__ = ("guard", "horizon", "look", "tick")

    def __init__(self, look: Callable[[float], float]) -> None:
        self.look = look
        self.guard = RLock()
        self.horizon = 0.0
        self.tick = NEVER


class Member(Cell):
    """An endpoint and everything that lives as long as it does.

    Attributes:
        due: instant from which `roll` has something to do; the success path compares it on each call, nothing more.
        since: the instant at which it came, or at which its registry last called it well again.
        unsuccessful: ended attempts that say nothing good of the endpoint; `succeeded` leaves them out.
        faulty: those of `succeeded` that were answered with an error of the server (`svcmesh.policy.outlier.fault`).
        streaming: those of either kind whose answer is still in flight: not `finished` yet, and counted all the same.
        breakers: the breakers that have seen it fail, by configuration; none means closed.
    """

    __slots__ = (
        "_attachments",
        "_commons",
        "_gone",
        "_lock",
        "_replaced",
        "_timeline",
        "breakers",
        "due",
        "faulty",
        "since",
        "streaming",
        "unsuccessful",
    )

    def __init__(self, endpoint: Endpoint, commons: Commons, since: float = -NEVER) -> None:
        Cell.__init__(self, endpoint)  # as by super(), which takes a tenth of all that is done here
        self.due = -NEVER if commons.horizon else NEVER  # sample at the first call
        self.since = since
        self.unsuccessful = 0
        self.faulty = 0
        self.streaming = 0
        self.breakers: dict[CircuitBreaker, Breaker] = {}
        self._commons = commons
        self._timeline: Timeline | None = None
        self._attachments: dict[object, Closable] = {}
        self._replaced: dict[object, list[Reconnecting]] = {}
        self._gone = False
        self._lock: Lock | None = None

    @property
    def succeeded(self) -> int:
        """Attempts that ended well, ever. Costs the success path nothing: it counts only ends."""
        return self.finished - self.unsuccessful + self.streaming

    def succeeded_at(self, instant: float) -> int:
        """Return `succeeded` as it was at ``instant``, to within one tick; 0 where nobody needs a window."""
        return 0 if self._timeline is None else self._timeline.at(instant)

    def restart_timeline(self) -> None:
        """Remember successes from now on, as far back as all do; to be called when that has changed.

        The next call makes what that takes: most of thousands of endpoints are never called.
        """
        self._timeline = None
        self.due = -NEVER

    def roll(self, now: float) -> None:
        """Sample the totals and let the cluster do what is due; called once per tick by whoever comes first."""
        commons = self._commons
        if commons.horizon:
            timeline = self._timeline
            if timeline is None:
                self._timeline = timeline = Timeline(commons.horizon, commons.tick)
            timeline.roll(now, self.succeeded)
        self.due = min(now + commons.tick, commons.look(now))

    def attachment(self, key: object, make: Callable[[], C]) -> C:
        """Return what a transport keeps here under ``key``, made by ``make`` at first need.

        Once the endpoint has left and was closed, a new one is made and handed out without being kept: the call
        that holds an old pick may still finish.
        """
        found = self._attachments.get(key)
        if found is None:
            with self._own_lock():
                found = self._attachments.get(key)
                if found is None:
                    found = make()
                    if not self._gone:
                        self._attachments[key] = found
        return found  # type: ignore[return-value]  # one key always holds one type

    def _own_lock(self) -> Lock:
        """Return the lock of this endpoint, made at first need: most of thousands are never called.

        What guards that may be taken twice: the garbage collector can run meanwhile, and have something closed.
        """
        if self._lock is None:
            with self._commons.guard:
                self._lock = self._lock or Lock()
        return self._lock

    def attached(self, key: object) -> Closable | None:
        """Return what is kept under ``key``, if anything."""
        return self._attachments.get(key)

    def detach(self, key: object) -> list[Closable]:
        """Take back all that is kept under ``key``, for the transport that closes it itself.

        Takes no lock, because a finalizer calls it: the garbage collector may run while this thread holds ours.
        """
        found = self._attachments.pop(key, None)  # first this, then those: `renew` goes the other way round
        replaced = self._replaced.pop(key, [])
        return [*replaced] if found is None else [found, *replaced]

    def renew(self) -> None:
        """Let the next call dial at once, whatever back-off a transport is in: the host was seen to answer.

        What is replaced may still carry calls: a server that is leaving ends its streams on the old connection, while
        the channel already tries in vain to make the next one. So it is kept, to be closed with the rest.
        """
        if self.in_flight == 0:
            _retire([self._replaced.pop(key, []) for key in list(self._replaced)])
        for key, kept in list(self._attachments.items()):
            with suppress(Exception):  # one that cannot be asked goes on as it is
                if isinstance(kept, Reconnecting) and kept.renew() and self._attachments.get(key) is kept:
                    replaced = self._replaced.setdefault(key, [])
                    replaced.append(kept)
                    oldest = replaced[:-MOST_REPLACED]
                    del replaced[:-MOST_REPLACED]
                    self._attachments.pop(key, None)
                    _retire([oldest])

    def close(self) -> None:
        """Close everything that transports keep here; later attachments are not kept."""
        with self._own_lock():
            self._gone = True
            kept = [found for key in [*self._attachments, *self._replaced] for found in self.detach(key)]
        _close(kept)
        self.kept.clear()  # what is known of it may refer to it, and would leave both to the garbage collector

    def close_idle(self) -> None:
        """Close what can be closed without an end to calls: connections that none is using. Nothing is kept later."""
        with self._own_lock():
            self._gone = True
            idle = [key for key, kept in list(self._attachments.items()) if not isinstance(kept, Reconnecting)]
            kept = [found for key in idle for found in self.detach(key)]
        _close(kept)


def _close(kept: list[Closable]) -> None:
    for attachment in kept:
        with suppress(Exception):  # one that cannot be closed must not keep the others open
            attachment.close()


def _retire(groups: list[list[Reconnecting]]) -> None:
    for group in groups:
        for attachment in group:
            with suppress(Exception):  # as above
                attachment.retire()
