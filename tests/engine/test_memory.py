"""A watch with a cache: it begins with what was known where the registry is away, and writes what it learns."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest

from svcmesh.core.clock import sleep_until
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.cache import Recalled
from svcmesh.engine.keeper import LASTING, REFRESH
from svcmesh.engine.memory import Memory
from svcmesh.engine.recall import PATIENCE
from svcmesh.engine.watch import watch
from svcmesh.engine.watch_state import WatchState
from svcmesh.testing.sim import run, virtual_clock

DOWN = DiscoveryError("registry down")
FOREVER = 1e9


def snapshot(text, authoritative=False):
    return Snapshot(tuple(Endpoint(f"{letter}:1") for letter in text), authoritative=authoritative)


GONE = snapshot("", authoritative=True)


def hosts(endpoints):
    return "".join(endpoint.host for endpoint in endpoints)


class Scripted:
    """A backend whose n-th watch waits, yields letters as endpoints, or raises, as its script says; then repeats."""

    def __init__(self, *scripts):
        self.scripts = scripts
        self.count = 0

    async def watch(self, service):
        clock = virtual_clock()
        script = self.scripts[min(self.count, len(self.scripts) - 1)]
        self.count += 1
        for step in script:
            if isinstance(step, int | float):
                await sleep_until(clock, clock.now() + step)
            elif isinstance(step, BaseException):
                raise step
            else:
                yield snapshot(step) if isinstance(step, str) else step


class FakeSlot:
    """A file that holds letters, of an age, and takes ``slow`` seconds to read; remembers what was done when."""

    def __init__(self, known="", age=3600.0, slow=0.0):
        self.known, self.age, self.slow = known, age, slow
        self.reads, self.writes = [], []

    def read(self, done):
        clock, loop = virtual_clock(), asyncio.get_running_loop()
        self.reads.append(round(clock.now(), 3))
        if self.known:
            recalled = Recalled(snapshot(self.known), self.age)
            clock.call_at(loop, clock.now() + self.slow, lambda: done(recalled))

    def write(self, endpoints):
        self.writes.append((round(virtual_clock().now(), 3), hosts(endpoints)))


class Run:
    """What a watch with a cache did in ``seconds`` of virtual time."""

    def __init__(self, discovery, slot, seconds=100.0, state=None, max_stale=None):
        self.max_stale = max_stale
        self.published, self.events, self.ages, self.failures = [], [], [], []
        self.state = WatchState() if state is None else state
        self.slot = slot
        run(self._main(discovery, seconds))

    async def _main(self, discovery, seconds):
        clock = virtual_clock()
        memory = Memory(self.slot, "orders", self.state, clock=clock, emit=self._emit)
        task = asyncio.ensure_future(
            watch(
                discovery,
                "orders",
                clock=clock,
                rng=random.Random(1),
                publish=lambda s: self.published.append((round(clock.now(), 3), hosts(s.endpoints))),
                emit=self._emit,
                failed=self.failures.append,
                state=self.state,
                memory=memory,
                max_stale=self.max_stale,
            )
        )
        await sleep_until(clock, seconds)
        self.age = self.state.age(clock.now())
        self.at_end = list(self.slot.writes)
        task.cancel()
        await asyncio.wait([task])

    def _emit(self, name, service, **fields):
        assert service == "orders"
        self.events.append((round(virtual_clock().now(), 3), name, fields))

    def names(self):
        return [name for _, name, _ in self.events]


# -- beginning ---------------------------------------------------------------------------------------------------------


def test_a_registry_that_fails_at_first_is_stood_in_for_at_once():
    result = Run(Scripted([DOWN]), FakeSlot("ab"))

    assert result.published == [(0, "ab")]
    assert result.slot.reads == [0], "once, however often it fails"
    assert result.events[1] == (0, "discovery.cached", {"age": 3600.0})
    assert result.names().count("discovery.cached") == 1
    assert result.age == 3700.0, "counted from when it was known"
    assert result.slot.writes == [], "what was read is not written back"


def test_a_registry_that_hangs_is_waited_for_a_second():
    result = Run(Scripted([FOREVER]), FakeSlot("ab"))

    assert result.published == [(PATIENCE, "ab")]
    assert result.names() == ["discovery.cached"]
    assert result.age == 3600.0 + 99.0


def test_what_a_cache_knew_is_dropped_when_it_is_too_old_and_kept_on_disk():
    """Its age counts, also where the registry says nothing at all; the file is for processes with other limits, too."""
    result = Run(Scripted([FOREVER]), FakeSlot("ab", age=50.0), max_stale=60.0)

    (_, first), (dropped, nobody) = result.published
    assert (first, nobody) == ("ab", "")
    assert PATIENCE + 10.0 <= dropped <= PATIENCE + 10.1
    assert result.names() == ["discovery.cached", "discovery.expired"]
    assert result.failures == ["no answer yet; what was known is not used any more (max_stale)"]
    assert result.slot.writes == []


def test_a_registry_that_answers_in_time_needs_no_cache():
    result = Run(Scripted([0.5, "c", FOREVER]), FakeSlot("ab"))

    assert result.published == [(0.5, "c")]
    assert result.slot.reads == []
    assert result.events == []
    assert result.age == 0.0


def test_an_answer_while_the_file_is_being_read_is_the_last_word():
    result = Run(Scripted([PATIENCE + 1, "c", FOREVER]), FakeSlot("ab", slow=2.0))

    assert result.slot.reads == [PATIENCE]
    assert result.published == [(PATIENCE + 1, "c")]
    assert result.state.cached_at is None


def test_a_failure_after_an_answer_reads_nothing():
    result = Run(Scripted(["c", 10, DOWN], [DOWN]), FakeSlot("ab"))

    assert result.published == [(0, "c")]
    assert result.slot.reads == []
    assert result.age == 90.0


def test_a_watch_that_begins_again_in_a_forked_child_knows_that_there_were_answers():
    result = Run(Scripted([DOWN]), FakeSlot("ab"), state=WatchState(answered=True))

    assert result.slot.reads == []


def test_an_empty_cache_is_none():
    result = Run(Scripted([DOWN]), FakeSlot(""))

    assert result.published == []
    assert result.age is None
    assert result.slot.reads == [0]


def test_as_soon_as_the_registry_answers_its_word_counts():
    result = Run(Scripted([DOWN], [DOWN], [5, "bc", FOREVER]), FakeSlot("ab"))

    (_, cached), (_, found) = result.published
    assert (cached, found) == ("ab", "bc")
    assert result.names()[-1] == "discovery.recovered"
    assert result.age == 0.0
    assert result.state.cached_at is None


def test_the_same_again_changes_nothing_but_the_age_and_the_file():
    result = Run(Scripted([FOREVER]), FakeSlot("ab"), 2.0)
    result = Run(Scripted([5, "ab", FOREVER]), FakeSlot("ab"))

    assert result.published == [(PATIENCE, "ab")]
    assert result.age == 0.0
    assert result.slot.writes == [(5.0, "ab")]


def test_an_empty_answer_after_a_cache_has_to_be_confirmed_like_any_other():
    """A registry that was down has just been restarted: instances come back to it one by one."""
    result = Run(Scripted([DOWN], [5, "", 3, "ab", FOREVER]), FakeSlot("ab"))
    assert [found for _, found in result.published] == ["ab"]

    result = Run(Scripted([5, "", FOREVER]), FakeSlot("ab"))
    assert result.published == [(PATIENCE, "ab"), (35.0, "")]
    assert result.slot.writes == [(35.0, "")]


def test_an_authoritative_empty_answer_empties_both_at_once():
    result = Run(Scripted([5, GONE, FOREVER]), FakeSlot("ab"))

    assert result.published == [(PATIENCE, "ab"), (5.05, "")]
    assert result.slot.writes == [(5.05, "")]


# -- writing -----------------------------------------------------------------------------------------------------------


def test_the_first_answer_is_written_at_once_and_each_change():
    result = Run(Scripted(["a", 10, "ab", 10, "b", FOREVER]), FakeSlot())

    assert result.slot.writes == [(0, "a"), (10, "ab"), (20.05, "b")]


def test_changes_that_follow_each_other_fast_are_written_once_a_second():
    steps = [step for number in range(40) for step in ("abcdefgh"[: 1 + number % 8], 0.25)]
    result = Run(Scripted([*steps, FOREVER]), FakeSlot())
    times = [when for when, _ in result.at_end]

    assert all(later - earlier >= 1.0 for earlier, later in pairwise(times))
    assert len(times) >= 10
    assert result.at_end[-1][1] == "abcdefgh"


def test_what_holds_is_written_anew_now_and_then_for_its_age():
    result = Run(Scripted(["a", FOREVER]), FakeSlot(), 3 * REFRESH + 1)

    assert result.at_end == [(number * REFRESH, "a") for number in range(4)]


def test_what_is_not_confirmed_is_not_made_younger():
    result = Run(Scripted(["a", 10, DOWN], [DOWN]), FakeSlot(), 3 * REFRESH)

    assert result.slot.writes == [(0, "a")]


def test_a_change_just_before_a_failure_is_written_all_the_same():
    result = Run(Scripted(["a", 0.2, "ab", DOWN], [DOWN]), FakeSlot())

    assert result.slot.writes == [(0, "a"), (1.0, "ab")]


def test_what_waits_to_be_written_is_when_the_watch_ends():
    result = Run(Scripted(["a", 10, "ab", 0.2, "abc", FOREVER]), FakeSlot(), 10.5)

    assert result.at_end == [(0, "a"), (10, "ab")]
    assert result.slot.writes == [(0, "a"), (10, "ab"), (10.5, "abc")]


@pytest.mark.parametrize("script", [["", FOREVER], ["", 5, DOWN]])
def test_a_first_answer_without_endpoints_takes_nothing_from_a_later_start_until_it_has_lasted(script):
    result = Run(Scripted(script, ["", FOREVER]), FakeSlot("ab"), LASTING - 1)
    assert result.published == [(0, "")]
    assert result.slot.writes == []

    result = Run(Scripted(script, ["", FOREVER]), FakeSlot("ab"), LASTING + 1)
    assert result.slot.writes == [(LASTING, "")]


def test_nothing_is_believed_of_a_registry_that_fails_when_it_would_be():
    result = Run(Scripted(["", 5, DOWN], [DOWN]), FakeSlot("ab"), 10 * LASTING)

    assert result.slot.writes == []


def test_a_first_authoritative_answer_without_endpoints_is_believed():
    result = Run(Scripted([GONE, FOREVER]), FakeSlot("ab"))

    assert result.slot.writes == [(0, "")]


def test_a_snapshot_that_cannot_be_put_in_force_after_another_is_not_kept():
    """What one process could not use, the next one could not either."""
    slot, written = FakeSlot(), []

    async def main():
        clock, state = virtual_clock(), WatchState()

        def publish(found):
            if hosts(found.endpoints) == "ab":
                raise ValueError("a bad one")
            written.append(hosts(found.endpoints))

        memory = Memory(slot, "orders", state, clock=clock, emit=lambda *_, **__: None)
        task = asyncio.ensure_future(
            watch(
                Scripted(["a", 5, "ab", FOREVER]),
                "orders",
                clock=clock,
                rng=random.Random(1),
                publish=publish,
                emit=lambda *_, **__: None,
                state=state,
                memory=memory,
            )
        )
        await sleep_until(clock, 50)
        task.cancel()
        await asyncio.wait([task])

    run(main())

    assert written == ["a"]
    assert slot.writes == [(0, "a")]
