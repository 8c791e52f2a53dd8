"""Values as etcd's Go package writes them, as people write them, and as nobody should."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.endpoint import Endpoint, Locality
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.etcd.naming import decode_endpoint, encode_endpoint


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"Op":0,"Addr":"10.0.0.5:80","Metadata":null}', Endpoint("10.0.0.5:80", metadata={"id": "a"})),
        ('{"Op":1,"Addr":"10.0.0.5:80"}', Endpoint("10.0.0.5:80", metadata={"id": "a"})),
        ('{"Addr":"[::1]:80","Metadata":"v2"}', Endpoint("[::1]:80", metadata={"id": "a", "metadata": "v2"})),
        ("10.0.0.5:80", Endpoint("10.0.0.5:80", metadata={"id": "a"})),
        ("[::1]:80\n", Endpoint("[::1]:80", metadata={"id": "a"})),
        ('"web.test:80"', Endpoint("web.test:80", metadata={"id": "a"})),
    ],
)
def test_values_that_are_endpoints(value, expected):
    assert decode_endpoint("a", value.encode()) == expected


def test_metadata_may_say_weight_locality_and_tags():
    metadata = {"weight": 2.5, "region": "eu", "zone": "eu-1", "tags": ["x"], "deep": {"a": [1]}, "id": "own"}
    found = decode_endpoint("a", json.dumps({"Addr": "a:1", "Metadata": metadata}).encode())

    assert (found.weight, found.locality) == (2.5, Locality("eu", "eu-1"))
    assert found.metadata == {"region": "eu", "zone": "eu-1", "tags": ("x",), "deep": {"a": [1]}, "id": "own"}


@pytest.mark.parametrize("weight", [-1, "3", True, None, 1e12, [1]])
def test_a_weight_that_is_none_is_just_metadata(weight):
    found = decode_endpoint("a", json.dumps({"Addr": "a:1", "Metadata": {"weight": weight}}).encode())

    assert (found.weight, found.metadata["weight"]) == (1, weight)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"", "address"),
        (b"\xff", "utf-8"),
        (b"orders", "no port"),
        (b"{", "property name"),
        (b'{"Op":0,"Addr":"","Metadata":null}', "no Addr"),
        (b'{"Addr":7}', "no Addr"),
        (b'{"Addr":"a:99999"}', "99999"),
        (b'{"Addr":"a:1","Metadata":NaN}', "NaN is no JSON"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"Addr":"a:1","Metadata":' + b"[" * 40 + b"]" * 40 + b"}", "nested too deeply"),
        (json.dumps({"Addr": "a:1", "Metadata": list(range(2000))}).encode(), "more than 1000 values"),
    ],
)
def test_values_that_are_none_say_why(value, told):
    with pytest.raises(ValueError) as caught:
        decode_endpoint("a", value)
    assert told in str(caught.value)


def test_what_is_announced_is_read_back():
    locality = Locality("eu", "", "rack-1")
    announcement = Announcement(
        "orders", "a", "10.0.0.5:80", tags=("x", "y"), meta={"team": "z"}, weight=2, locality=locality
    )
    found = decode_endpoint("a", encode_endpoint(announcement))

    metadata = {"id": "a", "tags": ("x", "y"), "region": "eu", "sub_zone": "rack-1", "team": "z"}
    assert found == Endpoint("10.0.0.5:80", weight=2, locality=locality, metadata=metadata)


def test_what_is_announced_is_what_go_writes():
    assert encode_endpoint(Announcement("orders", "a", "a:1")) == b'{"Op":0,"Addr":"a:1","Metadata":null}'


@pytest.mark.parametrize(
    ("announcement", "told"),
    [
        (Announcement("orders", "a", "a"), "no port"),
        (Announcement("orders", "a", "a:1", weight=-1), "weight"),
        (Announcement("orders", "a", "a:1", weight=2e9), "weight must be at most 1e\\+09"),
        (Announcement("orders", "a", "a:1", check="/healthz"), "check"),
        (Announcement("orders", "a", "a:1", tags=("x",), meta={"tags": "y"}), "tags is said twice"),
    ],
)
def test_what_cannot_be_announced_is_refused(announcement, told):
    with pytest.raises(ConfigError, match=told):
        encode_endpoint(announcement)


@given(st.binary(max_size=100) | st.text(max_size=100).map(str.encode))
def test_any_bytes_give_an_endpoint_or_a_value_error(value):
    with suppress(ValueError):
        assert isinstance(decode_endpoint("a", value), Endpoint)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["weight", "zone", "region", "tags", "id", "x"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.sampled_from(["a:1", "", "\ud800:1", "[::1]:2"]) | json_values, json_values)
def test_values_that_are_nearly_right_give_an_endpoint_or_a_value_error(address, metadata):
    with suppress(ValueError):
        found = decode_endpoint("a", json.dumps({"Addr": address, "Metadata": metadata}).encode())
        assert found == found  # noqa: PLR0124 - a NaN in it would differ from itself, and be news for ever
        assert repr(found)


def test_what_stands_behind_the_json_makes_it_none():
    with pytest.raises(ValueError, match="something stands behind its JSON"):
        decode_endpoint("one", b'{"Addr": "10.0.0.1:80"} {}')
    assert decode_endpoint("one", b' {"Addr": "10.0.0.1:80"}\n').address == "10.0.0.1:80"
