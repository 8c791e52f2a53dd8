"""Giving way: all steps in their order, and rests between them; beside a loop until that has nothing to do."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from svcmesh.core import giving_way as module
from svcmesh.core.giving_way import beside, giving_way


@pytest.fixture
def rests(monkeypatch):
    """Let each step take half a slice and a little more; return the rests that are taken."""
    taken = []
    monkeypatch.setattr(module, "sleep", taken.append)
    monkeypatch.setattr(module, "perf_counter", count(0.0, 0.51 * module.SLICE).__next__)
    return taken


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 8])
def test_all_steps_come_in_their_order_with_a_rest_after_each_slice(rests, steps):
    assert list(giving_way(range(steps))) == list(range(steps))
    assert rests == [module.REST] * (steps // 2)


@pytest.mark.parametrize(("steps", "looks"), [(0, 0), (6, 1), (7, 2), (24, 4), (25, 5)])
def test_short_steps_are_taken_several_at_once(rests, steps, looks):
    """It looks at the time after them, as it does after each step otherwise; none is left out."""
    assert list(giving_way(iter(range(steps)), 6)) == list(range(steps))
    assert rests == [module.REST] * (looks // 2)


class Loop:
    """A loop that has its pause when ``pause`` is called."""

    def __init__(self, log):
        self._log = log
        self._soon = []

    def call_soon_threadsafe(self, callback, *args):
        self._log.append("asked")
        self._soon.append(lambda: callback(*args))

    def call_later(self, seconds, callback, *args):
        self._log.append(f"in {seconds}")
        self._soon.append(lambda: callback(*args))

    def call_soon(self, callback):
        self._log.append("had something to do")
        self._soon.append(callback)

    def pause(self):
        while self._soon:
            self._soon.pop(0)()


def test_beside_a_loop_it_rests_as_long_as_it_computes_and_until_that_has_nothing_to_do(rests, monkeypatch):
    """Before it begins, too: the loop has just been at work. The loop tells of its pause last of all that it does.

    After that it steps aside once more, for whoever waited for the loop.
    """
    log, loops = [], []
    monkeypatch.setattr(module, "sleep", log.append)

    class Idle:
        def set(self):
            log.append("idle")

        def wait(self, timeout):
            assert timeout == module.PATIENCE
            log.append("waits")
            loops[0].pause()

    monkeypatch.setattr(module, "Event", Idle)
    loops.append(Loop(log))

    def compute():
        log.extend(giving_way("abcd"))
        return "done"

    assert beside(loops[0], compute) == "done"
    pause = ["asked", "waits", f"in {module.SLICE}", "had something to do", "idle", module.REST]
    assert log == [*pause, "a", "b", *pause, "c", "d", *pause]
    log.clear()
    assert list(giving_way("abcd")) == [*"abcd"]
    assert log == [module.REST] * 2, "as before"


def test_what_is_computed_in_several_parts_rests_as_often_as_in_one(rests, monkeypatch):
    """Else each part would have a slice to itself."""
    pauses = []
    monkeypatch.setattr(module._Pauses, "_wait", lambda self: pauses.append(len(done)))
    done = []

    def compute():
        for _ in range(4):
            done.extend(giving_way("a"))

    beside(Loop([]), compute)
    assert pauses == [0, 2, 4]


def test_beside_a_loop_that_was_closed_nothing_is_computed_any_more(rests):
    loop = asyncio.new_event_loop()

    def compute():
        for step in giving_way(count()):
            if step == 1:
                loop.call_soon(loop.stop)
                loop.run_forever()
                loop.close()

    with pytest.raises(RuntimeError, match="closed"):
        beside(loop, compute)
