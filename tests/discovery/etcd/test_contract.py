"""What a mesh makes of a real etcd: what is beneath a prefix is found, what is registered is there, as Go has it."""

from __future__ import annotations

import json

import pytest

import svcmesh
from svcmesh.cli.main import main
from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.core.endpoint import Locality
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.uri import open_discovery
from tests.servers.consul_agent import until
from tests.servers.etcd_process import text64


@pytest.fixture
def mesh(etcd):
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        yield mesh


def ports(service):
    return sorted(endpoint.port for endpoint in service.endpoints)


def go_value(port, metadata=None):
    """Return what etcd's Go package writes (`json.Marshal` of `internal.Update`)."""
    return f'{{"Op":0,"Addr":"127.0.0.1:{port}","Metadata":{json.dumps(metadata)}}}'


def test_what_a_go_service_has_registered_is_found(etcd, mesh, name):
    etcd.put(f"apps/{name}/127.0.0.1:8001", go_value(8001))
    etcd.put(f"apps/{name}/two", go_value(8002, {"weight": 3, "region": "eu", "zone": "eu-1", "version": "7"}))
    service = mesh.service(name)
    service.wait_ready(30)

    first, second = service.endpoints
    assert first == svcmesh.Endpoint("127.0.0.1:8001", metadata={"id": "127.0.0.1:8001"})
    assert (second.address, second.weight, second.locality) == ("127.0.0.1:8002", 3, Locality("eu", "eu-1"))
    assert second.metadata["version"] == "7"


def test_changes_are_followed(etcd, mesh, name):
    etcd.put(f"apps/{name}/1", go_value(8001))
    service = mesh.service(name)
    service.wait_ready(30)
    etcd.put(f"apps/{name}/2", go_value(8002))
    until(lambda: ports(service) == [8001, 8002])
    etcd.put(f"apps/{name}/1", go_value(8003))
    until(lambda: ports(service) == [8002, 8003])
    etcd.delete(f"apps/{name}/2")
    until(lambda: ports(service) == [8003])


def test_several_changes_in_one_transaction_are_one(etcd, mesh, name):
    etcd.put(f"apps/{name}/1", go_value(8001))
    service = mesh.service(name)
    service.wait_ready(30)
    seen = []
    mesh.events.subscribe(seen.append, "endpoints.changed")
    puts = [{"request_put": {"key": text64(f"apps/{name}/{n}"), "value": text64(go_value(9000 + n))}} for n in (1, 2)]
    gone = {"request_delete_range": {"key": text64(f"apps/{name}/none")}}
    etcd.ask("kv/txn", success=[*puts, gone])
    until(lambda: ports(service) == [9001, 9002])
    assert len(seen) == 1


def test_a_uri_may_be_of_one_service_or_say_where_the_name_goes(etcd, name):
    etcd.put(f"/v1/{name}/grpc/a", go_value(8001))
    with svcmesh.Mesh(f"etcd://{etcd.address}//v1/{{service}}/grpc") as mesh:
        mesh.service(name).wait_ready(30)
        assert ports(mesh.service(name)) == [8001]
        alone = mesh.service(f"etcd://{etcd.address}//v1/{name}/grpc/")
        alone.wait_ready(30)
        assert ports(alone) == [8001]


def test_values_that_are_no_endpoints_take_no_other_away(etcd, mesh, name):
    etcd.put(f"apps/{name}/good", go_value(8001))
    etcd.put(f"apps/{name}/bad", "{")
    told = []
    mesh.events.subscribe(told.append, "config.warning")
    service = mesh.service(name)
    service.wait_ready(30)
    assert ports(service) == [8001]
    assert f"apps/{name}/bad" in told[0].error
    etcd.put(f"apps/{name}/bad", "127.0.0.1:8002")
    until(lambda: ports(service) == [8001, 8002])


def test_a_service_of_nothing_but_nonsense_is_an_error(etcd, mesh, name):
    etcd.put(f"apps/{name}/bad", "{")
    failed = []
    mesh.events.subscribe(failed.append, "discovery.failed")
    mesh.service(name)
    with pytest.raises(svcmesh.NoEndpoints):
        mesh.service(name).wait_ready(0.1)
    until(lambda: any("is an endpoint" in event.error for event in failed))


def test_a_registration_is_what_go_reads_and_leaves_with_its_lease(etcd, mesh, name):
    locality = Locality("eu", "eu-1")
    with mesh.register(
        name, port=8001, host="127.0.0.1", id="a", tags=["v2"], meta={"team": "x"}, weight=2, locality=locality
    ) as registration:
        until(lambda: registration.registered)
        item = etcd.items(f"apps/{name}/")[f"apps/{name}/a"]
        told = {"weight": 2, "tags": ["v2"], "region": "eu", "zone": "eu-1", "team": "x"}
        assert json.loads(item["value"]) == {"Op": 0, "Addr": "127.0.0.1:8001", "Metadata": told}
        service = mesh.service(name)
        service.wait_ready(30)
        assert service.endpoints[0].metadata["tags"] == ("v2",)
        ttl = int(etcd.ask("lease/timetolive", ID=item["lease"])["grantedTTL"])
        assert ttl == 10
    assert etcd.items(f"apps/{name}/") == {}
    assert etcd.ask("lease/timetolive", ID=item["lease"])["TTL"] == "-1"


