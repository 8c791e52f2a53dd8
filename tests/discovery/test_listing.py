"""Endpoints as people list them: every field, and every mistake with the path to it."""

from __future__ import annotations

import datetime as dt

import pytest

from svcmesh.core.endpoint import Endpoint, Health, Locality
from svcmesh.discovery.listing import LARGEST_METADATA, ListingError, describe, endpoints_from


def test_strings_and_mappings_may_be_mixed():
    listed = [
        "a:1",
        {
            "address": "b:1",
            "weight": 2.5,
            "priority": 1,
            "locality": {"region": "eu", "zone": "eu-1", "sub_zone": "r7"},
            "metadata": {"version": "2", "tags": ["x"], "nested": {"deep": None}},
            "health": "degraded",
        },
    ]

    plain, full = endpoints_from(listed)

    assert plain == Endpoint("a:1")
    assert full == Endpoint(
        "b:1",
        weight=2.5,
        priority=1,
        locality=Locality("eu", "eu-1", "r7"),
        metadata={"version": "2", "tags": ["x"], "nested": {"deep": None}},
        health=Health.DEGRADED,
    )


def test_weights_stay_as_they_were_written():
    found = endpoints_from(
        ["a:1", {"address": "b:1"}, {"address": "10.0.0.1:1", "weight": 3}, {"address": "c:1", "weight": 3.0}]
    )

    assert [repr(endpoint.weight) for endpoint in found] == ["1", "1", "3", "3.0"]


def test_an_empty_list_is_a_list():
    assert endpoints_from([]) == ()


@pytest.mark.parametrize(
    ("listed", "path", "told"),
    [
        ({"a": 1}, "", "list.*mapping"),
        ("a:1", "", "list.*text"),
        (["a:1", 7], "[1]", "address or a mapping.*int"),
        (["a"], "[0]", "no port"),
        (["a:1", "a:1"], "[1]", "twice"),
        ([{"weight": 1}], "[0]", "address is missing"),
        ([{"address": 7}], "[0].address", "text"),
        ([{"address": "a:70000"}], "[0].address", "70000"),
        ([{"address": "a:1", "wieght": 2}], "[0].wieght", "unknown key 'wieght'; known are address, weight"),
        ([{"address": "a:1", 7: 2}], "[0].7", "unknown key 7"),
        ([{"address": "a:1", "weight": -1}], "[0].weight", "weight.*-1"),
        ([{"address": "a:1", "weight": float("nan")}], "[0].weight", "nan"),
        ([{"address": "a:1", "weight": 10**400}], "[0].weight", "bits"),
        ([{"address": "a:1", "weight": None}], "[0].weight", "None"),
        ([{"address": "a:1", "priority": True}], "[0].priority", "True"),
        ([{"address": "a:1", "weight": True}], "[0].weight", "True"),
        ([{"address": "a:1", "weight": "1"}], "[0].weight", "'1'"),
        ([{"address": "a:1", "priority": 1.5}], "[0].priority", "1.5"),
        ([{"address": "a:1", "locality": "eu"}], "[0].locality", "region, zone, sub_zone"),
        ([{"address": "a:1", "locality": {"rack": "x"}}], "[0].locality.rack", "unknown key 'rack'"),
        ([{"address": "a:1", "locality": {"zone": 1}}], "[0].locality.zone", "text"),
        ([{"address": "a:1", "health": "sick"}], "[0].health", "healthy, degraded, unhealthy"),
        ([{"address": "a:1", "health": []}], "[0].health", "healthy, degraded, unhealthy"),
        ([{"address": "a:1", "metadata": []}], "[0].metadata", "mapping"),
        ([{"address": "a:1", "metadata": {1: "x"}}], "[0].metadata", "keys"),
        ([{"address": "a:1", "metadata": {"d": dt.date(2026, 1, 2)}}], "[0].metadata", "2026-01-02.*quotes"),
    ],
)
def test_mistakes_have_a_path(listed, path, told):
    with pytest.raises(ListingError, match=told) as caught:
        endpoints_from(listed)

    assert describe(caught.value.path) == path


def test_a_path_begins_where_the_list_stands():
    with pytest.raises(ListingError) as caught:
        endpoints_from(["a"], ("orders",))

    assert describe(caught.value.path) == "orders[0]"


def test_metadata_that_explodes_by_aliases_is_refused():
    """Nine lines of YAML can stand for a billion values; they are shared, so only walking them shows it."""
    bomb: list[object] = ["x"]
    for _ in range(9):
        bomb = [bomb] * 10

    with pytest.raises(ListingError, match=f"more than {LARGEST_METADATA}"):
        endpoints_from([{"address": "a:1", "metadata": {"bomb": bomb}}])


def test_metadata_that_holds_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)

    with pytest.raises(ListingError, match="more than"):
        endpoints_from([{"address": "a:1", "metadata": {"loop": loop}}])
