"""What all clusters of a mesh share: timers from any thread, and a fresh start after a fork."""

from __future__ import annotations

import random
import threading

from svcmesh.core.clock import SYSTEM
from svcmesh.engine.runtime import Runtime
from svcmesh.testing import FakeClock


def test_a_timer_rings_on_the_worker_and_can_be_cancelled_from_anywhere() -> None:
    clock = FakeClock(autojump=False)
    runtime = Runtime(clock)
    rung: list[str] = []
    names: list[str] = []

    def ring(text: str) -> None:
        rung.append(text)
        names.append(threading.current_thread().name)

    runtime.call_at(1.0, lambda: ring("one"))
    cancel = runtime.call_at(1.0, lambda: ring("two"))
    runtime.call_at(2.0, lambda: ring("three"))
    settled = threading.Event()
    runtime.worker.call(lambda _: settled.set())
    settled.wait(30)
    cancel()
    clock.advance(3.0)

    assert rung == ["one", "three"]
    assert set(names) == {"svcmesh-worker"}
    runtime.close()
    runtime.worker.join()


def test_listeners_are_made_known() -> None:
    runtime = Runtime()
    told: list[int] = []
    runtime.listeners_changed.append(lambda: told.append(1))

    runtime.events.subscribe(print, "panic.*").close()

    assert told == [1, 1]


def test_a_child_draws_by_chance_of_its_own_unless_it_was_given() -> None:
    """Else all children of a server would pick the same endpoints at the same time."""
    own, given = Runtime(), Runtime(SYSTEM, mine := random.Random(1))
    before = own.rng

    own.reset_after_fork()
    given.reset_after_fork()

    assert own.rng is not before
    assert given.rng is mine
