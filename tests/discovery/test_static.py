"""Written-down endpoints: checked when built, yielded once, believed when empty."""

from __future__ import annotations

import asyncio

import pytest

from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.base import Discovery
from svcmesh.discovery.static import DictDiscovery, StaticDiscovery


async def first(discovery, service):
    snapshots = discovery.watch(service)
    try:
        return await anext(snapshots)
    finally:
        await snapshots.aclose()


async def test_a_list_serves_every_name():
    snapshot = await first(StaticDiscovery(["a:1", Endpoint("b:2", weight=3)]), "anything")

    assert snapshot.endpoints == (Endpoint("a:1"), Endpoint("b:2", weight=3))
    assert snapshot.authoritative


async def test_a_dict_serves_its_names():
    discovery = DictDiscovery({"orders": ["a:1"], "billing": []})

    assert [e.address for e in (await first(discovery, "orders")).endpoints] == ["a:1"]
    assert (await first(discovery, "billing")).endpoints == ()


async def test_an_unknown_name_is_surely_empty():
    snapshot = await first(DictDiscovery({"orders": ["a:1"]}), "nobody")

    assert snapshot.endpoints == ()
    assert snapshot.authoritative


async def test_a_dict_is_read_once():
    services = {"orders": ["a:1"]}
    discovery = DictDiscovery(services)
    services["orders"].append("b:2")

    assert len((await first(discovery, "orders")).endpoints) == 1


@pytest.mark.parametrize("discovery", [StaticDiscovery(["a:1"]), DictDiscovery({"x": ["a:1"]})])
async def test_the_watch_does_not_end(discovery):
    """An end would count as a failure, and be tried again for ever."""
    snapshots = discovery.watch("x")
    await anext(snapshots)
    more = asyncio.ensure_future(anext(snapshots))
    await asyncio.wait([more], timeout=0.01)

    assert not more.done()
    assert isinstance(discovery, Discovery)
    more.cancel()
    await asyncio.wait([more])


@pytest.mark.parametrize(
    ("services", "told"),
    [
        ({"orders": ["a:1", "a:1"]}, "'orders'.*a:1.*twice"),
        ({"orders": ["a"]}, "'orders'.*no port"),
        ({"orders": ["a:0"]}, "'orders'.*port '0'"),
        ({"orders": "a:1"}, "'orders'.*list"),
        ({"orders": Endpoint("a:1")}, "'orders'.*list"),
        ({"orders": {"a:1"}}, "'orders'.*list"),
        ({"orders": [7]}, "'orders'.*7"),
        ({"": ["a:1"]}, "name"),
        ({7: ["a:1"]}, "name.*7"),
    ],
)
def test_mistakes_name_the_service(services, told):
    with pytest.raises(ConfigError, match=told):
        DictDiscovery(services)


def test_what_is_given_needs_no_watch():
    assert StaticDiscovery(["a:1"]).given("any").endpoints == (Endpoint("a:1"),)
    assert DictDiscovery({"orders": ["a:1"]}).given("orders").endpoints == (Endpoint("a:1"),)
    assert DictDiscovery({"orders": ["a:1"]}).given("nobody").authoritative
