"""Which connection a request gets: the bookkeeping of a pool, without any I/O and without waiting.

httpcore's own pool walks all its connections at every request and every close, which is quadratic in how many are
open. This one takes the same decisions in constant time: a stack of idle connections per endpoint (the warmest is
used first), one queue of requests that wait for a place, one list of idle connections by age. Threads and tasks
share it; they differ only in how they wait, which `Place` leaves open.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)


class Pooled(Protocol):
    """What a pool needs to know of a connection. Neither method waits, or does more than ask the kernel."""

    def usable(self) -> bool:
        """Whether another request may be sent on it: open, not expired, nothing unexpected to read."""

    def close(self) -> object:
        """Close it now; harmless when it is closed."""


C = TypeVar("C", bound=Pooled)


class Place(Generic[K, C]):
    """A place in the queue of a pool, of a request to ``key``. Subclasses say how one waits for ``connection``."""

    def __init__(self) -> None:
        self.key: K | None = None
        self.connection: C | None = None

    def wake(self) -> None:
        """Let whoever waits see that ``connection`` is there. Called with the pool's lock held; may not block."""
        raise NotImplementedError


class Pool(Generic[K, C]):
    """The connections to the endpoints of one service.

    Args:
        dial: makes an unconnected connection to an endpoint; it does no I/O.
        place: makes a place in the queue.
        limit: connections open at once, over all endpoints; None: no limit.
        keep: idle connections kept for each endpoint; None: no limit.
        expiry: seconds after which an idle connection is closed; None: never.

    Invariants: ``opened`` counts connections in use and idle ones, and never exceeds ``limit``; while somebody is in
    the queue, the limit is reached and nothing is idle.

    Threads: any. A finalizer may run at any moment, also while its own thread holds the lock: it uses `orphan`.
    Cost: O(1) for everything but `drain` and `close`.
    """

    def __init__(
        self,
        dial: Callable[[K], C],
        place: Callable[[], Place[K, C]],
        *,
        limit: int | None = None,
        keep: int | None = None,
        expiry: float | None = None,
    ) -> None:
        self.opened = 0
        self._dial = dial
        self._place = place
        self._limit = float("inf") if limit is None else limit
        self._keep = float("inf") if keep is None else keep
        self._expiry = float("inf") if expiry is None else expiry
        self._idle: dict[K, deque[C]] = {}
        self._by_age: OrderedDict[C, tuple[K, float]] = OrderedDict()
        self._queue: OrderedDict[Place[K, C], None] = OrderedDict()
        self._orphans: deque[C] = deque()
        self._lock = Lock()

    @property
    def idle(self) -> int:
        """How many connections are open and not in use."""
        return len(self._by_age)

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return len(self._queue)

    def __contains__(self, key: K) -> bool:
        """Whether connections to ``key`` are kept."""
        return key in self._idle

    def join(self, key: K) -> None:
        """From now on keep idle connections to ``key``."""
        with self._lock:
            self._idle.setdefault(key, deque())
        self._bury([])

    def take(self, key: K, now: float, *, fresh: bool = False) -> C | Place[K, C]:
        """Return a connection to ``key``, or a place in the queue when the limit is reached.

        Args:
            key: the endpoint.
            now: the current instant.
            fresh: return none that was used before, because one of those has just turned out to be dead.
        """
        dead: list[C] = []
        with self._lock:
            found = self._take(key, now, dead, fresh=fresh)
        self._bury(dead)
        return found

    def give(self, key: K, connection: C, now: float, *, keep: bool) -> None:
        """Take back a connection that `take` or a place has handed out; it is closed unless ``keep``."""
        dead: list[C] = []
        with self._lock:
            self._give(key, connection, now, dead, keep=keep)
        self._bury(dead)

    def leave(self, place: Place[K, C]) -> C | None:
        """Give up a place in the queue; return the connection if one was handed out at the last moment."""
        with self._lock:
            self._queue.pop(place, None)
        self._bury([])
        return place.connection

    def orphan(self, connection: C) -> None:
        """Take back a connection from a finalizer: closed at once, accounted for as soon as nobody holds the lock."""
        connection.close()
        self._orphans.append(connection)
        self._bury([])

    def drain(self, key: K) -> None:
        """Close what is idle of ``key``, and what is in use when it comes back."""
        dead: list[C] = []
        with self._lock:
            for connection in self._idle.pop(key, ()):
                del self._by_age[connection]
                self._drop(connection, dead)
        self._bury(dead)

    def close(self) -> list[K]:
        """Drain all endpoints; return them."""
        keys = list(self._idle)
        for key in keys:
            self.drain(key)
        return keys

    def forget(self) -> None:
        """In a forked child: keep nothing, close what comes back. A thread of the parent may hold the lock."""
        self._lock = Lock()
        self._idle, self._by_age, self._queue = {}, OrderedDict(), OrderedDict()

    def _take(self, key: K, now: float, dead: list[C], *, fresh: bool) -> C | Place[K, C]:
        self._expire(now, dead)
        idle = self._idle.get(key)
        while idle and not fresh:
            connection = idle.pop()
            if connection.usable():
                del self._by_age[connection]  # only now: where a signal's handler raises before, its age closes it
                return connection
            del self._by_age[connection]
            self._drop(connection, dead)
        if self.opened >= self._limit and self._by_age:
            self._evict(dead)
        if self.opened < self._limit:
            self.opened += 1
            return self._dial(key)
        place = self._place()
        place.key = key
        self._queue[place] = None
        return place

    def _give(self, key: K, connection: C, now: float, dead: list[C], *, keep: bool) -> None:
        self._expire(now, dead)
        idle = self._idle.get(key)
        if not keep or idle is None:
            if idle and self._by_age.pop(connection, None):  # a signal interrupted who had just given it back
                idle.remove(connection)
            self._drop(connection, dead)
        elif self._queue:  # places are handed out in order, so one that needs another endpoint is not passed over
            if self._first().key == key and connection.usable():
                self._hand(self._first(), connection)
            else:
                self._drop(connection, dead)
        else:
            self._by_age[connection] = (key, now)
            idle.append(connection)
            if len(idle) > self._keep:
                oldest = idle.popleft()
                del self._by_age[oldest]
                self._drop(oldest, dead)
        self._serve()

    def _serve(self) -> None:
        """Hand new connections to the queue while there is room for them."""
        while self._queue and self.opened < self._limit:
            place = self._first()
            self.opened += 1
            self._hand(place, self._dial(place.key))  # type: ignore[arg-type]  # set when it was put into the queue

    def _first(self) -> Place[K, C]:
        return next(iter(self._queue))

    def _hand(self, place: Place[K, C], connection: C) -> None:
        del self._queue[place]
        place.connection = connection
        place.wake()

    def _bereave(self, orphan: C, dead: list[C]) -> None:
        """Account for a connection that a finalizer left."""
        self._drop(orphan, dead)

    def _drop(self, connection: C, dead: list[C]) -> None:
        self.opened -= 1
        dead.append(connection)

    def _evict(self, dead: list[C]) -> None:
        """Close the connection that has been idle for longest: it is also the oldest of its endpoint.

        Unless it is none of them any more: a signal whose handler raised has interrupted who was about to take it.
        """
        connection, (key, _) = self._by_age.popitem(last=False)
        idle = self._idle.get(key)
        if idle and idle[0] is connection:
            idle.popleft()
        self._drop(connection, dead)

    def _expire(self, now: float, dead: list[C]) -> None:
        """Close what has been idle for too long, so that servers which hung up do not leave sockets behind."""
        while self._by_age and now - next(iter(self._by_age.values()))[1] >= self._expiry:
            self._evict(dead)

    def _bury(self, dead: list[C]) -> None:
        """Close ``dead``, without the lock; then account for connections that finalizers left meanwhile."""
        for connection in dead:
            connection.close()
        while self._orphans and self._lock.acquire(blocking=False):
            corpses: list[C] = []
            try:
                while self._orphans:
                    self._bereave(self._orphans.popleft(), corpses)
                self._serve()
            finally:
                self._lock.release()
            for connection in corpses:
                connection.close()
