"""Beyond some watches all share one of the whole registry: as fast, as right, and a single connection."""

from __future__ import annotations

import pytest

import svcmesh
from tests.servers.consul_agent import until
from tests.servers.etcd_process import Etcd, text64


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr("svcmesh.discovery.etcd.backend.MOST_HELD", 2)


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as etcd:
        for number in range(20):
            etcd.put(f"apps/s{number}/1", "127.0.0.1:80")
        yield etcd


def ports(service):
    return sorted(endpoint.port for endpoint in service.endpoints)


def put(*keys):
    return [{"request_put": {"key": text64(key), "value": text64(f"127.0.0.1:{port}")}} for key, port in keys]


def watchers(etcd):
    """Return how many watches etcd has, as its metrics say."""
    import http.client

    connection = http.client.HTTPConnection(etcd.address, timeout=10)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return next(int(line.split()[1]) for line in lines if line.startswith("etcd_debugging_mvcc_watcher_total"))


def test_many_services_are_followed_by_few_watches(etcd):
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        services = [mesh.service(f"s{number}") for number in range(20)]
        for service in services:
            service.wait_ready(30)
        until(lambda: watchers(etcd) == 3)
        etcd.ask("kv/txn", success=put(*((f"apps/s{number}/2", 81) for number in range(20))))
        until(lambda: all(ports(service) == [80, 81] for service in services))
        etcd.delete("apps/s19/1")
        until(lambda: ports(services[19]) == [81])
        assert watchers(etcd) == 3
    until(lambda: watchers(etcd) == 0)


def test_a_service_that_comes_late_is_there_at_once_and_others_are_not_woken(etcd):
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        for number in range(4):
            mesh.service(f"s{number}").wait_ready(30)
        until(lambda: watchers(etcd) == 3)
        mesh.service("s10").wait_ready(30)
        changed = []
        mesh.events.subscribe(lambda event: changed.append(event.service), "endpoints.changed")
        etcd.put("apps/s10/2", "127.0.0.1:81")
        until(lambda: ports(mesh.service("s10")) == [80, 81])
        assert changed == ["s10"]


def test_a_key_beneath_two_services_is_of_both(etcd):
    """A service may be called what is another's prefix, as in Go's package."""
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        for number in range(2):
            mesh.service(f"s{number}").wait_ready(30)
        outer, inner = mesh.service("s9"), mesh.service("s9/v2")
        outer.wait_ready(30)
        etcd.put("apps/s9/v2/1", "127.0.0.1:90")
        until(lambda: ports(inner) == [90])
        until(lambda: ports(outer) == [80, 90])


def test_who_may_not_read_the_whole_registry_watches_its_services_one_by_one(etcd, monkeypatch):
    monkeypatch.setattr("svcmesh.discovery.etcd.errors.SLOWLY", 0.1)
    etcd.ask_for_password("me", "right")
    etcd.forbid()
    for number in range(5):
        beneath = {"key": text64(f"apps/s{number}/"), "range_end": text64(f"apps/s{number}0")}
        etcd.ask("auth/role/grant", name="apps", perm={"permType": "READ", **beneath})
    with svcmesh.Mesh(f"etcd://me:right@{etcd.address}/apps") as mesh:
        for number in range(5):
            mesh.service(f"s{number}").wait_ready(30)
        etcd.put("apps/s4/2", "127.0.0.1:81")
        until(lambda: ports(mesh.service("s4")) == [80, 81])


def test_what_breaks_the_shared_watch_is_told_to_all_and_got_over(etcd):
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        services = [mesh.service(f"s{number}") for number in range(10)]
        for service in services:
            service.wait_ready(30)
        failed = set()
        mesh.events.subscribe(lambda event: failed.add(event.service), "discovery.failed")
        etcd.kill()
        until(lambda: len(failed) == 10)
        assert all(ports(service) == [80] for service in services)
        etcd.start()
        etcd.put("apps/s9/2", "127.0.0.1:81")
        until(lambda: ports(services[9]) == [80, 81])
