"""The bookkeeping of connections that calls share, with connections that are no more than numbers."""

from __future__ import annotations

from threading import Thread

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from svcmesh.transport.http.connection.pool import Place
from svcmesh.transport.http.http2.trunk_pool import SharingPool


class Counted:
    """A connection without a network: ``room`` is what it will have when it is open."""

    def __init__(self, key: str, room: int = 4) -> None:
        self.key = key
        self.room = room
        self.opening = True
        self.closed = False
        self.calls = 0

    @property
    def capacity(self) -> int:
        return 0 if self.closed else 1 if self.opening else self.room

    def usable(self) -> bool:
        return self.capacity > 0

    def close(self) -> None:
        self.closed = True


class Told(Place[str, Counted]):
    def __init__(self) -> None:
        super().__init__()
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def make(limit: int | None = None, keep: int | None = None, room: int = 4) -> SharingPool[str, Counted]:
    pool = SharingPool(lambda key: Counted(key, room), Told, limit=limit, keep=keep)
    pool.join("a")
    pool.join("b")
    return pool


def take(pool: SharingPool[str, Counted], key: str = "a") -> Counted:
    found = pool.take(key, 0.0)
    assert isinstance(found, Counted)
    return found


def wait(pool: SharingPool[str, Counted], key: str = "a") -> Told:
    found = pool.take(key, 0.0)
    assert isinstance(found, Told)
    return found


def open_up(pool: SharingPool[str, Counted], connection: Counted, room: int | None = None) -> None:
    connection.room = connection.room if room is None else room
    connection.opening = False
    pool.opened_up(connection.key, connection, 0.0)


def opened(pool: SharingPool[str, Counted], key: str = "a", room: int | None = None) -> Counted:
    connection = take(pool, key)
    open_up(pool, connection, room)
    return connection


def test_calls_share_a_connection_up_to_its_capacity() -> None:
    """The fifth of five calls at once gets a connection of its own; there were only four places."""
    pool = make()
    first = opened(pool)
    assert [take(pool) for _ in range(3)] == [first] * 3
    assert take(pool) is not first
    assert (pool.opened, pool.calls) == (2, 5)


def test_who_comes_while_a_connection_is_made_waits_for_it() -> None:
    """Sixty-four calls at once open one connection, not sixty-four."""
    pool = make(room=100)
    first = take(pool)
    places = [wait(pool) for _ in range(63)]
    assert pool.opened == 1
    open_up(pool, first)
    assert [place.connection for place in places] == [first] * 63


def test_those_for_whom_there_is_no_room_open_another_one() -> None:
    """A capacity of two: of four who wait one joins, the next one dials, and the others wait for that."""
    pool = make(room=2)
    first = take(pool)
    places = [wait(pool) for _ in range(4)]
    open_up(pool, first)
    assert places[0].connection is first
    second = places[1].connection
    assert second is not None
    assert second is not first
    assert (places[2].connection, pool.opened, pool.waiting) == (None, 2, 2)
    open_up(pool, second)
    assert places[2].connection is second


def test_who_opens_and_fails_leaves_it_to_the_next() -> None:
    """The one who waits first dials then."""
    pool = make()
    first = take(pool)
    places = [wait(pool), wait(pool)]
    pool.give("a", first, 0.0, keep=False)
    assert first.closed
    second = places[0].connection
    assert second is not None
    assert places[1].connection is None
    open_up(pool, second)
    assert places[1].connection is second
    assert pool.opened == 1


def test_nobody_waits_where_connections_have_turned_out_to_carry_one_call() -> None:
    """A server of HTTP/1.1: from the second connection on they are made side by side."""
    pool = make(room=1)
    first = take(pool)
    places = [wait(pool), wait(pool)]
    open_up(pool, first)
    assert all(place.connection is not None for place in places)
    assert isinstance(pool.take("a", 0.0), Counted)
    assert pool.opened == 4


def test_those_who_go_on_alone_take_the_places_of_idle_connections() -> None:
    """Also the second of them, who finds the last free place taken by the first."""
    pool = make(limit=3, room=1)
    other = opened(pool, "b")
    first = take(pool)
    places = [wait(pool), wait(pool)]
    pool.give("b", other, 0.0, keep=True)
    open_up(pool, first)
    assert all(place.connection is not None for place in places)
    assert (pool.opened, pool.idle, pool.waiting, other.closed) == (3, 0, 0, True)


def test_a_connection_is_idle_when_its_last_call_has_come_back() -> None:
    pool = make()
    first = opened(pool)
    take(pool)
    pool.give("a", first, 0.0, keep=True)
    assert pool.idle == 0
    pool.give("a", first, 0.0, keep=True)
    assert (pool.idle, pool.opened, pool.calls) == (1, 1, 0)
    assert take(pool) is first


def test_one_that_takes_no_more_is_closed_when_its_last_call_has_come_back() -> None:
    """Its server has said goodbye: those who have begun may finish, and the others go elsewhere."""
    pool = make()
    first = opened(pool)
    take(pool)
    first.room = 0
    assert take(pool) is not first
    pool.give("a", first, 0.0, keep=False)
    assert not first.closed
    pool.give("a", first, 0.0, keep=False)
    assert first.closed
    assert pool.opened == 1


def test_an_endpoint_that_left_keeps_its_calls_and_no_connection() -> None:
    pool = make()
    first = opened(pool)
    pool.drain("a")
    assert not first.closed
    pool.give("a", first, 0.0, keep=True)
    assert first.closed
    assert pool.opened == 0


