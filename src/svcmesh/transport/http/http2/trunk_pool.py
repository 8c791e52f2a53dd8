"""Which connection a request gets where several requests may share one: as `pool`, counting calls too.

A call goes to a connection in use that has room, then to an idle one, then to the one that is just being made, for it
may turn out to have room, and only then to a new one. Where an endpoint has shown that its connections carry one call
each, nobody waits for somebody else's.

While anybody is in the queue for a place within ``limit``, nobody joins a connection out of turn: otherwise busy
endpoints would keep their connections for ever, and the others would starve.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from svcmesh.transport.http.connection.pool import K, Place, Pool, Pooled


class Shareable(Pooled, Protocol):
    """What a pool needs to know of a connection that may be shared."""

    @property
    def opening(self) -> bool:
        """Whether it is being made."""

    @property
    def capacity(self) -> int:
        """How many calls it carries at once; 0: no more of them."""


T = TypeVar("T", bound=Shareable)


class SharingPool(Pool[K, T]):
    """The connections to the endpoints of one service. ``take`` and ``give`` are of one call on a connection.

    Invariants: those of `Pool`, where a connection is in use while it carries a call; none carries more calls than its
    capacity was when they came; whoever waits for a connection to be made waits while one is.

    Cost: O(1) for everything but `drain`, `close`, and `opened_up`, which is linear in those that wait for it.
    """

    def __init__(
        self,
        dial: Callable[[K], T],
        place: Callable[[], Place[K, T]],
        *,
        limit: int | None = None,
        keep: int | None = None,
        expiry: float | None = None,
    ) -> None:
        super().__init__(dial, place, limit=limit, keep=keep, expiry=expiry)
        self._calls: dict[T, tuple[K, int]] = {}
        self._roomy: dict[K, dict[T, None]] = {}
        self._opening: dict[K, T] = {}
        self._joining: dict[K, dict[Place[K, T], None]] = {}
        self._single: set[K] = set()

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection, or for one that is being made."""
        return len(self._queue) + sum(map(len, self._joining.values()))

    @property
    def calls(self) -> int:
        """How many calls there are on all connections."""
        return sum(count for _, count in self._calls.values())

    def opened_up(self, key: K, connection: T, now: float) -> None:
        """Note that a connection is there, and what its capacity is: those who wait for it have their turn."""
        dead: list[T] = []
        with self._lock:
            if self._opening.get(key) is connection:
                del self._opening[key]
            if connection.capacity > 1:
                self._single.discard(key)
                self._offer(key, connection)
            elif key in self._idle:
                self._single.add(key)
            self._rejoin(key, dead)
        self._bury(dead)

    def leave(self, place: Place[K, T]) -> T | None:
        """Give up a place; return the connection if one was handed out at the last moment."""
        with self._lock:
            if place.key is not None:
                self._unjoin(place.key, place)
            self._queue.pop(place, None)
            self._serve()  # it may have been the one that all others waited behind
        self._bury([])
        return place.connection

    def orphan(self, connection: T) -> None:
        """Count one call less, from a finalizer which has cancelled that call itself."""
        self._orphans.append(connection)
        self._bury([])

    def drain(self, key: K) -> None:
        """Close what is idle of ``key``, and what is in use when its last call has come back."""
        super().drain(key)
        with self._lock:
            self._single.discard(key)

    def forget(self) -> None:
        """In a forked child: as in `Pool`."""
        super().forget()
        self._roomy, self._opening, self._joining = {}, {}, {}

    def _take(self, key: K, now: float, dead: list[T], *, fresh: bool) -> T | Place[K, T]:
        shared = None if self._queue else self._with_room(key)
        if shared is not None:
            return self._enlist(key, shared)
        if key in self._opening and key not in self._single:
            place = self._place()
            place.key = key
            self._joining.setdefault(key, {})[place] = None
            return place
        found = super()._take(key, now, dead, fresh=fresh)
        return found if isinstance(found, Place) else self._enlist(key, found)

    def _give(self, key: K, connection: T, now: float, dead: list[T], *, keep: bool) -> None:
        if self._strike(connection):
            self._expire(now, dead)
            self._offer(key, connection)
            self._serve()
            return
        super()._give(key, connection, now, dead, keep=keep and connection.capacity > 0)
        self._rejoin(key, dead)

    def _serve(self) -> None:
        while self._queue:
            place = self._first()
            key: K = place.key  # type: ignore[assignment]  # set when it was put into the queue
            shared = self._with_room(key)
            if shared is not None:
                self._hand(place, shared)
            elif key in self._opening and key not in self._single:
                del self._queue[place]
                self._joining.setdefault(key, {})[place] = None
            elif self.opened < self._limit:
                self.opened += 1
                self._hand(place, self._dial(key))
            else:
                return

    def _rejoin(self, key: K, dead: list[T]) -> None:
        """Let those who have waited for a connection to ``key`` go on: to it, to another one, or into the queue."""
        if key in self._opening:
            return
        for place in self._joining.pop(key, {}):
            self._queue[place] = None
        self._serve()
        while self._queue and self._by_age:
            self._evict(dead)
            self._serve()

    def _hand(self, place: Place[K, T], connection: T) -> None:
        self._queue.pop(place, None)
        place.connection = self._enlist(place.key, connection)  # type: ignore[arg-type]  # it has one
        place.wake()

    def _bereave(self, orphan: T, dead: list[T]) -> None:
        key = self._calls[orphan][0]
        if self._strike(orphan):
            self._offer(key, orphan)
        else:
            self._drop(orphan, dead)
            self._rejoin(key, dead)

    def _enlist(self, key: K, connection: T) -> T:
        """Count a call on ``connection``."""
        self._calls[connection] = (key, self._calls.get(connection, (key, 0))[1] + 1)
        if connection.opening:
            self._opening.setdefault(key, connection)
        else:
            self._offer(key, connection)
        return connection

    def _strike(self, connection: T) -> int:
        """Count one less; return how many are left."""
        key, count = self._calls[connection]  # a fork may come between any two steps
        if count > 1:
            self._calls[connection] = (key, count - 1)
        else:
            del self._calls[connection]
            self._withdraw(key, connection)
            if self._opening.get(key) is connection:
                del self._opening[key]
        return count - 1

    def _offer(self, key: K, connection: T) -> None:
        """Let others join ``connection`` while it has room."""
        if self._calls[connection][1] < connection.capacity:
            self._roomy.setdefault(key, {})[connection] = None

    def _with_room(self, key: K) -> T | None:
        for connection in list(self._roomy.get(key, ())):
            if self._calls[connection][1] < connection.capacity:
                return connection
            self._withdraw(key, connection)
        return None

    def _withdraw(self, key: K, connection: T) -> None:
        roomy = self._roomy.get(key, {})
        roomy.pop(connection, None)
        if not roomy:
            self._roomy.pop(key, None)

    def _unjoin(self, key: K, place: Place[K, T]) -> None:
        joining = self._joining.get(key, {})
        joining.pop(place, None)
        if not joining:
            self._joining.pop(key, None)
