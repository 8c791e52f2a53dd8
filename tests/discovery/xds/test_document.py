"""The file that Envoy's file-based EDS reads."""

from __future__ import annotations

import json
import os
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import svcmesh
from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.core.endpoint import Health, Locality
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.uri import open_discovery, parse, takes_name
from svcmesh.discovery.xds.document import assignments_in
from svcmesh.discovery.xds.kinds import WRAPPED, Kind
from svcmesh.policy.fault import Abort, Fault
from svcmesh.testing import DiscoveryConformance
from tests.discovery.xds import plain
from tests.servers.consul_agent import until
from tests.servers.xds.envoy import Envoy

YAML = b"""
version_info: "1"
resources:
- "@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: orders
  endpoints:
  - locality: {region: eu, zone: eu-1}
    lb_endpoints:
    - endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}
      load_balancing_weight: 3
      metadata: {filter_metadata: {envoy.lb: {version: v2}}}
    - endpoint:
        address: {socket_address: {address: 10.0.0.2, port_value: 80, resolver_name: unread}}
        health_check_config: {port_value: 81}
      health_status: DEGRADED
    - endpoint: {address: {socket_address: {address: 10.0.0.3, port_value: 80}}}
      health_status: DRAINING
  - priority: 1
    lbEndpoints: [{endpoint: {address: {socketAddress: {address: 10.0.0.4, portValue: 80}}}}]
  policy: {overprovisioning_factor: 150}
"""


def assignment(name, *addresses, **more):
    return {"@type": Kind.ENDPOINTS.value} | plain.assignment(name, *addresses, **more)


def document(*resources):
    return json.dumps({"version_info": "1", "resources": list(resources)}).encode()


def read(content, path="eds.json"):
    return assignments_in(content, path)


def test_it_is_read_as_envoy_writes_it_in_both_spellings():
    one, two, four = read(YAML, "eds.yaml")["orders"].endpoints

    assert (one.address, one.weight, one.locality) == ("10.0.0.1:80", 3, Locality("eu", "eu-1"))
    assert one.metadata == {"version": "v2"}
    assert (two.address, two.health) == ("10.0.0.2:80", Health.DEGRADED)
    assert (four.address, four.priority) == ("10.0.0.4:80", 1)


@pytest.mark.parametrize(
    ("percent", "policy"), [(5, {"faults": (Fault(abort=Abort("UNAVAILABLE"), percent=5.0),)}), (0, None), (100, None)]
)
def test_what_is_to_be_dropped_is_a_fault_of_the_policy(percent, policy):
    drops = {"policy": {"drop_overloads": [{"category": "load", "drop_percentage": {"numerator": percent}}]}}
    found = read(document(assignment("orders", "10.0.0.1:80", **drops)))["orders"]

    assert (found.policy, len(found.endpoints), found.authoritative) == (policy, percent < 100, True)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "line 1: Expecting value"),
        (b"[]", "no DiscoveryResponse"),
        (b"{}", "no DiscoveryResponse"),
        (b"\xff", "line 1: not UTF-8"),
        (document(1), r"resources\[0\]: it is no object but int"),
        (document({}), r"resources\[0\]: its @type is 'None' instead of"),
        (document({"@type": Kind.CLUSTER.value}), "its @type is"),
        (document(assignment("a", "10.0.0.1:0")), r"resources\[0\] \('a'\): none of its endpoints can be used"),
        (document(assignment("a", "10.0.0.1:80", "10.0.0.1:80")), "10.0.0.1:80 is listed twice"),
        (document(assignment("a"), assignment("a")), r"resources\[1\]: cluster 'a' stands twice"),
        (document(assignment("")), "it has no name"),
        (document({"@type": Kind.ENDPOINTS.value, "endpoints": 1}), r"resources\[0\]: .*endpoints"),
    ],
)
def test_what_is_wrong_with_it_is_told(content, told):
    with pytest.raises(DiscoveryError, match=told):
        read(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["endpoints", "lb_endpoints", "endpoint", "address", "socket_address", "policy", "metadata", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["endpoints", "cluster_name", "policy", "namedEndpoints"]), JSON))
def test_any_document_is_endpoints_or_an_error(fields):
    with suppress(DiscoveryError):
        read(json.dumps({"resources": [{"@type": Kind.ENDPOINTS.value} | fields]}).encode())


def test_a_uri_names_a_file_and_no_cluster():
    assert takes_name("xds+file:///etc/eds.json")
    for wrong in ("xds+file://host/eds.json", "xds+file:///eds.json?x=1", "xds+file:///", "xds+file:///{x}"):
        with pytest.raises(ConfigError):
            svcmesh.Mesh(wrong)
    assert parse("xds+file:///eds.json").path == "/eds.json"


def put(file, content):
    """Rename a new file over it: Envoy sees nothing else."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    os.rename(new, file)  # noqa: PTH104 - what it is


class TestXdsFile(DiscoveryConformance):
    """The suite for all backends."""

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path):
        self._path = tmp_path / "eds.json"
        self._served = {}

    def open(self):
        return open_discovery(f"xds+file://{self._path}", clock=SYSTEM, emit=silent, environ={})

    def put(self, service, addresses):
        self._served[service] = assignment(service, *addresses)
        put(self._path, document(*self._served.values()))

    def break_registry(self):
        put(self._path, b"{")
        return True

    def mend_registry(self):
        self.put("other", [])


def test_as_many_calls_are_dropped_as_it_says_and_nobody_is_asked_for_them(tmp_path):
    file = tmp_path / "eds.json"
    drops = {"policy": {"drop_overloads": [{"category": "load", "drop_percentage": {"numerator": 50}}]}}
    put(file, document(assignment("orders", "127.0.0.1:8001", **drops)))
    made = []
    with svcmesh.Mesh(f"xds+file://{file}") as mesh:
        orders = mesh.service("orders")
        orders.wait_ready(30)
        ask = orders.guard(lambda: made.append(1))
        for _ in range(400):
            with suppress(svcmesh.FaultInjected):
                ask()

    assert 100 < len(made) < 300  # beyond ten standard deviations


def test_envoy_and_svcmesh_follow_one_file(tmp_path):
    """As it is and as it changes, also in an envelope; a broken one changes nothing for either."""
    file = tmp_path / "eds.json"
    put(file, document(assignment("orders", "127.0.0.1:8001")))
    source = {"resource_api_version": "V3", "path_config_source": {"path": str(file)}}
    cluster = {"name": "orders", "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"eds_config": source}}
    with (
        Envoy(tmp_path, dynamic={}, clusters=[cluster]) as judge,
        svcmesh.Mesh(f"xds+file://{file}") as mesh,
    ):
        orders = mesh.service("orders")
        orders.wait_ready(30)
        for addresses in (["127.0.0.1:8001"], ["127.0.0.1:8002", "127.0.0.1:8003"]):
            put(file, document(assignment("orders", *addresses)))
            until(lambda addresses=addresses: judge.clusters() == {f"orders::{address}" for address in addresses})
            until(lambda addresses=addresses: [one.address for one in orders.endpoints] == addresses)
        put(file, b'{"resources": 1}')
        wrapped = {"@type": WRAPPED, "name": "orders", "resource": assignment("orders", "127.0.0.1:8004")}
        put(file, document(wrapped))
        until(lambda: judge.clusters() == {"orders::127.0.0.1:8004"})
        until(lambda: [one.address for one in orders.endpoints] == ["127.0.0.1:8004"])
