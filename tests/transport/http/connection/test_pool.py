"""The pool's bookkeeping, with connections that are no more than flags."""

from __future__ import annotations

from collections import deque
from threading import Thread

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from svcmesh.transport.http.connection.pool import Place, Pool


class Flagged:
    """A connection without a network."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.closed = False
        self.sick = False

    def usable(self) -> bool:
        return not (self.closed or self.sick)

    def close(self) -> None:
        self.closed = True


class Told(Place[str, Flagged]):
    """A place that remembers whether it was woken."""

    def __init__(self) -> None:
        super().__init__()
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def make(limit: int | None = None, keep: int | None = None, expiry: float | None = None) -> Pool[str, Flagged]:
    pool = Pool(Flagged, Told, limit=limit, keep=keep, expiry=expiry)
    pool.join("a")
    pool.join("b")
    return pool


def took(pool: Pool[str, Flagged], key: str = "a", now: float = 0.0, *, fresh: bool = False) -> Flagged:
    found = pool.take(key, now, fresh=fresh)
    assert isinstance(found, Flagged)
    return found


def queued(pool: Pool[str, Flagged], key: str = "a") -> Told:
    found = pool.take(key, 0.0)
    assert isinstance(found, Told)
    return found


def test_the_warmest_connection_is_used_first() -> None:
    """Of two idle connections the one that came back last is taken: the other one may expire."""
    pool = make()
    first, second = took(pool), took(pool)
    pool.give("a", first, 0.0, keep=True)
    pool.give("a", second, 0.0, keep=True)
    assert took(pool) is second
    assert took(pool) is first
    assert pool.opened == 2


def test_connections_are_kept_apart_by_endpoint() -> None:
    """A connection to one endpoint is never handed out for another."""
    pool = make()
    pool.give("a", took(pool, "a"), 0.0, keep=True)
    assert took(pool, "b").key == "b"


def test_a_connection_that_died_while_idle_is_not_handed_out() -> None:
    """What the server closed meanwhile is closed here too, and a new connection takes its place."""
    pool = make(limit=1)
    connection = took(pool)
    pool.give("a", connection, 0.0, keep=True)
    connection.sick = True
    assert took(pool) is not connection
    assert connection.closed
    assert pool.opened == 1


class Interrupted(deque[Flagged]):
    """Idle connections; a signal comes as one is put in or taken out, and its handler raises."""

    armed = True

    def append(self, connection: Flagged) -> None:
        super().append(connection)
        self._signal()

    def pop(self) -> Flagged:  # type: ignore[override]
        connection = super().pop()
        self._signal()
        return connection

    def _signal(self) -> None:
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt


def test_a_connection_that_was_given_back_as_a_signal_came_is_handed_out_again() -> None:
    pool = make()
    connection = took(pool)
    pool._idle["a"] = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        pool.give("a", connection, 0.0, keep=True)
    assert took(pool) is connection
    assert pool.idle == 0


def test_a_connection_that_is_given_back_again_since_a_signal_came_is_closed_and_counted_once() -> None:
    pool = make()
    connection = took(pool)
    pool.give("a", connection, 0.0, keep=True)
    pool.give("a", connection, 0.0, keep=False)
    assert connection.closed
    assert (pool.opened, pool.idle) == (0, 0)


@pytest.mark.parametrize("moment", ["taken out", "looked at"])
def test_a_connection_that_nobody_got_since_a_signal_came_is_closed_by_its_age(moment: str) -> None:
    """Later takers get others, and the limit is what it was."""
    pool = make(limit=2, expiry=5.0)
    lost, other = took(pool), took(pool)
    idle = pool._idle["a"] = Interrupted()
    idle.armed = False
    pool.give("a", other, 0.0, keep=True)
    pool.give("a", lost, 0.0, keep=True)
    if moment == "taken out":
        idle.armed = True
    else:
        lost.usable = idle._signal  # type: ignore[method-assign,assignment]
        idle.armed = True
        idle.pop = lambda: deque.pop(idle)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        took(pool)
    assert took(pool, now=1.0) is other
    assert took(pool, now=6.0) is not lost
    assert lost.closed
    assert (pool.opened, pool.idle) == (2, 0)


def test_fresh_means_never_used() -> None:
    """After a dead keep-alive the next connection is a new one, even where the limit asks an idle one to give way."""
    pool = make(limit=2)
    first, second = took(pool), took(pool)
    pool.give("a", first, 0.0, keep=True)
    pool.give("a", second, 0.0, keep=True)
    assert took(pool, fresh=True) not in {first, second}
    assert first.closed
    assert not second.closed


def test_waiting_is_first_come_first_served() -> None:
    """A connection that comes back goes to whoever has waited longest, and is woken once."""
    pool = make(limit=1)
    connection = took(pool)
    one, other = queued(pool), queued(pool)
    pool.give("a", connection, 0.0, keep=True)
    assert (one.connection, one.woken, other.connection) == (connection, 1, None)
    assert pool.waiting == 1


def test_who_waits_for_another_endpoint_gets_a_new_connection() -> None:
    """At the limit, a connection that the first in the queue cannot use makes room for one that it can."""
    pool = make(limit=1)
    connection = took(pool, "a")
    place = queued(pool, "b")
    pool.give("a", connection, 0.0, keep=True)
    assert connection.closed
    assert place.connection is not None
    assert place.connection.key == "b"
    assert pool.opened == 1


def test_an_idle_connection_makes_room_for_another_endpoint() -> None:
    """At the limit, the connection that has been idle for longest is closed rather than somebody made to wait."""
    pool = make(limit=2)
    old, young = took(pool, "a"), took(pool, "a")
    pool.give("a", old, 0.0, keep=True)
    pool.give("a", young, 1.0, keep=True)
    assert took(pool, "b", 2.0).key == "b"
    assert old.closed
    assert not young.closed


def test_a_place_given_up_is_not_served() -> None:
    """Whoever leaves the queue gets nothing; the next one does."""
    pool = make(limit=1)
    connection = took(pool)
    gone, next_one = queued(pool), queued(pool)
    assert pool.leave(gone) is None
    pool.give("a", connection, 0.0, keep=True)
    assert gone.woken == 0
    assert next_one.connection is connection


def test_a_connection_handed_out_at_the_last_moment_is_returned_by_leave() -> None:
    """A wait that times out just as its connection comes has succeeded."""
    pool = make(limit=1)
    connection = took(pool)
    place = queued(pool)
    pool.give("a", connection, 0.0, keep=True)
    assert pool.leave(place) is connection


def test_idle_connections_are_capped_for_each_endpoint() -> None:
    """With one kept, the older of two that come back is closed; the other endpoint's is not counted."""
    pool = make(keep=1)
    old, young, other = took(pool), took(pool), took(pool, "b")
    for key, connection in (("b", other), ("a", old), ("a", young)):
        pool.give(key, connection, 0.0, keep=True)
    assert (old.closed, young.closed, other.closed) == (True, False, False)
    assert pool.idle == 2


