"""Resources as plain values: read as their bytes would be, and whatever they are, a resource or a reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh.core.endpoint import Locality
from svcmesh.discovery.elements import Known
from svcmesh.discovery.xds.kinds import AGGREGATE, HTTP_MANAGER, WRAPPED, Kind
from svcmesh.discovery.xds.plain import decode_plain, parse_plain
from tests.discovery.xds import plain
from tests.discovery.xds.decoded import good
from tests.servers.xds import resources
from tests.servers.xds.wire import encode


def read(kind, fields):
    return decode_plain(kind, {"@type": kind.value} | fields)


SAME = [
    (Kind.LISTENER, plain.listener("orders", "t"), resources.listener("orders", "t")),
    (
        Kind.ROUTES,
        plain.routes("t", "c"),
        encode(resources.table("t", [resources.route(resources.to_cluster("c"))])),
    ),
    (Kind.CLUSTER, plain.cluster("c", "e"), resources.cluster("c", "e")),
    (
        Kind.ENDPOINTS,
        plain.assignment("e", "10.0.0.1:80"),
        resources.assignment("e", [{2: [resources.endpoint("10.0.0.1:80")]}]),
    ),
]


@pytest.mark.parametrize(("kind", "fields", "content"), SAME)
def test_a_plain_value_says_what_its_bytes_say(kind, fields, content):
    found = read(kind, fields)

    assert found.why == ""
    assert found.resource == good(kind, content)


def test_a_resource_within_a_resource_is_read_in_both_spellings():
    inner = {"@type": HTTP_MANAGER, "routeConfig": plain.routes("t", "c")}
    listener = read(Kind.LISTENER, {"name": "x", "apiListener": {"apiListener": inner}}).resource
    assert listener.routes.of("x").shares == (("c", 1.0),)
    for outer, within in (("cluster_type", "typed_config"), ("clusterType", "typedConfig")):
        held = {"name": "aggregate", within: {"@type": AGGREGATE, "clusters": ["a", "b"]}}
        assert read(Kind.CLUSTER, {"name": "c", outer: held}).resource.held == ("a", "b")


def test_a_resource_may_stand_in_an_envelope():
    inside = {"@type": Kind.CLUSTER.value} | plain.cluster("c", "e")
    found = decode_plain(Kind.CLUSTER, {"@type": WRAPPED, "name": "c", "version": "7", "resource": inside})

    assert found == read(Kind.CLUSTER, plain.cluster("c", "e"))
    for wrong in (None, 1, {}, {"@type": WRAPPED, "resource": inside}, {"@type": Kind.ROUTES.value}):
        assert decode_plain(Kind.CLUSTER, {"@type": WRAPPED, "resource": wrong}).why


@pytest.mark.parametrize("inner", [{}, {"@type": "x"}, {"@type": HTTP_MANAGER, "rds": 1}, 7, None, []])
def test_a_listener_that_holds_something_else_is_none(inner):
    assert read(Kind.LISTENER, {"name": "x", "api_listener": {"api_listener": inner}}).why


HOSTS = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "::1", "web.example", "a b", "", "\ud800", 7, None])
ADDRESSES = st.fixed_dictionaries(
    {"address": HOSTS, "port_value": st.sampled_from([80, 81, 0, -1, 65536, 80.0, "80", None])},
    optional={"protocol": st.sampled_from(["TCP", "UDP", 0]), "resolver_name": st.just("x")},
)
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "envoy.lb": st.dictionaries(
            st.sampled_from(["a", "hostname", "\ud800"]),
            st.sampled_from(["x", "\udfff", 1, 10**400, 2.5, True, None, [], {"b": 1}]),
            max_size=2,
        )
        | st.sampled_from([None, 1, []]),
        "other": st.just({}),
    },
)
LB_ENDPOINTS = st.fixed_dictionaries(
    {},
    optional={
        "endpoint": st.fixed_dictionaries(
            {},
            optional={
                "address": st.fixed_dictionaries(
                    {"socket_address": ADDRESSES | st.none()}, optional={"pipe": st.just({"path": "/x"})}
                ),
                "hostname": st.sampled_from(["", "pod-1", "\ud800", 1]),
                "health_check_config": st.just({}),
            },
        ),
        "health_status": st.sampled_from(["HEALTHY", "DRAINING", "TIMEOUT", "DEGRADED", "UNKNOWN", "x", 2, None, []]),
        "load_balancing_weight": st.sampled_from([1, 3, 0, -1, 2**32, 1.5, "3", None, True]),
        "loadBalancingWeight": st.just(5),
        "metadata": st.fixed_dictionaries({"filter_metadata": METADATA}) | st.sampled_from([{}, None]),
        "whatever": st.just([1]),
    },
)
USUAL = st.builds(
    lambda one: plain.assignment("e", f"10.0.0.{one}:80")["endpoints"][0]["lb_endpoints"][0], st.integers(1, 9)
)
GROUPS = st.fixed_dictionaries(
    {},
    optional={
        "lb_endpoints": st.lists(USUAL, max_size=3)
        | st.lists(LB_ENDPOINTS | USUAL | st.none(), max_size=3)
        | st.none(),
        "lbEndpoints": st.lists(USUAL, max_size=1),
        "locality": st.just({"zone": "z"}),
        "priority": st.integers(0, 2),
        "load_balancing_weight": st.integers(0, 2),
    },
)
ASSIGNMENTS = st.fixed_dictionaries(
    {"@type": st.just(Kind.ENDPOINTS.value)},
    optional={"cluster_name": st.just("e"), "endpoints": st.lists(GROUPS | st.just(7), max_size=3) | st.just({})},
)


@settings(max_examples=300)
@given(st.lists(ASSIGNMENTS | st.none(), max_size=2))
def test_endpoints_in_json_say_what_their_messages_say(listed):
    text = json.dumps({"resources": listed})
    known = Known()

    for _ in range(2):
        document = parse_plain(Kind.ENDPOINTS, text, "here", known)
        found = [decode_plain(Kind.ENDPOINTS, one) for one in document["resources"]]
        assert found == [decode_plain(Kind.ENDPOINTS, one) for one in json.loads(text)["resources"]]


def test_numbers_in_the_metadata_are_what_a_message_makes_of_them():
    resource = {"@type": Kind.ENDPOINTS.value} | plain.assignment("e", "10.0.0.1:80")
    (one,) = resource["endpoints"][0]["lb_endpoints"]
    one["metadata"] = {"filter_metadata": {"envoy.lb": {"whole": 7, "half": 0.5, "is": True}}}

    (read,) = parse_plain(Kind.ENDPOINTS, json.dumps({"resources": [resource]}), "here")["resources"]
    for found in (read, resource):
        (endpoint,) = decode_plain(Kind.ENDPOINTS, found).resource.endpoints
        assert {key: repr(value) for key, value in endpoint.metadata.items()} == {
            "whole": "7.0",
            "half": "0.5",
            "is": "True",
        }


def test_endpoints_that_are_as_before_are_the_very_same():
    known = Known()

    def hear(*addresses, **more):
        resource = {"@type": Kind.ENDPOINTS.value} | plain.assignment("e", *addresses)
        resource["endpoints"][0] |= more
        document = parse_plain(Kind.ENDPOINTS, json.dumps({"resources": [resource]}), "here", known)
        return decode_plain(Kind.ENDPOINTS, document["resources"][0]).resource.endpoints

    before = hear("10.0.0.1:80", "10.0.0.2:80")
    after = hear("10.0.0.3:80", "10.0.0.2:80")
    assert after[1] is before[1]
    moved = hear("10.0.0.3:80", "10.0.0.2:80", locality={"zone": "z"})
    assert [one.locality for one in moved] == [Locality(zone="z")] * 2


@pytest.mark.parametrize(
    "fields",
    [
        {"health_status": 1e999},
        {"health_status": "\ud800"},
        {"metadata": {"filter_metadata": {"envoy.lb": {"a": 1e999}}}},
        {"metadata": {"filter_metadata": {"envoy.lb": {"a": 10**400}}}},
    ],
    ids=["infinite", "half of a letter", "infinite metadata", "metadata of 400 digits"],
)
def test_what_is_json_and_no_field_of_a_message_is_a_reason(fields):
    assert read(Kind.ENDPOINTS, {"cluster_name": "e", "endpoints": [{"lb_endpoints": [fields]}]}).why


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([1e999, 10**400, "\ud800"]) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["@type", "name", "api_listener", "typed_config", "rds", "virtual_hosts", "routes", "match", "clusters"]
            ),
            inner | st.sampled_from([HTTP_MANAGER, AGGREGATE]),
            max_size=3,
        )
    ),
    max_leaves=8,
)
FIELDS = ["name", "api_listener", "apiListener", "cluster_type", "virtual_hosts", "load_assignment", "type"]


@settings(max_examples=60)
@given(st.sampled_from(Kind), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
def test_any_value_is_a_resource_or_a_reason(kind, fields):
    found = read(kind, fields)

    assert (found.resource is None) == bool(found.why)