@pytest.fixture
def registry(etcd):
    return open_discovery(f"etcd://{etcd.address}/apps", clock=SYSTEM, emit=silent)


async def test_a_lease_that_was_lost_is_granted_again(etcd, registry, name):
    announcement, key = Announcement(name, "a", "127.0.0.1:80"), f"apps/{name}/a"
    await registry.register(announcement)
    lease = etcd.items(f"apps/{name}/")[key]["lease"]
    etcd.ask("lease/revoke", ID=lease)
    assert etcd.items(f"apps/{name}/") == {}
    assert await registry.heartbeat(announcement) is True
    assert etcd.items(f"apps/{name}/")[key]["lease"] != lease
    assert await registry.heartbeat(announcement) is False
    await registry.deregister(announcement)
    await registry.deregister(announcement)
    assert etcd.items(f"apps/{name}/") == {}


async def test_a_key_that_was_deleted_is_put_again_by_a_heartbeat(etcd, registry, name):
    announcement, key = Announcement(name, "a", "127.0.0.1:80"), f"apps/{name}/a"
    await registry.register(announcement)
    etcd.delete(key)
    assert await registry.heartbeat(announcement) is True
    assert key in etcd.items(f"apps/{name}/")
    await registry.deregister(announcement)


async def test_registering_again_keeps_the_lease_unless_it_is_gone(etcd, registry, name):
    announcement, key = Announcement(name, "a", "127.0.0.1:80"), f"apps/{name}/a"
    await registry.register(announcement)
    lease = etcd.items(f"apps/{name}/")[key]["lease"]
    await registry.register(announcement)
    assert etcd.items(f"apps/{name}/")[key]["lease"] == lease
    etcd.ask("lease/revoke", ID=lease)
    await registry.register(announcement)
    assert etcd.items(f"apps/{name}/")[key]["lease"] != lease
    await registry.deregister(announcement)


async def test_draining_takes_the_key_away_and_no_heartbeat_brings_it_back(etcd, registry, name):
    announcement = Announcement(name, "a", "127.0.0.1:80")
    await registry.register(announcement)
    await registry.drain(announcement)
    await registry.heartbeat(announcement)
    assert etcd.items(f"apps/{name}/") == {}
    await registry.register(announcement)
    assert f"apps/{name}/a" in etcd.items(f"apps/{name}/")
    await registry.deregister(announcement)


async def test_an_id_that_another_process_took_stays_with_it(etcd, registry, name):
    """As after a restart under the same id, while the old process is still about to leave."""
    old, new = Announcement(name, "a", "127.0.0.1:80"), Announcement(name, "a", "127.0.0.1:81")
    other = open_discovery(f"etcd://{etcd.address}/apps", clock=SYSTEM, emit=silent)
    await registry.register(old)
    await other.register(new)
    with pytest.raises(svcmesh.DiscoveryError, match="registered again with etcd by somebody else"):
        await registry.heartbeat(old)
    await registry.drain(old)
    await registry.deregister(old)
    assert b":81" in etcd.items(f"apps/{name}/")[f"apps/{name}/a"]["value"]
    await other.heartbeat(new)
    await other.deregister(new)


async def test_a_lease_lives_at_least_as_long_as_was_asked_for(etcd, registry, name):
    announcement = Announcement(name, "a", "127.0.0.1:80", ttl=2.2)
    await registry.register(announcement)
    lease = etcd.items(f"apps/{name}/")[f"apps/{name}/a"]["lease"]
    assert int(etcd.ask("lease/timetolive", ID=lease)["grantedTTL"]) >= 3
    await registry.deregister(announcement)


def test_what_etcd_has_no_word_for_is_refused_at_once(mesh):
    with pytest.raises(svcmesh.ConfigError, match="etcd checks nothing"):
        mesh.register("web", port=80, host="127.0.0.1", check="tcp")
    with pytest.raises(svcmesh.ConfigError, match="weight is said twice"):
        mesh.register("web", port=80, host="127.0.0.1", weight=2, meta={"weight": "3"})


@pytest.mark.parametrize("alone", [True, False])
def test_the_command_line_shows_a_service(etcd, name, alone, capsys):
    etcd.put(f"apps/{name}/1", go_value(8001))
    asked = [f"etcd://{etcd.address}/apps/{name}"] if alone else [f"etcd://{etcd.address}/apps", name]
    assert main(["resolve", *asked]) == 0
    assert "127.0.0.1:8001" in capsys.readouterr().out