def test_idle_connections_expire_without_being_asked_for() -> None:
    """Any use of the pool closes what has been idle for too long, whichever endpoint it is of."""
    pool = make(expiry=5.0)
    connection = took(pool, "a", 0.0)
    pool.give("a", connection, 0.0, keep=True)
    took(pool, "b", 4.9)
    assert not connection.closed
    took(pool, "b", 5.0)
    assert connection.closed
    assert pool.opened == 2


def test_draining_closes_what_is_idle_now_and_what_is_used_later() -> None:
    """An endpoint that left keeps no connection, and one that comes back from it is closed."""
    pool = make()
    idle, used, other = took(pool), took(pool), took(pool, "b")
    pool.give("a", idle, 0.0, keep=True)
    pool.give("b", other, 0.0, keep=True)
    pool.drain("a")
    assert idle.closed
    assert not other.closed
    pool.give("a", used, 0.0, keep=True)
    assert used.closed
    assert pool.opened == 1


def test_closing_serves_those_who_wait() -> None:
    """A pool that is closed keeps nothing, but whoever has begun may finish."""
    pool = make(limit=1)
    connection = took(pool)
    place = queued(pool)
    pool.close()
    pool.give("a", connection, 0.0, keep=True)
    assert connection.closed
    assert place.connection is not None


