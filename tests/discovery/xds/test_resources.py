"""Whatever the bytes are: a resource, or a reason why it is none."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any as Packed
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.discovery.xds.assignment import Assignment
from svcmesh.discovery.xds.kinds import WRAPPED, Kind
from svcmesh.discovery.xds.resources import decode
from tests.discovery.xds.decoded import decoded
from tests.servers.xds import resources
from tests.servers.xds.wire import encode, packed

GOOD = [content for named in resources.service("orders", ["10.0.0.1:80"]).values() for content in named.values()]


@given(st.sampled_from(Kind), st.binary(max_size=200))
def test_any_bytes_are_a_resource_or_a_reason(kind, content):
    found = decoded(kind, content)

    assert (found.resource is None) == bool(found.why)


@given(st.sampled_from(Kind), st.sampled_from(GOOD), st.data())
def test_good_bytes_with_some_of_them_changed_are_a_resource_or_a_reason(kind, content, data):
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    found = decoded(kind, bytes(changed))

    assert (found.resource is None) == bool(found.why)


def test_a_resource_may_come_in_an_envelope():
    content = resources.assignment("c", [resources.place(["10.0.0.1:80"])])
    wrapped = encode({2: packed(resources.ENDPOINTS, content)})
    found = decode(Kind.ENDPOINTS, Packed(type_url=WRAPPED, value=wrapped))

    assert isinstance(found.resource, Assignment)
    assert found.name == "c"
    assert decode(Kind.ENDPOINTS, Packed(type_url=WRAPPED, value=b"\xff")).why


def test_one_of_another_type_is_none():
    assert "it is of type 'x'" in decode(Kind.CLUSTER, Packed(type_url="x", value=b"")).why


@pytest.mark.parametrize("kind", Kind)
def test_one_without_a_name_is_none(kind):
    assert decoded(kind, b"").why


def test_one_that_is_broken_within_keeps_its_name():
    """So that it is known whose last good one stays."""
    http = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    found = decoded(Kind.LISTENER, encode({1: "orders", 19: {1: packed(http, b"\xff")}}))

    assert found.name == "orders"
    assert found.why
    found = decoded(Kind.ENDPOINTS, encode({1: "orders", 2: {2: b"\xff"}}))
    assert found.name == "orders"
    assert found.why
