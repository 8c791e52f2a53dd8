"""Work that watches share lives from the first to the last of them, and its end is told to all."""

from __future__ import annotations

import asyncio

import pytest

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.shared import Seats, Shared


class Working(Shared):
    """Waits for an error and breaks with it; counts how often it was begun and ended."""

    def __init__(self):
        super().__init__("the stars")
        self.begun = self.ended = 0
        self.breaking = asyncio.get_running_loop().create_future()

    def work(self):
        return (self._one,)

    async def _one(self):
        self.begun += 1
        try:
            await asyncio.shield(self.breaking)
        finally:
            self.ended += 1


async def test_it_is_begun_by_the_first_and_ended_with_the_last():
    shared = Working()
    one, two = shared.enter("a"), shared.enter("a")
    await asyncio.sleep(0)
    assert (shared.begun, set(shared.watched)) == (1, {"a"})
    await shared.leave("a", one)
    assert shared.ended == 0
    await shared.leave("a", two)
    assert (shared.ended, set(shared.watched)) == (1, set())
    await shared.leave("b", shared.enter("b"))
    assert shared.usable


async def test_news_wake_those_who_watch_that_name():
    shared = Working()
    one, two = shared.enter("a"), shared.enter("b")
    shared.touch("a", "nobody")
    assert (one.is_set(), two.is_set()) == (True, False)
    await shared.leave("a", one)
    await shared.leave("b", two)


@pytest.mark.parametrize(
    ("error", "told"),
    [(DiscoveryError("clouds"), "clouds"), (KeyError("x"), "watching the stars broke: KeyError: 'x'")],
)
async def test_what_breaks_it_breaks_all_watches(error, told):
    shared = Working()
    one, two = shared.enter("a"), shared.enter("b")
    shared.breaking.set_exception(error)
    async with asyncio.timeout(10):
        await asyncio.gather(one.wait(), two.wait())
    assert str(shared.error) == told
    assert not shared.usable
    await shared.leave("a", one)
    await shared.leave("b", two)


def test_another_loop_does_not_share_it():
    async def made():
        return Working()

    async def looked(shared):
        return shared.usable

    assert not asyncio.run(looked(asyncio.run(made())))


async def test_seats_are_counted_and_given_back():
    seats = Seats()
    with seats.sit(1) as first, seats.sit(1) as second:
        assert (first, second) == (True, False)
    with seats.sit(1) as third, seats.sit(0) as none:
        assert (third, none) == (True, False)


def test_each_loop_counts_for_itself():
    seats = Seats()

    async def sat(inner=None):
        with seats.sit(1) as had:
            return had and (inner is None or await asyncio.to_thread(asyncio.run, inner))

    assert asyncio.run(sat(sat()))
