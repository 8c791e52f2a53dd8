"""Deeds are carried out once, in order, outside the lock under which they were noted."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from svcmesh.policy.relay import Relay


def test_deeds_are_done_in_order():
    done: list[int] = []
    relay = Relay(lambda error: None)
    for number in range(3):
        relay.note(lambda number=number: done.append(number))
    relay.deliver()

    assert done == [0, 1, 2]
    assert relay.idle


def test_a_deed_that_raises_is_reported_and_harms_no_other():
    done: list[object] = []
    relay = Relay(lambda error: done.append(str(error)))
    relay.note(lambda: 1 / 0)
    relay.note(lambda: done.append("next"))
    relay.deliver()

    assert done == ["division by zero", "next"]


def test_what_a_deed_notes_is_done_after_it():
    done: list[str] = []
    relay = Relay(lambda error: None)

    def first():
        relay.note(lambda: done.append("second"))
        relay.deliver()  # already delivering: must neither wait for itself nor overtake
        done.append("first")

    relay.note(first)
    relay.deliver()

    assert done == ["first", "second"]


def test_a_relay_that_another_thread_delivers_is_not_idle():
    relay, inside, go_on = Relay(lambda error: None), threading.Event(), threading.Event()
    relay.note(lambda: (inside.set(), go_on.wait(30)))
    thread = threading.Thread(target=relay.deliver)
    thread.start()
    assert inside.wait(30)
    busy = not relay.idle
    go_on.set()
    thread.join()

    assert busy
    assert relay.idle


@given(st.integers(1, 4), st.integers(1, 50))
def test_threads_together_do_each_deed_once(threads, deeds):
    done: list[tuple[int, int]] = []
    relay = Relay(lambda error: None)

    def work(name: int) -> None:
        for number in range(deeds):
            relay.note(lambda: done.append((name, number)))  # noqa: B023 - done before the loop goes on, or not told apart
            relay.deliver()

    workers = [threading.Thread(target=work, args=(name,)) for name in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert len(done) == threads * deeds
