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


class Loop:
    """A loop that has its pause when ``pause`` is called."""

    def __init__(self, log):
        self._log = log
        self._soon = []

    def call_soon_threadsafe(self, callback, *args):
        self._log.append("asked")
        self._soon.append(lambda: callback(*args))

    def call_soon(self, callback):
        self._log.append("had something to do")
        self._soon.append(callback)

    def pause(self):
        while self._soon:
            self._soon.pop(0)()


def test_beside_a_loop_it_goes_on_in_the_pauses_of_that(rests, monkeypatch):
    """It asks for one ahead of the slice, after which it only waits; the loop tells of it last of all that it does."""
    log, loops = [], []

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
    pause = ["waits", "had something to do", "idle", "asked"]
    assert log == ["asked", "a", "b", *pause, "c", "d", *pause]
    assert rests == []
    assert list(giving_way("abcd")) == [*"abcd"]
    assert len(rests) == 2, "as before"


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
