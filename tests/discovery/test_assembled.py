"""Backends check fields themselves: what they assemble is what `Endpoint` would take, whatever a registry says."""

from __future__ import annotations

import json
import math
import pickle
from contextlib import suppress
from sys import intern
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.micro.answers import FORMS
from svcmesh import ConfigError, Endpoint
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.consul.entries import decode_service
from svcmesh.discovery.etcd.naming import decode_endpoint
from svcmesh.discovery.kubernetes.endpoints import endpoints_of
from svcmesh.discovery.kubernetes.slices import slice_of
from svcmesh.discovery.listing import endpoint_from
from tests.core.test_endpoint import Text, Weight, Whole

strange = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "10.0.0.1:80", "10.0.0.1", "a:1", "a:0", "[::1]:80", "unix:/a", "eu", "healthy", 10**400])
    | st.sampled_from([Text("10.0.0.1:80"), Weight(2.0), Whole(3), Text("healthy")])
)
anything = strange | st.lists(strange, max_size=2) | st.dictionaries(st.sampled_from("az"), strange, max_size=2)
few = settings(max_examples=30)


def objects(*keys):
    return st.fixed_dictionaries({}, optional=dict.fromkeys(keys, anything))


def check(endpoint):
    """The constructor, which pickle asks, refuses nothing and makes the same of it."""
    again = pickle.loads(pickle.dumps(endpoint))
    assert repr(again) == repr(endpoint)  # for what is not a number is not equal to itself
    assert [type(getattr(again, field)) for field in Endpoint.__slots__] == [
        type(getattr(endpoint, field)) for field in Endpoint.__slots__
    ]
    assert type(endpoint.metadata) is MappingProxyType
    assert all(key is intern(key) for key in endpoint.metadata)


def check_unless(refused, read, *told):
    """Check what is read, unless it is refused: by the backend, not by the constructor."""
    endpoint = None
    with suppress(refused):
        endpoint = read(*told)
    if endpoint is not None:
        check(endpoint)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_registries_say_usually(form):
    found = form.reader()(form.answer(30, 0))

    assert found is not None
    assert len(found.endpoints) == 30
    for endpoint in found.endpoints:
        check(endpoint)


@few
@given(objects("address", "weight", "priority", "metadata", "health", "locality") | strange)
def test_a_list_in_a_file(item):
    check_unless(ConfigError, endpoint_from, item)


@few
@given(objects("region", "zone", "sub_zone"), objects("a", "b"))
def test_an_entry_of_a_file_that_is_right_but_for_some_fields(locality, metadata):
    check_unless(ConfigError, endpoint_from, {"address": "10.0.0.1:80", "locality": locality, "metadata": metadata})


@pytest.mark.parametrize("field", ["weight", "priority"])
@pytest.mark.parametrize("number", [-1, -0.5, 0, 1, 2.5, True, math.nan, math.inf, 10**400, Weight(2.0), Whole(3)])
def test_a_number_in_a_file(field, number):
    check_unless(ConfigError, endpoint_from, {"address": "10.0.0.1:80", field: number})


@pytest.mark.parametrize("address", ["a:1", "a", "a:0", "10.0.0.256:80", "", Text("10.0.0.1:80"), 80, None])
def test_an_address_in_a_file(address):
    check_unless(ConfigError, endpoint_from, {"address": address})


@few
@given(
    st.sampled_from(["10.0.0.1:80", "a:1", "a", "10.0.0.1:99999"]), objects("weight", "tags", "region", "zone", "id")
)
def test_a_value_of_etcd(address, metadata):
    value = json.dumps({"Op": 0, "Addr": address, "Metadata": metadata}, allow_nan=True).encode()
    check_unless(ValueError, decode_endpoint, "1", value)


def _first(body):
    found = decode_service(body).endpoints
    return found[0] if found else None


@few
@given(objects("Address", "Port", "Weights", "Meta", "Tags", "ID", "Locality"), objects("Address", "Meta", "Node"))
def test_an_entry_of_consul(service, node):
    entry = {"Service": {"Address": "10.0.0.1", "Port": 80, **service}, "Node": node, "Checks": []}
    check_unless(DiscoveryError, _first, json.dumps([entry]).encode())


@few
@given(objects("addresses", "conditions", "targetRef", "nodeName", "zone", "hints"))
def test_an_endpoint_of_a_slice(one):
    found = {
        "metadata": {"name": "a", "resourceVersion": "1"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], **one}, {"addresses": ["a:b"]}],
        "ports": [{"port": 80}],
    }
    for endpoint in endpoints_of([slice_of(found)]).endpoints:
        check(endpoint)
