"""One endpoint while it stays: its counts, its samples, and what transports keep for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from svcmesh.engine.member import MOST_REPLACED, NEVER, Commons, Member
from tests.engine.scripted import A


class Kept:
    def __init__(self, on_close: Callable[[], object] = lambda: None) -> None:
        self.closed = 0
        self._on_close = on_close

    def close(self) -> None:
        self.closed += 1
        self._on_close()


def never(now: float) -> float:
    return NEVER


def test_successes_are_ends_that_were_not_unsuccessful() -> None:
    member = Member(A, Commons(never))
    member.started, member.finished, member.unsuccessful = 5, 4, 1

    assert member.succeeded == 3
    assert member.in_flight == 1


def test_successes_of_the_past_are_known_to_within_a_tick() -> None:
    commons = Commons(never)
    member = Member(A, commons)
    assert member.due == NEVER
    commons.horizon, commons.tick = 10.0, 1.0
    member.restart_timeline()
    for second in range(20):
        if second >= member.due:
            member.roll(float(second))
        member.started += 1
        member.finished += 1

    assert abs(member.succeeded - member.succeeded_at(10.0) - 10) <= 1


def test_the_next_look_is_the_sooner_of_sample_and_cluster() -> None:
    looked: list[float] = []
    commons = Commons(lambda now: looked.append(now) or 7.5)  # type: ignore[func-returns-value]
    member = Member(A, commons)

    member.roll(7.0)
    assert (looked, member.due) == ([7.0], 7.5)
    commons.horizon, commons.tick = 1.0, 0.1
    member.restart_timeline()
    member.roll(7.0)
    assert member.due == 7.1


def test_what_is_kept_is_made_once_by_many_threads_and_closed_once() -> None:
    member = Member(A, Commons(never))
    made: list[Kept] = []
    barrier = threading.Barrier(8)

    def make() -> Kept:
        made.append(Kept())
        return made[-1]

    def use() -> None:
        barrier.wait()
        member.attachment("key", make)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    member.close()
    member.close()

    assert [kept.closed for kept in made] == [1]


def test_one_that_cannot_be_closed_does_not_keep_the_others_open() -> None:
    member = Member(A, Commons(never))
    broken = member.attachment("broken", lambda: Kept(lambda: 1 / 0))
    other = member.attachment("other", Kept)

    member.close()

    assert (broken.closed, other.closed) == (1, 1)


def test_after_the_end_a_new_one_is_handed_out_and_not_kept() -> None:
    member = Member(A, Commons(never))
    member.close()

    assert member.attachment("key", Kept) is not member.attachment("key", Kept)
    assert member.attached("key") is None


def test_what_is_taken_back_is_not_closed() -> None:
    member = Member(A, Commons(never))
    kept = member.attachment("key", Kept)

    assert member.detach("key") == [kept]
    assert member.detach("key") == []
    member.close()
    assert kept.closed == 0


class Renewed(Kept):
    retired = 0

    def renew(self) -> bool:
        return True

    def retire(self) -> None:
        self.retired += 1


@pytest.mark.parametrize("end", ["close", "detach"])
def test_what_was_made_anew_ends_with_the_rest_while_calls_are_in_flight(end: str) -> None:
    """They may run on it: a server that leaves ends its streams on a connection that no new call gets."""
    member = Member(A, Commons(never))
    member.started = 1
    made = [member.attachment("key", Renewed)]
    member.renew()
    made.append(member.attachment("key", Renewed))

    if end == "close":
        member.close()
        assert [kept.closed for kept in made] == [1, 1]
    else:
        assert member.detach("key") == [made[1], made[0]]
        member.close()
        assert [kept.closed for kept in made] == [0, 0]


def test_what_was_made_anew_is_let_go_of_when_nothing_runs_on_it() -> None:
    """At the next look, and in the long run even below calls that never end."""
    member = Member(A, Commons(never))
    member.started = 1
    made = []
    for _ in range(MOST_REPLACED + 3):
        made.append(member.attachment("key", Renewed))
        member.renew()
    assert [kept.retired for kept in made] == [1] * 3 + [0] * MOST_REPLACED
    latest = member.attachment("key", Renewed)
    assert len(member.detach("key")) == MOST_REPLACED + 1

    member.attachment("key", lambda: latest)
    member.renew()
    member.finished = 1
    member.renew()
    assert latest.retired == 1
    assert member.detach("key") == []


def test_idle_connections_are_closed_below_calls_and_what_carries_calls_stays() -> None:
    """Later ones are not kept, and the rest ends with `close`."""
    member = Member(A, Commons(never))
    member.started = 1
    pooled, channel = member.attachment("pool", Kept), member.attachment("channel", Renewed)
    member.close_idle()

    assert (pooled.closed, channel.closed) == (1, 0)
    assert member.attached("channel") is channel
    assert member.attachment("pool", Kept) is not pooled
    assert member.attached("pool") is None
    member.close()
    assert (pooled.closed, channel.closed) == (1, 1)


def test_a_host_that_answers_again_needs_no_back_off() -> None:
    """What waits one out is made anew at the next call; what is well, knows no back-off, or cannot tell, stays."""

    class Waiting(Kept):
        def __init__(self, renew: Callable[[], bool]) -> None:
            super().__init__()
            self.renew = renew

        def retire(self) -> None: ...

    member = Member(A, Commons(never))
    stale = member.attachment("stale", lambda: Waiting(lambda: True))
    others = {
        "well": member.attachment("well", lambda: Waiting(lambda: False)),
        "plain": member.attachment("plain", Kept),
        "broken": member.attachment("broken", lambda: Waiting(lambda: bool(1 / 0))),
    }

    member.renew()

    assert member.attached("stale") is None
    assert stale.closed == 0
    assert {key: member.attached(key) for key in others} == others
