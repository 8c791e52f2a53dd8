"""What is said on one stream, in virtual time: what is asked together, and when waiting ends."""

from __future__ import annotations

import asyncio

import pytest

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.xds.conversation import Conversation
from svcmesh.discovery.xds.kinds import Key, Kind
from svcmesh.discovery.xds.node import node_of
from svcmesh.discovery.xds.sotw import StateOfTheWorld
from svcmesh.discovery.xds.tree import Tree
from svcmesh.testing import FakeClock
from tests.discovery.xds.line import PREFIX, Line
from tests.servers.xds import resources
from tests.servers.xds.resources import CLUSTER, ENDPOINTS, LISTENER, place
from tests.servers.xds.wire import decode, text


class Talk:
    """A conversation about clusters, under way."""

    def __init__(self):
        self.clock, self.line, self.tree, self.changed = FakeClock(autojump=False), Line(), Tree(Kind.CLUSTER), []
        dialect = StateOfTheWorld(node_of({}))
        self.talk = Conversation(self.line, dialect, self.tree, self._changed, 15.0, self.clock)
        self.task = asyncio.ensure_future(self.talk.hold())

    def want(self, *names):
        for name in names:
            self.talk.want(self.tree.add(name))

    async def settle(self):
        for _ in range(5):
            await asyncio.sleep(0)

    async def end(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def _changed(self, names):
        self.changed += names


@pytest.fixture
async def talk():
    one = Talk()
    yield one
    await one.end()


async def test_what_is_needed_at_the_same_time_is_asked_for_in_one_request(talk):
    talk.want("a", "b", "c")
    await talk.settle()

    assert talk.line.asked(CLUSTER) == [["a", "b", "c"]]
    assert talk.line.asked(ENDPOINTS) == []


async def test_many_who_begin_one_by_one_are_asked_for_in_a_few_requests(talk):
    for number in range(100):
        talk.want(f"c{number:02}")
        await talk.settle()
    soon = len(talk.line.asked(CLUSTER))
    await talk.clock.advance_async(0.1)

    assert 1 < soon <= 20
    assert len(talk.line.asked(CLUSTER)) <= soon + 2
    assert len(talk.line.asked(CLUSTER)[-1]) == 100


async def test_a_response_that_says_what_was_known_wakes_nobody(talk):
    talk.want("a", "b")
    for version in "12":
        talk.line.say(CLUSTER, *(resources.cluster(name) for name in "ab"), version=version)
        await talk.settle()

    assert sorted(talk.changed) == ["a", "b"]
    assert text(decode(talk.line.written[-1]), 1) == "2"


async def test_a_response_is_answered_before_what_follows_from_it_is_asked(talk):
    talk.want("a")
    await talk.settle()
    talk.line.say(CLUSTER, resources.cluster("a", "e"))
    await talk.settle()

    kinds = [text(decode(one), 4) for one in talk.line.written]
    assert kinds == [PREFIX + CLUSTER, PREFIX + CLUSTER, PREFIX + ENDPOINTS]
    assert text(decode(talk.line.written[1]), 5) == "n"
    assert talk.changed == ["a"]


async def test_what_nobody_asked_for_is_not_answered(talk):
    """An answer without names would ask for all the listeners that there are."""
    talk.want("a")
    await talk.settle()
    talk.line.say(LISTENER, resources.listener("x", "t"))
    await talk.settle()

    assert talk.line.asked(LISTENER) == []
    assert talk.line.asked(CLUSTER) == [["a"]]


async def test_what_does_not_come_in_time_does_not_exist_but_may_come_later(talk):
    talk.want("a", "b")
    await talk.settle()
    talk.line.say(CLUSTER, resources.fixed_cluster("a", ["10.0.0.1:80"]))
    await talk.settle()
    await talk.clock.advance_async(14.9)
    await talk.settle()
    assert talk.tree.waits_for(Key(Kind.CLUSTER, "b"))
    await talk.clock.advance_async(0.2)
    await talk.settle()
    assert talk.tree.path("b").absent == [Key(Kind.CLUSTER, "b")]
    talk.line.say(CLUSTER, *(resources.fixed_cluster(name, ["10.0.0.1:80"]) for name in "ab"))
    await talk.settle()
    assert talk.tree.path("b").parts


async def test_each_resource_is_waited_for_from_when_it_is_needed(talk):
    talk.want("a")
    await talk.settle()
    talk.line.say(ENDPOINTS)  # something, so that the control plane is there
    await talk.settle()
    await talk.clock.advance_async(10)
    await talk.settle()
    talk.want("b")
    await talk.clock.advance_async(5.1)
    await talk.settle()
    assert talk.tree.path("a").absent
    assert talk.tree.path("b").pending
    await talk.clock.advance_async(10)
    await talk.settle()
    assert talk.tree.path("b").absent


async def test_a_control_plane_that_says_nothing_has_failed(talk):
    talk.want("a")
    await talk.settle()
    await talk.clock.advance_async(15.1)

    with pytest.raises(DiscoveryError, match="says nothing: no answer for 15 s"):
        await talk.task
    assert talk.tree.path("a").pending


async def test_a_cluster_that_is_missing_from_a_response_is_gone_and_endpoints_are_not(talk):
    talk.want("a", "b")
    await talk.settle()
    talk.line.say(CLUSTER, resources.cluster("a"), resources.cluster("b"))
    for name in "ab":
        talk.line.say(ENDPOINTS, resources.assignment(name, [place(["10.0.0.1:80"])]))
    await talk.settle()
    assert talk.tree.path("a").parts
    assert talk.tree.path("b").parts
    talk.line.say(CLUSTER, resources.cluster("b"))
    await talk.settle()

    assert talk.tree.path("a").absent == [Key(Kind.CLUSTER, "a")]
    assert talk.tree.path("b").parts
    assert talk.line.asked(ENDPOINTS)[-1] == ["b"]


async def test_a_response_with_something_nameless_deletes_nothing(talk):
    """It may be the one that seems to be missing."""
    talk.want("a")
    await talk.settle()
    talk.line.say(CLUSTER, resources.fixed_cluster("a", ["10.0.0.1:80"]))
    talk.line.say(CLUSTER, b"\xff")
    await talk.settle()

    assert talk.tree.path("a").parts
    assert 6 in decode(talk.line.written[-1])


async def test_what_is_not_needed_any_more_is_unsubscribed_from(talk):
    talk.want("a", "b")
    await talk.settle()
    talk.tree.remove("a")
    talk.talk.want(())
    await talk.settle()

    assert talk.line.asked(CLUSTER) == [["a", "b"], ["b"]]
