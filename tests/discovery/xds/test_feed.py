"""Which of several control planes is spoken to, in virtual time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.xds.feed import RETURN, Feed
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.node import node_of
from svcmesh.discovery.xds.sotw import StateOfTheWorld
from svcmesh.testing import FakeClock
from tests.discovery.xds.line import Line
from tests.servers.xds import resources
from tests.servers.xds.resources import ENDPOINTS, place

WAIT = 15.0
LONGEST = 1.5 * RETURN


class Plane:
    """A control plane that says of each cluster that it has one address, where it answers at all."""

    def __init__(self, address):
        self.address = address
        self.well = True
        self.silent = False
        self.lines = []
        self.opened = 0

    @asynccontextmanager
    async def way(self):
        line = Line()
        self.opened += 1
        self.lines.append(line)
        if not self.well:
            line.abort(DiscoveryError(f"{self.address} is away"))
        elif not self.silent:
            line.say(ENDPOINTS, resources.assignment("orders", [place([self.address])]))
        try:
            yield line
        finally:
            self.lines.remove(line)


class World:
    """Two control planes, and a watch of one cluster."""

    def __init__(self):
        self.clock = FakeClock(autojump=False)
        self.first, self.second = Plane("10.0.0.1:80"), Plane("10.0.0.2:80")
        ways = [self.first.way, self.second.way]
        self.feed = Feed(ways, lambda: StateOfTheWorld(node_of({})), Kind.ENDPOINTS, WAIT, self.clock)

    async def begin(self):
        self.stale = self.feed.enter("orders")
        await self.settle()

    async def settle(self):
        for _ in range(50):
            await asyncio.sleep(0)

    async def after(self, seconds):
        await self.clock.advance_async(seconds)
        await self.settle()

    @property
    def found(self):
        (part,) = self.feed.path("orders").parts
        return [one.address for one in part.assignment.endpoints]

    @property
    def open_lines(self):
        return len(self.first.lines), len(self.second.lines)


@pytest.fixture
async def world():
    one = World()
    yield one
    await one.feed.leave("orders", one.stale)
    assert one.open_lines == (0, 0)


async def test_one_that_stands_in_does_so_until_the_one_before_it_answers_again(world):
    world.first.well = False
    await world.begin()
    assert (world.found, world.open_lines) == (["10.0.0.2:80"], (0, 1))

    await world.after(LONGEST)
    assert (world.found, world.open_lines) == (["10.0.0.2:80"], (0, 1)), "the first is still away"
    world.first.well = True
    await world.after(LONGEST)
    assert (world.found, world.open_lines) == (["10.0.0.1:80"], (1, 0))
    assert (world.feed.error, world.second.opened) == (None, 1)


async def test_the_first_is_not_left_while_it_answers(world):
    await world.begin()
    await world.after(10 * LONGEST)

    assert (world.found, world.open_lines, world.second.opened) == (["10.0.0.1:80"], (1, 0), 0)


async def test_one_that_takes_a_question_and_says_nothing_has_not_come_back(world):
    world.first.well = False
    await world.begin()
    world.first.well, world.first.silent = True, True
    for _ in range(3):
        await world.after(LONGEST + WAIT)

    assert (world.found, len(world.second.lines), world.second.opened) == (["10.0.0.2:80"], 1, 1)
    assert world.first.opened > 1


async def test_one_that_ends_while_the_other_is_away_is_a_failure(world):
    world.first.well = False
    await world.begin()
    world.second.lines[0].abort(DiscoveryError("it has ended"))
    await world.settle()

    assert str(world.feed.error) == "it has ended"
    assert world.open_lines == (0, 0)


async def test_two_that_do_not_answer_are_one_failure(world):
    world.first.well = world.second.well = False
    await world.begin()

    assert str(world.feed.error) == "10.0.0.1:80 is away; 10.0.0.2:80 is away"
