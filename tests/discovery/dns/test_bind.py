"""A real name server, BIND: what its zone says is what a mesh calls, as the zone changes, and when BIND fails.

Debian's package is bind9. `.ci/run` installs it, and fails where these tests are skipped.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

import svcmesh
from svcmesh.core.clock import SYSTEM
from svcmesh.discovery.dns import client
from svcmesh.discovery.uri import open_service
from tests.servers.consul_agent import until
from tests.servers.name_server import Bind, bind

pytestmark = pytest.mark.skipif(bind() is None, reason="no BIND: install Debian's bind9, or put named into PATH")

MANY = 60
CONFIG = r"{\"methodConfig\": [{\"name\": [{}], \"timeout\": \"1.5s\"}]}"  # as zones write it
RECORDS = f"""
_grpc_config.web 7 IN TXT "grpc_config=[{{" "\\"serviceConfig\\": {CONFIG}}}]"
a1 7 IN A 127.0.0.11
a2 7 IN A 127.0.0.12
a2 7 IN AAAA ::1
web 60 IN A 127.0.0.11
web 60 IN A 127.0.0.12
both 60 IN A 127.0.0.11
both 60 IN AAAA ::1
alias 60 IN CNAME web
_web._tcp 60 IN SRV 10 60 8081 a1
_web._tcp 60 IN SRV 20 40 8082 a2
_none._tcp 60 IN SRV 0 0 0 .
""" + "".join(
    f"_big._tcp 60 IN SRV 0 1 {9000 + n} host-with-long-name-{n}\nhost-with-long-name-{n} IN A 127.0.1.{n + 1}\n"
    for n in range(MANY)
)


@pytest.fixture(scope="module", params=[False, True], ids=["with-additional", "minimal"])
def zone(request, tmp_path_factory):
    """BIND, once with the addresses of SRV targets in its answers and once without."""
    with Bind(tmp_path_factory.mktemp("bind"), RECORDS, minimal=request.param) as server:
        yield server


@pytest.fixture
def mesh():
    with svcmesh.Mesh({}) as mesh:
        yield mesh


def addresses(service):
    return sorted(endpoint.address for endpoint in service.endpoints)


def watched(mesh, uri):
    service = mesh.service(uri)
    service.wait_ready(10)
    return service


@pytest.mark.parametrize("name", ["web.svc.test", "alias.svc.test", "WEB.svc.test."])
def test_a_name_has_all_its_addresses(zone, mesh, name):
    assert addresses(watched(mesh, f"dns://{zone.address}/{name}:80")) == ["127.0.0.11:80", "127.0.0.12:80"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [("", ["127.0.0.11:80", "[::1]:80"]), ("?family=4", ["127.0.0.11:80"]), ("?family=6", ["[::1]:80"])],
)
def test_both_ip_versions_are_found(zone, mesh, query, expected):
    assert addresses(watched(mesh, f"dns://{zone.address}/both.svc.test:80{query}")) == expected


def test_services_have_priorities_and_weights(zone, mesh):
    service = watched(mesh, f"dns+srv://{zone.address}/_web._tcp.svc.test")

    assert {e.address: (e.priority, e.weight) for e in service.endpoints} == {
        "127.0.0.11:8081": (0, 60),
        "127.0.0.12:8082": (1, 20),
        "[::1]:8082": (1, 20),
    }


def test_the_config_of_a_host_is_asked_for_where_it_is_wanted(zone, mesh):
    service = watched(mesh, f"dns://{zone.address}/web.svc.test:80?grpc_config")
    until(lambda: service.policy.timeout == 1.5)  # endpoints are in force a moment earlier
    assert watched(mesh, f"dns://{zone.address}/web.svc.test:80").policy.timeout == 10.0


@pytest.mark.parametrize("query", ["", "?tcp"])
def test_an_answer_too_large_for_udp_is_whole(zone, mesh, query):
    service = watched(mesh, f"dns+srv://{zone.address}/_big._tcp.svc.test{query}")

    assert len(service.endpoints) == MANY


@pytest.mark.parametrize(
    ("uri", "authoritative"),
    [
        ("dns://{}/no.svc.test:80", False),
        ("dns://{}/_web._tcp.svc.test:80", False),
        ("dns+srv://{}/_no._tcp.svc.test", False),
        ("dns+srv://{}/_none._tcp.svc.test", True),
    ],
)
def test_what_is_not_there_is_empty(zone, uri, authoritative):
    """NXDOMAIN, a name without such records, and a service that is decidedly absent."""

    async def look():
        watch = open_service(uri.format(zone.address), clock=SYSTEM, emit=lambda *_, **__: None).watch("web")
        try:
            return await anext(watch)
        finally:
            await watch.aclose()

    found = asyncio.run(look())
    assert (found.endpoints, found.authoritative) == ((), authoritative)


def test_a_zone_that_is_not_served_is_a_failure(zone, mesh):
    """REFUSED is no empty answer."""
    failed = []
    mesh.events.subscribe(failed.append, "discovery.failed")
    service = mesh.service(f"dns://{zone.address}/web.example.org:80")

    with pytest.raises(svcmesh.NoEndpoints):
        service.wait_ready(0.01)
    until(lambda: failed)
    assert "REFUSED" in failed[0].error


def test_instances_come_and_go(zone, mesh):
    service = watched(mesh, f"dns://{zone.address}/web.svc.test:80?max-ttl=1s")
    zone.update(lambda update: update.add("web", 60, "A", "127.0.0.13"))
    try:
        until(lambda: addresses(service) == ["127.0.0.11:80", "127.0.0.12:80", "127.0.0.13:80"])
    finally:
        zone.update(lambda update: update.delete("web", "A", "127.0.0.13"))
    until(lambda: addresses(service) == ["127.0.0.11:80", "127.0.0.12:80"])


def test_a_refused_connection_has_the_name_asked_for_at_once(zone, mesh):
    """Its time to live is a minute. Nobody listens at the first address."""
    zone.update(lambda update: update.replace("moved", 60, "A", "127.0.0.21"))
    service = watched(mesh, f"dns://{zone.address}/moved.svc.test:1")
    zone.update(lambda update: update.replace("moved", 60, "A", "127.0.0.22"))

    @service.guard(idempotent=True)
    def call(*, endpoint: svcmesh.Endpoint = svcmesh.PICKED) -> str:
        if endpoint.host == "127.0.0.21":
            raise ConnectionRefusedError("nobody there")
        return endpoint.host

    with svcmesh.deadline(10), suppress(svcmesh.SvcmeshError, ConnectionRefusedError):
        call()  # it may be over before the answer is here
    until(lambda: addresses(service) == ["127.0.0.22:1"])
    assert call() == "127.0.0.22"


def test_a_name_server_that_dies_freezes_and_returns_takes_nothing_away(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "LIFETIME", 0.5)
    failed, recovered = [], []
    with Bind(tmp_path, RECORDS) as zone, svcmesh.Mesh({}) as mesh:
        mesh.events.subscribe(failed.append, "discovery.failed")
        mesh.events.subscribe(recovered.append, "discovery.recovered")
        service = watched(mesh, f"dns://{zone.address}/web.svc.test:80?max-ttl=1s")
        zone.freeze()
        until(lambda: failed, 20)
        zone.thaw()
        until(lambda: recovered, 20)
        zone.kill()
        failed.clear()
        recovered.clear()
        until(lambda: failed, 20)
        assert addresses(service) == ["127.0.0.11:80", "127.0.0.12:80"]
        zone.start()
        zone.update(lambda update: update.add("web", 60, "A", "127.0.0.13"))
        until(lambda: len(service.endpoints) == 3, 20)
        assert recovered
