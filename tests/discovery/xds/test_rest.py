"""The REST form of xDS: asked again and again, and as robust as a stream."""

from __future__ import annotations

import json
import socket

import pytest

import svcmesh
from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.uri import open_discovery, takes_name
from svcmesh.discovery.xds.kinds import WRAPPED, Kind
from svcmesh.discovery.xds.rest import PlainWorld
from svcmesh.testing import DiscoveryConformance
from tests.discovery.xds import plain
from tests.servers.consul_agent import until
from tests.servers.xds.envoy import Envoy
from tests.servers.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from tests.servers.xds.rest_server import RestPlane
from tests.servers.xds.sovereign import sovereign

ONE, TWO = "127.0.0.1:8001", "127.0.0.1:8002"
FOUND = {"@type": Kind.ENDPOINTS.value} | plain.assignment("orders", ONE)


@pytest.fixture
def plane():
    with RestPlane() as plane:
        yield plane


@pytest.fixture
def uri(plane):
    return f"xds+http://{plane.address}/?resource=endpoints&every=100ms&id=me&cluster=tests"


def addresses(service):
    return sorted(endpoint.address for endpoint in service.endpoints)


def put(plane, *listed, name="orders"):
    plane.put(ENDPOINTS, name, plain.assignment(name, *listed))


class TestXdsRest(DiscoveryConformance):
    """The suite for all backends."""

    @pytest.fixture(autouse=True)
    def _plane(self, plane, uri):
        self.plane, self.uri = plane, uri + "&wait=1s"

    def open(self):
        return open_discovery(self.uri, clock=SYSTEM, emit=silent, environ={})

    def put(self, service, addresses):
        put(self.plane, *addresses, name=service)

    def test_names_that_nobody_means_well_are_harmless(self):
        """Nobody has to wait for each of them as long as for an honest one."""
        self.uri = self.uri.replace("wait=1s", "wait=100ms")
        super().test_names_that_nobody_means_well_are_harmless()

    def break_registry(self):
        self.plane.fault = 500
        return True

    def mend_registry(self):
        self.plane.fault = None


def test_from_a_listener_to_endpoints(plane):
    plane.put(LISTENER, "orders", plain.listener("orders", "table"))
    plane.put(ROUTES, "table", plain.routes("table", "c"))
    plane.put(CLUSTER, "c", plain.cluster("c", "e"))
    put(plane, ONE, name="e")
    with svcmesh.Mesh(f"xds+http://{plane.address}/?every=100ms") as mesh:
        orders = mesh.service("orders")
        orders.wait_ready(30)
        assert addresses(orders) == [ONE]
        put(plane, TWO, name="e")
        until(lambda: addresses(orders) == [TWO])


def test_what_has_not_changed_is_not_sent_again(plane, uri):
    put(plane, ONE)
    with svcmesh.Mesh(uri) as mesh:
        mesh.service("orders").wait_ready(30)
        until(lambda: sum(request["status"] == 304 for request in plane.requests) >= 3)
    first, second, *_ = plane.requests
    assert (first["version_info"], first["resource_names"]) == ("", ["orders"])
    assert (first["node"]["id"], first["node"]["cluster"]) == ("me", "tests")
    assert second["version_info"] == "2"


@pytest.mark.parametrize(
    ("response", "version", "names"),
    [
        ({"version_info": "7", "resources": [FOUND]}, "7", ["orders"]),
        ({"versionInfo": "7", "resources": [{"@type": WRAPPED, "resource": FOUND}]}, "7", ["orders"]),
        ({"versionInfo": "7"}, "7", []),
        ({"version_info": None, "resources": None}, "", []),
    ],
)
def test_an_answer_is_read_as_json_allows_it_to_be_written(response, version, names):
    said = PlainWorld({}).hear(f"{Kind.ENDPOINTS.value}\n{json.dumps(response)}".encode())

    assert (said.version, [one.name for one in said.found if not one.why]) == (version, names)


@pytest.mark.parametrize(
    "response", [[], 7, {"resources": 1}, {"resources": {}}, {"version_info": 7}, {"versionInfo": []}]
)
def test_what_is_no_answer_is_told(response):
    with pytest.raises(DiscoveryError, match="version_info and resources"):
        PlainWorld({}).hear(f"{Kind.ENDPOINTS.value}\n{json.dumps(response)}".encode())


def test_another_service_is_asked_for_at_once_and_beside_the_others(plane, uri):
    put(plane, ONE)
    put(plane, TWO, name="billing")
    with svcmesh.Mesh(uri.replace("every=100ms", "every=60s")) as mesh:
        for name in ("orders", "billing"):
            mesh.service(name).wait_ready(30)
    assert plane.requests[-1]["resource_names"] == ["billing", "orders"]


def test_a_bad_resource_is_refused_with_a_reason_and_the_last_good_one_stays(plane, uri):
    put(plane, ONE)
    with svcmesh.Mesh(uri) as mesh:
        orders = mesh.service("orders")
        orders.wait_ready(30)
        plane.put(ENDPOINTS, "orders", plain.assignment("orders", "127.0.0.1:0"))
        until(lambda: "error_detail" in plane.requests[-1])
        refused = plane.requests[-1]
        assert refused["version_info"] == "2"  # the last good one
        assert refused["error_detail"]["code"] == 3
        assert "none of its endpoints can be used" in refused["error_detail"]["message"]
        assert addresses(orders) == [ONE]
        put(plane, TWO)
        until(lambda: addresses(orders) == [TWO])


