"""Resources as plain values: read as their bytes would be, and whatever they are, a resource or a reason."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh.discovery.xds.kinds import AGGREGATE, HTTP_MANAGER, Kind
from svcmesh.discovery.xds.plain import decode_plain
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


@pytest.mark.parametrize("inner", [{}, {"@type": "x"}, {"@type": HTTP_MANAGER, "rds": 1}, 7, None, []])
def test_a_listener_that_holds_something_else_is_none(inner):
    assert read(Kind.LISTENER, {"name": "x", "api_listener": {"api_listener": inner}}).why


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
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