def test_an_orphan_frees_its_place_though_the_lock_is_held() -> None:
    """A finalizer may run inside the pool's own critical section: it must not deadlock, and its place is not lost."""
    pool = make(limit=1)
    connection = took(pool)
    place = queued(pool)
    with pool._lock:
        pool.orphan(connection)
        assert connection.closed
        assert place.connection is None
    pool.join("a")  # whatever comes next settles it
    assert place.woken == 1
    assert pool.opened == 1


def test_threads_share_it_without_losing_count() -> None:
    """Eight threads that take, give back and drop leave it with what is idle, and nothing else."""
    pool = make(limit=4)

    def work() -> None:
        for turn in range(300):
            found = pool.take("a" if turn % 2 else "b", 0.0)
            while isinstance(found, Told):
                found = found.connection or pool.leave(found) or pool.take("a", 0.0)
            if turn % 7 == 0:
                pool.orphan(found)
            else:
                pool.give(found.key, found, 0.0, keep=turn % 3 != 0)

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pool.waiting == 0
    assert pool.opened == pool.idle


class Traffic(RuleBasedStateMachine):
    """Whatever happens in whatever order, places and connections add up."""

    @initialize(limit=st.integers(1, 4), keep=st.integers(0, 3))
    def begin(self, limit: int, keep: int) -> None:
        self.limit, self.keep, self.now = limit, keep, 0.0
        self.pool = make(limit, keep, expiry=10.0)
        self.used: list[Flagged] = []
        self.places: deque[Told] = deque()

    @rule(key=st.sampled_from("ab"), fresh=st.booleans())
    def take(self, key: str, fresh: bool) -> None:
        found = self.pool.take(key, self.now, fresh=fresh)
        if isinstance(found, Flagged):
            assert found.usable()
            assert found.key == key
            self.used.append(found)
        else:
            assert isinstance(found, Told)
            self.places.append(found)

    @precondition(lambda self: self.used)
    @rule(which=st.integers(0, 9), keep=st.booleans(), sick=st.booleans(), orphan=st.booleans())
    def give(self, which: int, keep: bool, sick: bool, orphan: bool) -> None:
        connection = self.used.pop(which % len(self.used))
        connection.sick = sick
        if orphan:
            self.pool.orphan(connection)
        else:
            self.pool.give(connection.key, connection, self.now, keep=keep)
        self.collect()

    @precondition(lambda self: self.places)
    @rule(which=st.integers(0, 9))
    def give_up(self, which: int) -> None:
        place = self.places[which % len(self.places)]
        self.places.remove(place)
        assert self.pool.leave(place) is None

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=st.sampled_from("ab"))
    def leave_and_return(self, key: str) -> None:
        self.pool.drain(key)
        self.pool.join(key)

    def collect(self) -> None:
        """Take what places were handed, in the order in which they were taken."""
        while self.places and self.places[0].connection is not None:
            place = self.places.popleft()
            assert place.connection is not None
            assert place.connection.usable()
            assert place.connection.key == place.key
            self.used.append(place.connection)

    @invariant()
    def adds_up(self) -> None:
        if not hasattr(self, "pool"):
            return
        assert self.pool.opened == len(self.used) + self.pool.idle <= self.limit
        assert self.pool.waiting == len(self.places)
        if self.places:
            assert self.pool.opened == self.limit
            assert self.pool.idle == 0
        assert self.pool.idle <= 2 * self.keep
        assert not any(connection.closed for connection in self.used)


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40)


@pytest.mark.parametrize("idle", [10, 2000])
def test_the_cost_of_a_request_does_not_grow_with_the_pool(idle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many connections are idle, a request asks one of them whether it is usable, and its end asks none."""
    pool = make()
    for connection in [took(pool) for _ in range(idle)]:
        pool.give("a", connection, 0.0, keep=True)
    asked: list[Flagged] = []
    monkeypatch.setattr(Flagged, "usable", lambda self: asked.append(self) or True)
    pool.give("a", took(pool), 0.0, keep=True)
    assert len(asked) == 1