FAULTS = {
    500: "answered 500: as the test wants it",
    404: "knows none of the names",
    b"{": "the answer, line 1",
    b"[]": "is no DiscoveryResponse",
    b'{"resources": 1}': "is no DiscoveryResponse",
    b'{"version_info": 1}': "is no DiscoveryResponse",
    b"\xff": "not UTF-8",
    b"[" * 100_000: "nested too deeply",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_it_answers_takes_nothing_away_and_is_told(plane, uri, fault):
    put(plane, ONE)
    with svcmesh.Mesh(uri) as mesh:
        orders, told = mesh.service("orders"), []
        orders.wait_ready(30)
        mesh.events.subscribe(lambda event: told.append(event.error), "discovery.failed")
        plane.fault = fault
        until(lambda: any(FAULTS[fault] in error for error in told))
        assert addresses(orders) == [ONE]
        plane.fault = None
        put(plane, TWO)
        until(lambda: addresses(orders) == [TWO])


def test_a_page_of_a_proxy_is_no_answer(plane, uri):
    plane.kind_of_answer = "text/html"
    with svcmesh.Mesh(uri) as mesh:
        orders, told = mesh.service("orders"), []
        mesh.events.subscribe(lambda event: told.append(event.error), "discovery.failed")
        with pytest.raises(svcmesh.NoEndpoints):
            orders.wait_ready(0.1)
        until(lambda: any("'text/html' instead of JSON" in error for error in told))


def test_another_server_stands_in_for_one_that_is_away(plane, uri):
    put(plane, ONE)
    with socket.socket() as away:
        away.bind(("127.0.0.1", 0))  # and does not listen
        both = f"127.0.0.1:{away.getsockname()[1]},{plane.address}"
        with svcmesh.Mesh(uri.replace(plane.address, both)) as mesh:
            orders = mesh.service("orders")
            orders.wait_ready(30)
            assert addresses(orders) == [ONE]


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("xds+http:///", "has no port|non-empty"),
        ("xds+http://host/", "has no port"),
        ("xds+http://a:1,/", "non-empty"),
        ("xds+http://me:secret@a:1/", "without a user"),
        ("xds+http://unix:%2Fx/", "reached by host:port"),
        ("xds+http://a:1/?delta", "unknown key 'delta'"),
        ("xds+http://a:1/{x}", "only thing that braces"),
        ("xds+http://a:1/?every=0", "every is a time"),
    ],
)
def test_what_means_nothing_is_an_error(uri, told):
    with pytest.raises(ConfigError, match=told) as caught:
        svcmesh.Mesh(uri)
    assert "secret" not in str(caught.value)


def test_a_uri_with_a_name_stands_for_a_service():
    assert takes_name("xds+https://plane:443/")
    assert not takes_name("xds+https://plane:443/orders")
    found = open_discovery("xds+https://a:1,b:2/orders?cluster=c", clock=SYSTEM, emit=silent, environ={})
    assert found.identity == "xds https://a:1,https://b:2 c LISTENER orders"


def test_envoy_and_svcmesh_follow_one_server(plane, uri, tmp_path):
    put(plane, ONE)
    host, _, port = plane.address.rpartition(":")
    at = {"socket_address": {"address": host, "port_value": int(port)}}
    endpoints = {"cluster_name": "plane", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at}}]}]}
    server = {"name": "plane", "type": "STATIC", "connect_timeout": "5s", "load_assignment": endpoints}
    rest = {
        "api_type": "REST",
        "transport_api_version": "V3",
        "cluster_names": ["plane"],
        "refresh_delay": "0.1s",
        "request_timeout": "5s",
    }
    source = {"resource_api_version": "V3", "api_config_source": rest}
    ours = {"name": "orders", "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"eds_config": source}}
    with Envoy(tmp_path, dynamic={}, clusters=[server, ours]) as judge, svcmesh.Mesh(uri) as mesh:
        orders = mesh.service("orders")
        orders.wait_ready(30)
        for listed in ([ONE], [ONE, TWO], [TWO]):
            put(plane, *listed)
            expected = {f"orders::{address}" for address in listed}
            until(lambda expected=expected: judge.clusters() - {f"plane::{plane.address}"} == expected)
            until(lambda listed=listed: addresses(orders) == listed)


def test_a_control_plane_that_is_not_ours(tmp_path):
    """Also that it takes a second question with the version of its first answer, and knows no other cluster."""
    with sovereign(tmp_path, "orders", [8001, 8002]) as address:
        uri = f"xds+http://{address}/?resource=endpoints&cluster=web&every=100ms"
        with svcmesh.Mesh(uri) as mesh:
            orders, told = mesh.service("orders"), []
            orders.wait_ready(30)
            assert addresses(orders) == [ONE, TWO]
            mesh.events.subscribe(told.append, "discovery.*")
            with pytest.raises(svcmesh.NoEndpoints):
                mesh.service("billing").wait_ready(0.5)
            assert addresses(orders) == [ONE, TWO]
            assert told == []
        with svcmesh.Mesh(uri) as mesh:
            billing = mesh.service("billing")
            mesh.events.subscribe(lambda event: told.append(event.error), "discovery.failed")
            with pytest.raises(svcmesh.NoEndpoints):
                billing.wait_ready(0.1)
            until(lambda: any("answered 404" in error for error in told))
