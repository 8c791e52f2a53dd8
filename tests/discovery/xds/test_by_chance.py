"""Whatever changes in whatever order, the way of each service ends as if all had been asked for anew."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from random import Random

import pytest

from svcmesh.discovery.xds.delta import Incremental
from svcmesh.discovery.xds.feed import Feed
from svcmesh.discovery.xds.kinds import Key, Kind
from svcmesh.discovery.xds.node import node_of
from svcmesh.discovery.xds.path import Known, path_of
from svcmesh.discovery.xds.sotw import StateOfTheWorld
from svcmesh.testing import FakeClock
from tests.discovery.xds.decoded import good
from tests.discovery.xds.line import PREFIX
from tests.discovery.xds.strict_plane import WHOLE, StrictPlane
from tests.servers.xds import resources
from tests.servers.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    KINDS,
    LISTENER,
    ROUTES,
    place,
    route,
    table,
    to_cluster,
    to_clusters,
)
from tests.servers.xds.wire import encode

SERVICES, TABLES, CLUSTERS = ("s0", "s1", "s2"), ("r0", "r1"), ("c0", "c1", "c2", "c3")
NAMES = {LISTENER: SERVICES, ROUTES: TABLES, CLUSTER: CLUSTERS, ENDPOINTS: CLUSTERS}
BROKEN = {
    LISTENER: lambda name: encode({1: name}),
    ROUTES: lambda name: encode({1: name, 2: [{1: "no domains"}]}),
    CLUSTER: lambda name: encode({1: name, 2: 4}),
    ENDPOINTS: lambda name: resources.assignment(name, [place(["10.0.0.1:0"])]),
}
WAIT = 15.0


class World:
    """What there is, what asks for it, and chance."""

    def __init__(self, seed, *, delta):
        self.chance, self.clock = Random(seed), FakeClock(autojump=False)
        self.there = {kind: {name: self.resource(kind, name) for name in NAMES[kind]} for kind in KINDS}
        self.plane = StrictPlane(self.there, delta=delta)
        dialect = Incremental if delta else StateOfTheWorld
        self.feed = Feed([self._way], lambda: dialect(node_of({})), Kind.LISTENER, WAIT, self.clock)
        self.watched = {}

    @asynccontextmanager
    async def _way(self):
        yield self.plane

    def resource(self, kind, name):
        chance = self.chance
        if kind == LISTENER:
            inner = table("inner", [route(to_cluster(chance.choice(CLUSTERS)))])
            return resources.listener(name, chance.choice([*TABLES, inner]))
        if kind == ROUTES:
            shares = {cluster: chance.randint(1, 3) for cluster in chance.sample(CLUSTERS, 2)}
            return encode(
                table(name, [route(chance.choice([to_cluster(chance.choice(CLUSTERS)), to_clusters(**shares)]))])
            )
        if kind == CLUSTER:
            later = CLUSTERS[CLUSTERS.index(name) + 1 :]
            if later and chance.random() < 0.25:
                return resources.aggregate(name, *chance.sample(later, min(2, len(later))))
            return resources.cluster(name, chance.choice(["", *CLUSTERS]))
        return resources.assignment(name, [place([f"10.0.0.{chance.randint(1, 9)}:80"])])

    def put(self, kind, name, content):
        if content is None:
            self.there[kind].pop(name, None)
        else:
            self.there[kind][name] = content
        self.plane.changed(kind, name)

    async def step(self):
        """Have something happen: a watch begins or ends, a resource is another one, none, or gone."""
        chance, name = self.chance, self.chance.choice(SERVICES)
        what = chance.random()
        if what < 0.3 and name not in self.watched:
            self.watched[name] = self.feed.enter(name)
        elif what < 0.4 and name in self.watched and len(self.watched) > 1:
            await self.feed.leave(name, self.watched.pop(name))
        elif what < 0.5:
            kind = chance.choice(WHOLE)  # of the others only the incremental protocol can say that they are gone
            self.put(kind, chance.choice(NAMES[kind]), None)
        else:
            kind = chance.choice(KINDS)
            name = chance.choice(NAMES[kind])
            self.put(kind, name, BROKEN[kind](name) if what < 0.6 else self.resource(kind, name))
        if chance.random() < 0.4:
            await self.settle()
        if chance.random() < 0.2:
            await self.clock.advance_async(chance.choice([0.01, 0.1, 1.0, 16.0]))

    async def settle(self):
        for _ in range(30):
            await asyncio.sleep(0)

    async def mend(self):
        """Make everything good that is there, and let all waiting end."""
        for kind in KINDS:
            for name in list(self.there[kind]):
                self.put(kind, name, self.resource(kind, name))
        for _ in range(8):
            await self.settle()
            await self.clock.advance_async(WAIT)
        await self.settle()

    def known(self, key):
        content = self.there[key.kind.value.removeprefix(PREFIX)].get(key.name)
        return Known(absent=True) if content is None else Known(good(key.kind, content))


def end(path):
    """Return what lies at the end of a way."""
    return path.parts, sorted(path.absent, key=str), path.pending, path.refused, path.remarks


@pytest.mark.parametrize("delta", [False, True], ids=["state of the world", "changes"])
@pytest.mark.parametrize("seed", range(10))
async def test_the_ways_end_where_they_would_if_all_were_asked_for_anew(seed, delta):
    world = World(seed, delta=delta)
    world.watched["s0"] = world.feed.enter("s0")
    for _ in range(80):
        await world.step()
    await world.mend()

    assert world.feed.error is None
    needed = dict.fromkeys(KINDS, frozenset())
    for name in world.watched:
        anew = path_of(Key(Kind.LISTENER, name), world.known, name)
        assert end(world.feed.path(name)) == end(anew)
        for key in anew.keys:
            needed[key.kind.value.removeprefix(PREFIX)] |= {key.name}
    assert world.plane.named == needed, "nothing is asked for that nobody needs"
    for name, stale in world.watched.items():
        await world.feed.leave(name, stale)
