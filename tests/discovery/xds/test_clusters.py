"""Where the endpoints of a cluster are."""

from __future__ import annotations

import pytest

from svcmesh.discovery.xds.kinds import Kind
from tests.discovery.xds.decoded import decoded, good
from tests.servers.xds import resources
from tests.servers.xds.wire import encode, packed


def test_its_endpoints_are_asked_for_by_its_name_or_by_another():
    assert good(Kind.CLUSTER, resources.cluster("c")).held == "c"
    assert good(Kind.CLUSTER, resources.cluster("c", "e")).held == "e"


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_it_may_have_them_itself_and_names_are_for_dns(kind):
    held = good(Kind.CLUSTER, resources.fixed_cluster("c", ["orders.test:80"], kind)).held

    assert [one.address for one in held.endpoints] == ["orders.test:80"]


def test_it_may_be_made_of_others():
    assert good(Kind.CLUSTER, resources.aggregate("c", "a", "b")).held == ("a", "b")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (encode({1: "c", 2: 4}), "type 4 have no endpoints"),
        (encode({1: "c", 2: 1}), "no load_assignment"),
        (encode({1: "c", 38: {1: "redis", 2: packed("x", {})}}), "'redis' are not known"),
        (resources.aggregate("c"), "made of clusters without names, or of none"),
        (resources.aggregate("c", ""), "made of clusters without names, or of none"),
        (resources.fixed_cluster("c", ["x:0"]), "none of its endpoints"),
    ],
)
def test_one_that_cannot_be_followed_is_refused(content, why):
    found = decoded(Kind.CLUSTER, content)

    assert why in found.why
    assert (found.name, found.resource) == ("c", None)
