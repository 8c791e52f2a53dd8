"""Which calls of an asyncio channel are under way."""

from __future__ import annotations

import asyncio
import gc

from svcmesh.transport.grpc.aio.running import Running


class Call:
    over = False
    was_lost = False

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
