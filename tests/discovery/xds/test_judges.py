"""The control plane of the tests is one: gRPC's own client and Envoy understand it, and see what svcmesh sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import svcmesh
from tests.servers.consul_agent import until
from tests.servers.xds import envoy
from tests.servers.xds.resources import (
    ENDPOINTS,
    LISTENER,
    ROUTES,
    assignment,
    endpoint,
    listener,
    place,
    route,
    table,
    to_cluster,
)
from tests.servers.xds.wire import encode

ROOT = Path(__file__).resolve().parents[3]


class Core:
    """gRPC's own client, with two servers that it calls."""

    def __init__(self, process):
        self._process = process
        self.addresses = [f"127.0.0.1:{port}" for port in json.loads(process.stdout.readline())]

    def call(self):
        """Return how many of twenty calls each server took."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        counted = json.loads(self._process.stdout.readline())
        assert isinstance(counted, dict), counted
        return {self.addresses[int(number)]: calls for number, calls in counted.items()}


@contextmanager
def core_client(bootstrap):
    with subprocess.Popen(
        [sys.executable, "-m", "tests.servers.xds.core_client", "2", "orders"],
        cwd=ROOT,
        env=os.environ | {"GRPC_XDS_BOOTSTRAP": str(bootstrap), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Core(process)
        finally:
            process.kill()


def test_grpcs_own_client_and_svcmesh_follow_one_control_plane(plane, uri, tmp_path):
    """From listener to endpoints, as it begins and as it changes; nothing is refused."""
    with core_client(tmp_path / "bootstrap.json") as core, svcmesh.Mesh(uri) as mesh:
        one, two = core.addresses
        plane.put("orders", [one])
        orders = mesh.service("orders")
        orders.wait_ready(30)
        assert set(core.call()) == {one} == {found.address for found in orders.endpoints}

        plane.put("orders", [one, two])
        until(lambda: set(core.call()) == {one, two})
        until(lambda: {found.address for found in orders.endpoints} == {one, two})
        assert {request["agent"] for request in plane.requests if request["node"]} > {"svcmesh"}
        assert plane.refusals() == []


def test_whatever_the_listener_is_called_routes_are_chosen_by_what_is_called(plane, tmp_path):
    bootstrap = plane.bootstrap(
        tmp_path / "bootstrap.json", client_default_listener_resource_name_template="mesh/listener/%s"
    )
    with core_client(bootstrap) as core, svcmesh.Mesh(f"xds:///?bootstrap={bootstrap}") as mesh:
        one, two = core.addresses
        plane.put("elsewhere", [two])
        plane.put("orders", [one])
        hosts = [
            {1: "a", 2: ["mesh/listener/orders"], 3: [route(to_cluster("elsewhere-cluster"))]},
            {1: "b", 2: ["orders"], 3: [route(to_cluster("orders-cluster"))]},
        ]
        plane.serve({ROUTES: {"orders-routes": encode({1: "orders-routes", 2: hosts})}})
        plane.serve({LISTENER: {"mesh/listener/orders": listener("mesh/listener/orders", "orders-routes")}})
        orders = mesh.service("orders")
        orders.wait_ready(30)
        assert core.call() == {one: 20}
        assert {found.address for found in orders.endpoints} == {one}


def test_grpcs_own_client_and_svcmesh_weigh_localities_alike(plane, uri, tmp_path):
    """All calls go where all weight is: a locality without one takes nothing."""
    with core_client(tmp_path / "bootstrap.json") as core, svcmesh.Mesh(uri) as mesh:
        one, two = core.addresses
        plane.put("orders", [one])
        places = [place([one], "a", weight=0), place([endpoint(two, weight=3)], "b", weight=1)]
        plane.serve({ENDPOINTS: {"orders-endpoints": assignment("orders-endpoints", places)}})
        orders = mesh.service("orders")
        orders.wait_ready(30)
        until(lambda: {found.address for found in orders.endpoints} == {two})
        until(lambda: core.call() == {two: 20})
        assert plane.refusals() == []


def test_grpcs_own_client_and_svcmesh_take_and_refuse_the_same_times_and_retries(plane, uri, tmp_path):
    """Who refuses a table goes on with the one before it."""

    def serve(**fields):
        action = to_cluster("orders-cluster") | {int(number[1:]): field for number, field in fields.items()}
        plane.serve({ROUTES: {"orders-routes": encode(table("orders-routes", [route(action)]))}})

    with core_client(tmp_path / "bootstrap.json") as core, svcmesh.Mesh(uri) as mesh:
        one, _ = core.addresses
        plane.put("orders", [one])
        orders = mesh.service("orders")
        orders.wait_ready(30)
        serve(_8={1: 5}, _9={1: "unavailable,5xx", 2: {1: 3}, 8: {1: {2: 50_000_000}}}, _36={1: {1: 4}})
        until(lambda: orders.policy.timeout == 4.0)
        assert orders.policy.retry.max_attempts == 4
        assert core.call() == {one: 20}
        assert plane.refusals() == []

        serve(_9={1: "unavailable", 8: {}})
        until(lambda: len({"begins above 0" in told for told in plane.refusals()}) == 2)  # ours, and gRPC's
        assert core.call() == {one: 20}
        assert orders.policy.timeout == 4.0


@pytest.mark.parametrize("delta", [False, True])
def test_envoy_and_svcmesh_follow_one_control_plane(plane, uri, tmp_path, delta):
    """In both dialects."""
    plane.put("orders", ["127.0.0.1:8001"])
    with envoy.by_ads(tmp_path, plane.port, delta=delta) as judge, svcmesh.Mesh(uri + "&delta" * delta) as mesh:
        orders = mesh.service("orders")
        orders.wait_ready(30)
        for addresses in (["127.0.0.1:8001"], ["127.0.0.1:8002", "127.0.0.1:8003"], ["127.0.0.1:8003"]):
            plane.put("orders", addresses)
            expected = {f"orders-cluster::{address}" for address in addresses}
            until(lambda expected=expected: judge.clusters() - {f"ads::{plane.address}"} == expected)
            until(lambda addresses=addresses: sorted(one.address for one in orders.endpoints) == addresses)
    assert plane.refusals() == []
