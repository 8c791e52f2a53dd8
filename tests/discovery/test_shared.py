"""Work that watches share lives from the first to the last of them, and its end is told to all."""

from __future__ import annotations

import asyncio

import pytest

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.shared import Shared


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
