"""A process starts while its registry is away, with what an earlier one knew; by a mesh, its calls and its words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import svcmesh
from svcmesh.testing import FakeConsul
from tests.servers.consul_agent import ConsulProcess, until
from tests.servers.http_process import HttpServer

ROOT = Path(__file__).resolve().parents[1]
HANG = 30.0

CALL = """
import json, sys, time
import svcmesh

began = time.monotonic()
uri, cache, timeout = sys.argv[1], sys.argv[2] or None, float(sys.argv[3])
told = []
with svcmesh.Mesh(uri, cache=cache) as mesh, svcmesh.deadline(timeout):
    mesh.events.subscribe(told.append, "discovery.cached", "config.warning")
    try:
        with mesh.service("orders").http_client() as client:
            answer = client.get("/").status_code
    except svcmesh.SvcmeshError as error:
        answer = str(error)
    seconds = time.monotonic() - began
    state = mesh.state()["services"]["orders"]["discovery"]
    print(json.dumps({
        "answer": answer, "seconds": seconds, "state": state, "explained": mesh.explain("orders"),
        "events": [[event.name, getattr(event, "age", None)] for event in told],
    }))
"""


def call(uri, cache, timeout=60.0):
    """Call ``orders`` by name in a new process; return what it says of it."""
    command = [sys.executable, "-c", CALL, uri, str(cache or ""), str(timeout)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * HANG, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.fixture
def server():
    with HttpServer("orders") as server:
        yield server


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.mark.parametrize("away", ["killed", "frozen"])
def test_a_process_calls_a_live_server_by_name_while_the_registry_is(away, server, cache):
    with ConsulProcess() as consul:
        consul.register("orders", server.port)
        assert call(consul.uri, cache)["answer"] == 200
        consul.kill() if away == "killed" else consul.freeze()

        told = call(consul.uri, cache)
        assert told["answer"] == 200
        assert told["state"]["cached"]
        assert told["state"]["stale_for"] > 0
        assert told["seconds"] < HANG / 2, "a second of patience, and what a start takes"
        assert [name for name, _ in told["events"]] == ["discovery.cached"]
        assert "what a cache knew" in told["explained"]

        without = call(consul.uri, None, timeout=1.0)
        assert "with Mesh(cache=DIRECTORY) a process starts" in without["answer"]


def test_so_it_does_while_the_registry_answers_500(server, cache):
    with FakeConsul() as consul:
        consul.register("orders", port=server.port)
        assert call(consul.uri, cache)["answer"] == 200
        consul.fault("500")

        told = call(consul.uri, cache)
        assert told["answer"] == 200
        assert told["state"]["cached"]
        assert "Mesh(cache=DIRECTORY)" in call(consul.uri, None, timeout=1.0)["answer"]


def test_another_registrys_cache_is_not_taken(server, cache):
    with FakeConsul() as consul, FakeConsul() as other:
        consul.register("orders", port=server.port)
        assert call(consul.uri, cache)["answer"] == 200
        other.fault("500")
        told = call(other.uri, cache, timeout=1.0)

        assert "waiting for its endpoints" in told["answer"]
        assert "Mesh(cache=" not in told["answer"], "there is one"
        assert not told["state"]["cached"]


# -- in one process ----------------------------------------------------------------------------------------------------


class Registry:
    """Lists ``endpoints`` while it is up."""

    identity = "registry of the tests"

    def __init__(self, *endpoints, up=True):
        self.endpoints = endpoints
        self.up = up

    async def watch(self, service):
        import asyncio

        if not self.up:
            raise svcmesh.DiscoveryError("registry down")
        yield svcmesh.Snapshot([svcmesh.Endpoint(address) for address in self.endpoints])
        await asyncio.get_running_loop().create_future()


def fill(cache, *addresses, name="orders"):
    with svcmesh.Mesh(Registry(*addresses), cache=cache) as mesh:
        mesh.service(name).wait_ready(HANG)


def test_what_was_known_is_on_disk_when_the_mesh_is_closed(cache):
    fill(cache, "a:1", "b:1")
    (path,) = cache.iterdir()

    assert path.name.startswith("orders.")
    assert [listed["address"] for listed in json.loads(path.read_text())["endpoints"]] == ["a:1", "b:1"]


def test_ages_count_from_when_it_was_known_until_the_registry_answers(cache):
    fill(cache, "a:1")
    (path,) = cache.iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"saved": time.time() - 7200}))
    registry = Registry("a:1", up=False)
    with svcmesh.Mesh(registry, cache=cache) as mesh:
        told = []
        mesh.events.subscribe(told.append, "discovery.cached")
        orders = mesh.service("orders")
        orders.wait_ready(HANG)
        state = mesh.state()["services"]["orders"]["discovery"]
        assert state["cached"]
        assert 7200 <= state["age"] < 7200 + 2 * HANG
        assert 7200 <= state["stale_for"] < 7200 + 2 * HANG
        assert "no answer yet; it fails: registry down; what a cache knew 72" in mesh.explain("orders")
        until(lambda: told)
        assert 7200 <= told[0].age < 7200 + 2 * HANG

        registry.up = True
        until(lambda: not mesh.state()["services"]["orders"]["discovery"]["cached"])
        assert mesh.state()["services"]["orders"]["discovery"]["stale_for"] == 0.0
        assert "last change 72" in mesh.explain("orders"), "nothing has changed since"
        until(lambda: json.loads(path.read_text())["saved"] > time.time() - 7000)


def test_what_is_in_the_cache_and_wrong_is_a_warning_and_no_more(cache):
    fill(cache, "a:1")
    (path,) = cache.iterdir()
    path.write_bytes(b"{")
    with svcmesh.Mesh(Registry(up=False), cache=cache) as mesh:
        told = []
        mesh.events.subscribe(told.append, "config.warning")
        service = mesh.service("orders")
        with pytest.raises(svcmesh.NoEndpoints):
            service.wait_ready(0)
        until(lambda: "registry down" in mesh.explain("orders"))
        with pytest.raises(svcmesh.NoEndpoints, match="registry down") as caught:
            service.wait_ready(0)
        assert "Mesh(cache=" not in str(caught.value)
        until(lambda: told)

    assert told[0].service == "orders"
    assert str(path) in told[0].error


@pytest.mark.parametrize(
    "discovery", ["static://127.0.0.1:1", {"orders": ["127.0.0.1:1"]}, "local://{directory}/registry"]
)
def test_nothing_is_written_of_what_is_given_or_on_this_machine(discovery, cache, tmp_path):
    if isinstance(discovery, str):
        discovery = discovery.format(directory=tmp_path)
    with (
        svcmesh.Mesh(discovery, cache=cache) as mesh,
        mesh.register("orders", port=1, uri=f"local://{tmp_path}/registry"),
    ):
        mesh.service("orders").wait_ready(HANG)
        assert "svcmesh-cache" not in {thread.name for thread in threading.enumerate()}

    assert list(cache.iterdir()) == []


def test_no_error_recommends_a_cache_where_none_would_help(tmp_path):
    with svcmesh.Mesh(f"local://{tmp_path}/registry") as mesh:
        with pytest.raises(svcmesh.NoEndpoints) as caught:
            mesh.service("orders").wait_ready(0.0)
        assert "cache" not in str(caught.value)
    advice = pytest.raises(svcmesh.NoEndpoints, match=r"with Mesh\(cache=DIRECTORY\)")
    with svcmesh.Mesh(Registry(up=False)) as mesh, advice:
        mesh.service("orders").wait_ready(0.0)


def test_a_service_with_a_registry_of_its_own_is_known_by_that(cache, tmp_path):
    listed = tmp_path / "orders.json"
    listed.write_text('["a:1"]')
    services = {"orders": (f"file://{listed}", svcmesh.Policy())}
    with svcmesh.Mesh(Registry("b:1"), services=services, cache=cache) as mesh:
        mesh.service("orders").wait_ready(HANG)
    listed.unlink()
    with svcmesh.Mesh(Registry("b:1"), services=services, cache=cache) as mesh:
        mesh.service("orders").wait_ready(HANG)
        assert [endpoint.address for endpoint in mesh.service("orders").endpoints] == ["a:1"]


def test_a_uri_as_a_service_leaves_no_secret_on_the_disk(cache):
    with FakeConsul() as consul:
        consul.register("orders", port=1)
        with svcmesh.Mesh("local://", cache=cache) as mesh:
            mesh.service(f"consul://hunter2@{consul.address}/orders").wait_ready(HANG)

    (path,) = cache.iterdir()
    assert "hunter2" not in path.name
    assert "hunter2" not in path.read_text()


def test_a_name_that_no_file_can_have_is_asked_for_as_without_a_cache(cache):
    fill(cache, "a:1", name="x" * 5000)

    assert list(cache.iterdir()) == []


def test_overrides_are_not_remembered(cache, tmp_path, monkeypatch):
    """They are of one start of one process."""
    (tmp_path / "orders.json").write_text('["a:1"]')
    monkeypatch.setenv("SVCMESH_OVERRIDES", f"orders=file://{tmp_path}/orders.json")
    fill(cache, "b:1")

    assert list(cache.iterdir()) == []


def test_a_directory_that_is_not_private_is_refused_when_the_mesh_is_made(cache):
    cache.mkdir(mode=0o755)
    cache.chmod(0o755)

    with pytest.raises(svcmesh.ConfigError, match=f"run chmod 700 {cache}"):
        svcmesh.Mesh("local://", cache=cache)


def test_a_forked_child_goes_on_with_what_its_parent_knew_and_writes_for_itself(cache):
    registry = Registry("a:1")
    with svcmesh.Mesh(registry, cache=cache) as mesh:
        mesh.service("orders").wait_ready(HANG)
        until(lambda: list(cache.glob("orders.*")))  # and not one that is being written
        (path,) = cache.glob("orders.*")
        path.unlink()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                registry.endpoints = ("b:1",)
                orders = mesh.service("orders")
                orders.guard(lambda: None)()
                until(lambda: [e.address for e in orders.endpoints] == ["b:1"])
                mesh.close()
                status = 0 if "b:1" in path.read_text() else 2
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def test_a_mesh_that_is_dropped_leaves_what_it_knew_and_no_thread(cache):
    mesh = svcmesh.Mesh(Registry("a:1"), cache=cache)
    mesh.service("orders").wait_ready(HANG)
    del mesh

    until(lambda: list(cache.glob("orders.*")))
