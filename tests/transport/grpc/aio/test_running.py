"""Which calls of an asyncio channel are under way."""

from __future__ import annotations

import asyncio
import gc
import threading

from svcmesh.transport.grpc.aio.running import Running
from tests.transport.grpc.kit import eventually


class Call:
    over = False
    was_lost = False
    never_began = False
    cancelled_by = 0

    def cancel(self) -> None:
        self.cancelled_by = threading.get_ident()
        self.never_began = False

    def lost(self) -> None:
        self.was_lost = self.over = True

    def done(self) -> bool:
        return self.over


async def test_calls_that_may_be_dropped_are_kept_weakly_and_others_until_their_end() -> None:
    """Those that are over are not among them; one that is in both places is there once."""
    running = Running()
    dropped, held, over, kept = Call(), Call(), Call(), Call()
    over.over = True
    running.add(dropped)
    running.add(held)
    running.add(over)
    running.add(kept)
    running.on(asyncio.get_running_loop()).kept.add(kept)
    del dropped
    gc.collect()

    assert set(running.all()) == {held, kept}
    running.on(asyncio.get_running_loop()).kept.discard(kept)
    del kept
    gc.collect()
    assert running.all() == [held]


def test_what_a_loop_left_behind_goes_with_it() -> None:
    """The first call on another loop forgets calls that can never end any more, and tells them."""
    running = Running()
    left: list[Call] = []

    async def leave() -> None:
        left.append(Call())
        running.on(asyncio.get_running_loop()).kept.add(left[-1])

    asyncio.run(leave())
    assert len(running.all()) == 1
    asyncio.run(leave())
    assert len(running.all()) == 1
    assert [call.was_lost for call in left] == [True, False]
    running.settle()
    assert running.all() == []
    assert [call.was_lost for call in left] == [True, True]


async def test_what_never_began_is_cancelled_at_once_where_it_belongs() -> None:
    """Whoever looks on its own loop sees it gone; what goes on is left alone."""
    running = Running()
    stuck, fine = Call(), Call()
    stuck.never_began = True
    running.on(asyncio.get_running_loop()).kept.update({stuck, fine})

    running.settle()

    assert (stuck.cancelled_by, fine.cancelled_by) == (threading.get_ident(), 0)


def test_what_never_began_on_a_loop_that_rests_is_cancelled_at_once() -> None:
    """Nobody knows whether it will ever run again."""
    running, stuck = Running(), Call()
    stuck.never_began = True
    loop = asyncio.new_event_loop()
    try:
        running.on(loop).kept.add(stuck)
        running.settle()
        assert stuck.cancelled_by == threading.get_ident()
    finally:
        loop.close()


def test_what_never_began_on_another_threads_loop_is_cancelled_there() -> None:
    """Call objects belong to their loop."""
    running, stuck = Running(), Call()
    stuck.never_began = True
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    try:
        running.on(loop).kept.add(stuck)
        thread.start()
        eventually(loop.is_running, "the loop does not run")
        running.settle()
        eventually(lambda: stuck.cancelled_by == thread.ident, "it was not cancelled on its loop")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
