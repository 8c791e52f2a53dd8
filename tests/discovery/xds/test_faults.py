"""Whatever the control plane does, callers keep their endpoints, are told what is wrong, and see news soon after."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import trustme

import svcmesh
from svcmesh.discovery.xds import stream
from tests.servers.consul_agent import until
from tests.servers.xds import resources
from tests.servers.xds.control_plane import ControlPlane
from tests.servers.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from tests.servers.xds.wire import encode, packed


def addresses(service):
    return sorted(endpoint.address for endpoint in service.endpoints)


class Told(list[svcmesh.Event]):
    """What a mesh said."""

    def __init__(self, mesh):
        super().__init__()
        mesh.events.subscribe(self.append)

    def errors(self, name="discovery.failed"):
        return [event.error for event in self if event.name == name]


ONE, TWO = "10.0.0.1:80", "10.0.0.2:80"
BOTH_DIALECTS = pytest.mark.parametrize("dialect", ["", "&delta"])


@BOTH_DIALECTS
def test_a_control_plane_that_is_killed_takes_nothing_away_and_is_asked_until_it_is_back(tmp_path, dialect):
    with ControlPlane() as plane:
        plane.put("orders", [ONE])
        with svcmesh.Mesh(f"xds:///?bootstrap={plane.bootstrap(tmp_path / 'bootstrap.json')}{dialect}") as mesh:
            orders, told = mesh.service("orders"), Told(mesh)
            orders.wait_ready(30)
            plane.kill()
            until(lambda: any("answered UNAVAILABLE" in error for error in told.errors()))
            assert addresses(orders) == [ONE]
            plane.start()
            plane.put("orders", [ONE, TWO])
            until(lambda: addresses(orders) == [ONE, TWO])
            until(lambda: any(event.name == "discovery.recovered" for event in told))


@BOTH_DIALECTS
def test_a_stream_that_is_ended_takes_nothing_away_and_is_begun_again(plane, uri, dialect):
    plane.put("orders", [ONE])
    with svcmesh.Mesh(uri + dialect) as mesh:
        orders, told = mesh.service("orders"), Told(mesh)
        orders.wait_ready(30)
        plane.tell(close=True)
        until(lambda: any("ended the stream" in error for error in told.errors()))
        assert addresses(orders) == [ONE]
        plane.put("orders", [TWO])
        until(lambda: addresses(orders) == [TWO])


def test_a_control_plane_that_is_frozen_takes_nothing_away(plane, uri):
    plane.put("orders", [ONE])
    with svcmesh.Mesh(uri + "&wait=200ms") as mesh:
        orders = mesh.service("orders")
        orders.wait_ready(30)
        plane.freeze()
        began = time.monotonic()
        with pytest.raises(svcmesh.NoEndpoints):
            mesh.service("billing").wait_ready(0.5)
        assert addresses(orders) == [ONE]
        assert time.monotonic() - began < 10
        plane.thaw()
        plane.put("orders", [TWO])
        until(lambda: addresses(orders) == [TWO])
    assert plane.process.poll() is None


@BOTH_DIALECTS
def test_a_control_plane_that_says_nothing_has_failed_and_has_not_said_that_there_is_nothing(plane, uri, dialect):
    plane.tell(mute=True)
    with svcmesh.Mesh(f"{uri}&wait=200ms{dialect}") as mesh:
        orders, told = mesh.service("orders"), Told(mesh)
        with pytest.raises(svcmesh.NoEndpoints):
            orders.wait_ready(0.1)
        until(lambda: any("says nothing: no answer for 0.2 s" in error for error in told.errors()))
        plane.tell(mute=False)
        plane.put("orders", [ONE])
        until(lambda: addresses(orders) == [ONE])


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        ("UNIMPLEMENTED", "is that the address of a control plane"),
        ("UNAUTHENTICATED", "channel_creds"),
        ("PERMISSION_DENIED", "see node in the bootstrap"),
        ("INTERNAL", "as the test wants it"),
    ],
)
def test_a_refusal_is_told_with_what_to_do(plane, uri, status, hint):
    plane.tell(status=status)
    with svcmesh.Mesh(uri) as mesh:
        orders, told = mesh.service("orders"), Told(mesh)
        with pytest.raises(svcmesh.NoEndpoints):
            orders.wait_ready(0.1)
        until(lambda: any(f"answered {status}" in error and hint in error for error in told.errors()))


@BOTH_DIALECTS
def test_bytes_that_are_no_response_end_the_stream_and_nothing_else(plane, uri, dialect):
    plane.put("orders", [ONE])
    with svcmesh.Mesh(uri + dialect) as mesh:
        orders, told = mesh.service("orders"), Told(mesh)
        orders.wait_ready(30)
        plane.send(b"\xff\xff\xff")
        until(lambda: any("is no response of a discovery service" in error for error in told.errors()))
        assert addresses(orders) == [ONE]
        plane.put("orders", [TWO])
        until(lambda: addresses(orders) == [TWO])


def test_a_response_that_is_too_large_is_told(plane, uri, monkeypatch):
    monkeypatch.setattr(stream, "LARGEST", 1024 * 1024)
    plane.put("orders", [ONE])
    with svcmesh.Mesh(uri) as mesh:
        orders, told = mesh.service("orders"), Told(mesh)
        orders.wait_ready(30)
        plane.send(bytes(1024 * 1024 + 1))
        until(lambda: any("RESOURCE_EXHAUSTED" in error for error in told.errors()))
        assert addresses(orders) == [ONE]
        plane.put("orders", [TWO])
        until(lambda: addresses(orders) == [TWO])


BAD = {
    "bytes": (ENDPOINTS, "orders-endpoints", b"\xff"),
    "no address": (ENDPOINTS, "orders-endpoints", resources.assignment("orders-endpoints", [resources.place(["x:0"])])),
    "no API listener": (LISTENER, "orders", encode({1: "orders"})),
    "no routes": (LISTENER, "orders", resources.listener("orders", "")),
    "unknown type": (CLUSTER, "orders-cluster", encode({1: "orders-cluster", 2: 4})),
    "no domains": (ROUTES, "orders-routes", encode({1: "orders-routes", 2: [{1: "host"}]})),
}


@BOTH_DIALECTS
@pytest.mark.parametrize("what", BAD)
def test_a_bad_resource_is_refused_with_a_reason_and_the_last_good_one_stays(plane, uri, dialect, what):
    kind, name, content = BAD[what]
    plane.put("orders", [ONE])
    with svcmesh.Mesh(uri + dialect) as mesh:
        orders = mesh.service("orders")
        orders.wait_ready(30)
        plane.serve({kind: {name: content}})
        until(lambda: bool(plane.refusals()))
        refused = next(request for request in plane.requests if request["refused"])
        assert refused["kind"] == kind
        accepted = [request for request in plane.heard(kind) if request["nonce"] and not request["refused"]]
        assert refused.get("version") == accepted[-1].get("version")  # that of the last one that was good
        assert refused["nonce"] != accepted[-1]["nonce"]
        plane.serve({ENDPOINTS: {"other": resources.assignment("other", [])}})
        assert addresses(orders) == [ONE]

        plane.put("orders", [TWO])
        until(lambda: addresses(orders) == [TWO])


def test_a_bad_resource_takes_no_good_one_with_it(plane, uri):
    """They come in one response, which is refused, and of which what is good is taken."""
    plane.put("orders", [ONE])
    plane.serve({LISTENER: {"billing": encode({1: "billing"})}})
    with svcmesh.Mesh(uri) as mesh:
        billing, orders, told = mesh.service("billing"), mesh.service("orders"), Told(mesh)
        with pytest.raises(svcmesh.NoEndpoints):
            billing.wait_ready(0.1)
        orders.wait_ready(30)
        until(lambda: any("listener 'billing': its api_listener holds ''" in error for error in told.errors()))


def test_a_resource_of_another_type_is_refused(plane, uri):
    plane.put("orders", [ONE])
    with svcmesh.Mesh(uri) as mesh:
        orders = mesh.service("orders")
        orders.wait_ready(30)
        url = "type.googleapis.com/" + ENDPOINTS
        plane.send(encode({1: "9", 2: [packed(LISTENER, b"")], 4: url, 5: "nonce"}))
        until(lambda: bool(plane.refusals()))
        assert "it is of type" in plane.refusals()[0]
        assert addresses(orders) == [ONE]


def test_a_listener_that_is_taken_away_empties_nothing_at_once(plane, uri):
    """It may be that the control plane has lost it: held back like any empty answer."""
    plane.put("orders", [ONE])
    with svcmesh.Mesh(uri) as mesh:
        orders = mesh.service("orders")
        orders.wait_ready(30)
        plane.put("orders", [])
        until(lambda: len(plane.heard(LISTENER)) >= 3)
        assert addresses(orders) == [ONE]
        plane.put("orders", [TWO])
        until(lambda: addresses(orders) == [TWO])


@BOTH_DIALECTS
def test_an_assignment_without_endpoints_is_believed(plane, uri, dialect):
    plane.put("orders", [ONE])
    with svcmesh.Mesh(uri + dialect) as mesh:
        orders = mesh.service("orders")
        orders.wait_ready(30)
        plane.serve({ENDPOINTS: {"orders-endpoints": resources.assignment("orders-endpoints", [])}})
        until(lambda: addresses(orders) == [])


def test_another_server_stands_in_for_one_that_is_away(plane, tmp_path):
    with socket.socket() as away:
        away.bind(("127.0.0.1", 0))  # and does not listen
        creds = [{"type": "insecure"}]
        first = {"server_uri": f"127.0.0.1:{away.getsockname()[1]}", "channel_creds": creds}
        servers = [first, {"server_uri": plane.address, "channel_creds": creds}]
        file = plane.bootstrap(tmp_path / "bootstrap.json", xds_servers=servers)
        plane.put("orders", [ONE])
        with svcmesh.Mesh(f"xds:///?bootstrap={file}") as mesh:
            orders = mesh.service("orders")
            orders.wait_ready(30)
            assert addresses(orders) == [ONE]


def test_tls_with_certificates_of_both_sides(tmp_path):
    authority = trustme.CA()
    ours, theirs = authority.issue_cert("client.test"), authority.issue_cert("127.0.0.1", "localhost")
    files = {name: str(tmp_path / name) for name in ("ca", "key", "cert", "server-key", "server-cert")}
    authority.cert_pem.write_to_path(files["ca"])
    for cert, prefix in ((ours, ""), (theirs, "server-")):
        cert.private_key_pem.write_to_path(files[f"{prefix}key"])
        cert.cert_chain_pems[0].write_to_path(files[f"{prefix}cert"])
    config = {
        "ca_certificate_file": files["ca"],
        "certificate_file": files["cert"],
        "private_key_file": files["key"],
    }
    with ControlPlane(tls=[files["server-key"], files["server-cert"], files["ca"]]) as plane:
        creds = [{"type": "google_default"}, {"type": "tls", "config": config}, {"type": "insecure"}]
        servers = [{"server_uri": f"localhost:{plane.port}", "channel_creds": creds}]
        file = plane.bootstrap(tmp_path / "bootstrap.json", xds_servers=servers)
        plane.put("orders", [ONE])
        with svcmesh.Mesh(f"xds:///?bootstrap={file}") as mesh:
            mesh.service("orders").wait_ready(30)

        (tmp_path / "key").unlink()
        with svcmesh.Mesh(f"xds:///?bootstrap={file}") as mesh:
            orders, told = mesh.service("orders"), Told(mesh)
            with pytest.raises(svcmesh.NoEndpoints):
                orders.wait_ready(0.1)
            until(lambda: any("cannot read" in error for error in told.errors()))


def test_many_services_have_one_stream(plane, uri):
    """And one subscription of each kind, which has all names."""
    names = [f"service-{number}" for number in range(20)]
    for name in names:
        plane.put(name, [ONE])
    with svcmesh.Mesh(uri) as mesh:
        services = [mesh.service(name) for name in names]
        for service in services:
            service.wait_ready(30)
        assert plane.streams == 1
        assert sum(thread.name == "svcmesh-xds" for thread in threading.enumerate()) == 1
        assert plane.heard(ENDPOINTS)[-1]["names"] == sorted(f"{name}-endpoints" for name in names)
        assert plane.refusals() == []
    until(lambda: plane.streams == 0)