def test_at_the_limit_the_first_in_the_queue_is_served_first() -> None:
    """Nobody joins the busy connection out of turn; the other endpoint gets its place when that is free."""
    pool = make(limit=1)
    first = opened(pool)
    other = wait(pool, "b")
    later = wait(pool, "a")
    pool.give("a", first, 0.0, keep=True)
    assert first.closed
    assert other.connection is not None
    assert later.connection is None


def test_a_place_that_is_given_up_lets_the_next_one_in() -> None:
    """Who waited behind somebody for another endpoint may join at once when that one has gone."""
    pool = make(limit=1)
    first = opened(pool)
    other, later = wait(pool, "b"), wait(pool, "a")
    assert pool.leave(other) is None
    assert later.connection is first


def test_who_gives_up_waiting_for_a_connection_is_not_handed_it() -> None:
    pool = make()
    first = take(pool)
    place = wait(pool)
    assert pool.leave(place) is None
    open_up(pool, first)
    assert place.connection is None
    assert (pool.calls, pool.waiting) == (1, 0)


def test_an_orphan_is_counted_though_the_lock_is_held() -> None:
    """A finalizer may run inside the pool's own critical section; the connection lives on with its other calls."""
    pool = make()
    first = opened(pool)
    take(pool)
    with pool._lock:
        pool.orphan(first)
    pool.join("a")  # whatever comes next settles it
    assert (pool.calls, first.closed) == (1, False)
    pool.orphan(first)
    assert (pool.calls, pool.opened, first.closed) == (0, 0, True)


def test_threads_share_it_without_losing_count() -> None:
    pool = make(limit=3, room=3)

    def work() -> None:
        for turn in range(300):
            key = "ab"[turn % 2]
            found = pool.take(key, 0.0)
            while isinstance(found, Told):
                found = found.connection or pool.leave(found) or pool.take(key, 0.0)
            if found.opening and turn % 5:
                open_up(pool, found)
            if turn % 7 == 0:
                pool.orphan(found)
            else:
                pool.give(found.key, found, 0.0, keep=turn % 3 != 0 and not found.opening)

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (pool.waiting, pool.calls) == (0, 0)
    assert pool.opened == pool.idle


class Traffic(RuleBasedStateMachine):
    """Whatever happens in whatever order, calls, connections and places add up, and nobody is forgotten."""

    @initialize(limit=st.integers(1, 4), keep=st.integers(0, 3), room=st.integers(1, 3))
    def begin(self, limit: int, keep: int, room: int) -> None:
        self.limit, self.now = limit, 0.0
        self.pool = make(limit, keep, room)
        self.calls: list[Counted] = []
        self.places: list[Told] = []

    @rule(key=st.sampled_from("ab"), fresh=st.booleans())
    def take(self, key: str, fresh: bool) -> None:
        found = self.pool.take(key, self.now, fresh=fresh)
        if isinstance(found, Counted):
            assert found.key == key
            self.begun(found)
        else:
            assert isinstance(found, Told)
            self.places.append(found)

    @precondition(lambda self: any(call.opening for call in self.calls))
    @rule(room=st.integers(1, 3))
    def open(self, room: int) -> None:
        open_up(self.pool, next(call for call in self.calls if call.opening), room)
        self.collect()

    @precondition(lambda self: self.calls)
    @rule(which=st.integers(0, 9), keep=st.booleans(), orphan=st.booleans())
    def give(self, which: int, keep: bool, orphan: bool) -> None:
        call = self.calls.pop(which % len(self.calls))
        call.calls -= 1
        if orphan and not call.opening:
            self.pool.orphan(call)
        else:
            self.pool.give(call.key, call, self.now, keep=keep and not call.opening)
        self.collect()

    @precondition(lambda self: self.calls)
    @rule(which=st.integers(0, 9), room=st.integers(0, 3))
    def change(self, which: int, room: int) -> None:
        """A server changes its mind, or says goodbye."""
        self.calls[which % len(self.calls)].room = room

    @precondition(lambda self: self.places)
    @rule(which=st.integers(0, 9))
    def give_up(self, which: int) -> None:
        assert self.pool.leave(self.places.pop(which % len(self.places))) is None
        self.collect()

    @rule(key=st.sampled_from("ab"))
    def leave_and_return(self, key: str) -> None:
        self.pool.drain(key)
        self.pool.join(key)

    def begun(self, call: Counted) -> None:
        assert not call.closed
        assert call.calls < call.capacity, "no connection carries more than it can when a call comes"
        call.calls += 1
        self.calls.append(call)

    def collect(self) -> None:
        """Take what places were handed."""
        for place in [place for place in self.places if place.connection is not None]:
            assert place.connection is not None
            assert place.connection.key == place.key
            assert place.woken == 1
            self.places.remove(place)
            self.begun(place.connection)

    @invariant()
    def adds_up(self) -> None:
        if not hasattr(self, "pool"):
            return
        pool = self.pool
        assert pool.calls == len(self.calls)
        assert pool.opened == len(set(self.calls)) + pool.idle <= self.limit
        assert pool.waiting == len(self.places)
        assert set(pool._joining) <= set(pool._opening), "whoever waits for a connection waits while it is made"
        if pool._queue:
            assert pool.opened == self.limit
            assert pool.idle == 0
        assert not any(call.closed for call in self.calls)


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=100, stateful_step_count=40)
