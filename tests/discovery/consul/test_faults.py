"""Whatever Consul does, a mesh keeps what it knew, says what is wrong, and is right again a moment later."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from contextlib import aclosing

import pytest
import trustme

import svcmesh
from svcmesh.core.clock import SYSTEM
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.consul import errors as consul_errors
from svcmesh.discovery.consul import rights as consul_rights
from svcmesh.discovery.uri import open_discovery
from svcmesh.testing import FakeConsul
from svcmesh.testing.consul.answers import Request
from svcmesh.testing.consul.faults import KINDS
from tests.discovery.hearing import Calling, Told
from tests.servers.consul_agent import NO_CONSUL, ConsulProcess, real_consul, until
from tests.servers.ports import HeldPort


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    """Let what only people can mend be asked again soon."""
    for module in (consul_errors, consul_rights):
        monkeypatch.setattr(module, "SLOWLY", 0.1)


@pytest.fixture
def consul():
    with HeldPort() as port, FakeConsul(port=port.number) as consul:
        consul.register("orders", port=8001)
        yield consul


def ports(service):
    return sorted(endpoint.port for endpoint in service.endpoints)


def reason(service):
    """Return why a service has no endpoint, once discovery has failed: the first import of httpx takes its time."""
    for _ in range(50):
        with pytest.raises(svcmesh.NoEndpoints) as caught:
            service.wait_ready(0.2)
        if "discovery fails" in str(caught.value) or "discovery lists" in str(caught.value):
            break
    return str(caught.value)


WORDS = {
    "500": "answered 500: rpc error",
    "no-leader": "No cluster leader",
    "403": "answered 403: ACL not found; give it a token",
    "404": "answered 404",
    "429": "answered 429: rate limit",
    "503": "answered 503",
    "garbage": "no JSON",
    "half": "no JSON",
    "object": "no list of instances but an object",
    "null": "no list of instances but None",
    "html": "'text/html' instead of JSON",
    "redirect": "answered 302; redirects are not followed",
    "no-index": "no index",
    "bad-index": "no index",
    "drop": "disconnected",
    "cut": "peer closed connection",
    "huge": "more than 33554432 bytes",
}


@pytest.mark.parametrize("kind", WORDS)
def test_a_fault_takes_nothing_away_and_is_over_with_its_cause(consul, kind):
    with svcmesh.Mesh(consul.uri) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        told = Told(mesh)
        consul.fault(kind)
        consul.break_connections()
        until(lambda: any(WORDS[kind] in error for error in told.errors()))
        assert ports(service) == [8001]

        consul.heal()
        consul.register("orders", port=8002)
        until(lambda: ports(service) == [8001, 8002])
        until(lambda: any(event.name == "discovery.recovered" for event in told))


def test_every_fault_is_tested():
    assert set(KINDS) == {*WORDS, "empty", "spin", "freeze"}


@pytest.mark.parametrize("kind", ["500", "garbage", "drop", "403"])
def test_a_consul_that_is_broken_at_first_is_asked_until_it_is_not(consul, kind):
    consul.fault(kind)
    with svcmesh.Mesh(consul.uri) as mesh:
        service = mesh.service("orders")
        assert WORDS[kind] in reason(service)
        consul.heal()
        service.wait_ready(30)


def test_an_empty_list_with_a_huge_index_empties_nothing_at_once(consul):
    """Nothing will ever be newer than that index: the question is held for its whole wait, and then asked anew."""
    with svcmesh.Mesh(f"{consul.uri}?wait=1s") as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        until(lambda: any("index" in r.query for r in consul.requests))
        consul.fault("empty", times=1)
        consul.break_connections()
        until(lambda: any(r.query.get("index") == [str(2**64 - 1)] for r in consul.requests))
        assert ports(service) == [8001]
        consul.register("orders", port=8002)
        until(lambda: ports(service) == [8001, 8002])


def test_a_consul_that_never_holds_a_question_is_not_asked_without_pause(consul):
    consul.fault("spin")
    with svcmesh.Mesh(consul.uri) as mesh:
        began = time.monotonic()
        mesh.service("orders").wait_ready(30)
        time.sleep(1.0)
        asked = len(consul.requests)
        assert asked < 8 * (time.monotonic() - began)


def test_a_restored_snapshot_is_followed(consul):
    with svcmesh.Mesh(f"{consul.uri}?wait=1s") as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        told = Told(mesh)
        for number in range(2):
            consul.rewind(5 - number)
            consul.register("orders", port=8002 + number)
            until(lambda number=number: len(ports(service)) == 2 + number)
        assert told.errors() == []


def test_a_frozen_consul_is_noticed_by_nobody_who_calls(consul):
    with svcmesh.Mesh(consul.uri) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        consul.fault("freeze")
        consul.bump()
        time.sleep(0.2)
        began = time.monotonic()
        assert ports(service) == [8001]
        mesh.close()
        assert time.monotonic() - began < 10.0, "a watch that is held ends at once"


def test_a_lost_permission_empties_nothing(consul):
    consul.allow({"good": ["service:read", "node:read"]})
    uri = consul.uri.replace("//", "//good@")
    with svcmesh.Mesh(uri) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        told = Told(mesh)
        consul.allow({"good": ["service:read"]})
        consul.bump()
        until(lambda: any("service:read and node:read" in error for error in told.errors()))
        assert ports(service) == [8001]
        consul.allow({})
        consul.bump()
        until(lambda: any("ACL not found" in error for error in told.errors()), 15)
        assert ports(service) == [8001]


def test_who_sends_no_token_is_told_what_he_may_not_see(consul):
    """Consul does not tell him; what does is that he sees no service at all, though the servers are one."""
    consul.allow({"": ["service:read", "node:read"]})
    with svcmesh.Mesh(consul.uri) as mesh:
        service, gone = mesh.service("orders"), mesh.service("gone")
        service.wait_ready(30)
        told = Told(mesh)
        assert "discovery lists none" in reason(gone)
        assert told.errors() == [], "that there is nobody is no error, to him either"
        consul.allow({"": []})
        consul.bump()
        until(lambda: any("service:read and node:read" in error for error in told.errors()))
        assert ports(service) == [8001]


@pytest.mark.parametrize("default", [False, True])
async def test_who_may_see_one_service_alone_believes_that_it_is_empty(consul, default, monkeypatch):
    """By a token of his own, or by the agent's default one: Consul tells him that there are others."""
    consul.allow({"narrow": ["service:read:gone", "node:read"]})
    if default:
        monkeypatch.setattr(Request, "token", "narrow")
    uri = consul.uri if default else consul.uri.replace("//", "//narrow@")
    registry = open_discovery(uri, clock=SYSTEM, emit=lambda *_, **__: None)
    async with aclosing(registry.watch("gone")) as snapshots:
        snapshot = await anext(snapshots)
    assert snapshot.endpoints == ()
    assert not snapshot.authoritative


@pytest.mark.parametrize("query", ["?cached", "?near=_agent", "?query={service}&every=100ms"])
def test_a_permission_that_is_lost_empties_nothing_whoever_answers(consul, query):
    consul.query("orders", "orders")
    consul.allow({"good": ["service:read", "node:read"]})
    with svcmesh.Mesh(consul.uri.replace("//", "//good@") + "/" + query) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        told = Told(mesh)
        consul.allow({"good": []})
        consul.bump()
        until(lambda: any("service:read and node:read" in error for error in told.errors()))
        assert ports(service) == [8001]


def test_a_token_that_rotates_is_read_again(consul, tmp_path):
    file = tmp_path / "token"
    file.write_text("old")
    consul.allow({"old": ["service:read", "node:read"], "new": ["service:read", "node:read"]})
    with svcmesh.Mesh(f"{consul.uri}?token-file={file}") as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        file.write_text("new")
        consul.allow({"new": ["service:read", "node:read"]})
        consul.register("orders", port=8002)
        until(lambda: ports(service) == [8001, 8002])


def test_several_agents_stand_in_for_each_other(consul):
    with FakeConsul() as other:
        other.register("orders", port=9001)
        with svcmesh.Mesh(f"consul://{consul.address},{other.address}") as mesh:
            service = mesh.service("orders")
            service.wait_ready(30)
            assert ports(service) == [8001]
            told = Told(mesh)
            consul.stop()
            until(lambda: ports(service) == [9001])
            assert told.errors() == [], "nobody failed: another one answered"
            other.register("orders", port=9002)
            until(lambda: ports(service) == [9001, 9002])
            consul.start()
            other.stop()
            until(lambda: ports(service) == [8001])


@pytest.mark.parametrize("kind", ["429", "404", "html", "redirect"])
def test_an_agent_that_is_busy_or_whose_proxy_answers_is_passed_over(consul, kind):
    with FakeConsul() as busy:
        busy.fault(kind)
        with svcmesh.Mesh(f"consul://{busy.address},{consul.address}") as mesh:
            service = mesh.service("orders")
            service.wait_ready(30)
            assert ports(service) == [8001]


def test_when_no_agent_answers_all_are_named():
    with svcmesh.Mesh("consul://127.0.0.1:1,127.0.0.1:2") as mesh:
        told = reason(mesh.service("orders"))
    assert "127.0.0.1:1" in told
    assert "127.0.0.1:2" in told


def test_one_connection_per_watch(consul):
    with svcmesh.Mesh(consul.uri) as mesh:
        for number in range(20):
            consul.register(f"s{number}", port=80)
            mesh.service(f"s{number}").wait_ready(30)
        until(lambda: consul.connections == 20)
        for number in range(20):
            consul.register(f"s{number}", port=81)
        until(lambda: all(len(mesh.service(f"s{n}").endpoints) == 2 for n in range(20)))
        assert consul.most_connections <= 21
    until(lambda: consul.connections == 0)


@pytest.mark.parametrize("how", ["socket", "tls"])
def test_a_unix_socket_and_tls_lead_there_too(how, tmp_path, monkeypatch):
    if how == "socket":
        consul = FakeConsul(socket=str(tmp_path / "consul.sock"))
    else:
        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("server.dc1.consul").configure_cert(context)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        consul = FakeConsul(tls=context)
        monkeypatch.setenv("CONSUL_CACERT", str(tmp_path / "ca.pem"))
        monkeypatch.setenv("CONSUL_TLS_SERVER_NAME", "server.dc1.consul")
    with consul:
        consul.register("orders", port=8001)
        with svcmesh.Mesh(consul.uri) as mesh:
            service = mesh.service("orders")
            service.wait_ready(30)
            with mesh.register("web", port=80, host="127.0.0.1"):
                until(lambda: len(consul.instances("web")) == 1)
            assert consul.instances("web") == []
            assert ports(service) == [8001]


def test_files_of_tls_that_are_missing_are_named(monkeypatch):
    monkeypatch.setenv("CONSUL_CACERT", "/nowhere/ca.pem")
    with svcmesh.Mesh("consul+https://127.0.0.1:1") as mesh:
        assert "/nowhere/ca.pem" in reason(mesh.service("orders"))


def test_a_child_watches_by_itself(consul):
    with svcmesh.Mesh(consul.uri) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            service.wait_ready(30)
            os.write(writing, b"ok" if ports(service) == [8001] else b"no")
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 10) == b"ok"
        os.close(reading)
        os.close(writing)
        consul.register("orders", port=8002)
        until(lambda: ports(service) == [8001, 8002])


# -- registration --------------------------------------------------------------------------------------------------


def test_a_registration_that_was_lost_comes_back_and_stays_drained(consul):
    with svcmesh.Mesh(consul.uri) as mesh, mesh.register("web", port=80, host="127.0.0.1", ttl=0.3) as registration:
        until(lambda: registration.registered)
        consul.lose_registrations()
        until(lambda: len(consul.instances("web")) == 1)
        registration.drain()
        until(lambda: _in_maintenance(consul))
        consul.lose_registrations()
        until(lambda: len(consul.instances("web")) == 1 and _in_maintenance(consul))


def _in_maintenance(consul):
    checks = [check for entry in consul.instances("web") for check in entry["Checks"]]
    return any(check["CheckID"].startswith("_service_maintenance") for check in checks)


def test_a_heartbeat_that_fails_is_an_event_and_no_crash(consul):
    with svcmesh.Mesh(consul.uri) as mesh:
        told = Told(mesh)
        with mesh.register("web", port=80, host="127.0.0.1", ttl=0.3) as registration:
            until(lambda: registration.registered)
            consul.fault("500", "/v1/agent/*")
            until(lambda: any(event.name == "registration.lost" and "answered 500" in event.error for event in told))
            consul.heal()
            until(lambda: registration.registered)


async def test_who_registers_by_a_uri_does_so_in_its_namespace_and_partition(consul):
    registry = open_discovery(f"{consul.uri}?ns=team&partition=blue", clock=SYSTEM, emit=lambda *_, **__: None)
    announcement = Announcement("web", "w1", "127.0.0.1:80")
    await registry.register(announcement)
    (entry,) = consul.instances("web")
    assert (entry["Service"]["Namespace"], entry["Service"]["Partition"]) == ("team", "blue")
    async with aclosing(registry.watch("web")) as snapshots:
        assert len((await anext(snapshots)).endpoints) == 1, "who looks by the same URI finds it"

    await registry.heartbeat(announcement)
    await registry.drain(announcement)
    (entry,) = consul.instances("web")
    assert "_service_maintenance:w1" in {check["CheckID"] for check in entry["Checks"]}
    await registry.deregister(announcement)
    assert consul.instances("web") == []


def test_leaving_a_consul_that_is_gone_is_bounded(consul):
    with svcmesh.Mesh(consul.uri) as mesh:
        registration = mesh.register("web", port=80, host="127.0.0.1")
        until(lambda: registration.registered)
        consul.stop()
        began = time.monotonic()
        registration.deregister()
        assert time.monotonic() - began < 20.0  # tries for ever would take for ever


def test_an_agent_that_is_gone_is_replaced_and_both_are_left(consul):
    with FakeConsul() as other, svcmesh.Mesh(f"consul://{consul.address},{other.address}") as mesh:
        with mesh.register("web", port=80, host="127.0.0.1", ttl=3.0) as registration:
            until(lambda: registration.registered)
            assert len(consul.instances("web")) == 1
            consul.stop()
            until(lambda: len(other.instances("web")) == 1)
            consul.start()
        assert consul.instances("web") == []
        assert other.instances("web") == []


async def test_a_registration_goes_on_from_an_agent_that_is_frozen(consul):
    """A frozen agent hangs up on nobody: who gave up on it once with a heartbeat asks others from then on."""
    with FakeConsul() as other, FakeConsul() as third:
        uri = f"consul://{consul.address},{other.address},{third.address}"
        registry = open_discovery(uri, clock=SYSTEM, emit=lambda *_, **__: None)
        announcement = Announcement("web", "w1", "127.0.0.1:80")
        await registry.register(announcement)
        for frozen, next_one in ((consul, other), (other, third)):
            assert len(frozen.instances("web")) == 1
            frozen.fault("freeze")
            await given_up(registry.heartbeat(announcement), frozen)
            assert next_one.instances("web") == []
            await registry.heartbeat(announcement)
            assert len(next_one.instances("web")) == 1
        await registry.drain(announcement)
        await registry.deregister(announcement)
        assert third.instances("web") == [], "leaving does not wait for who is frozen"
        third.stop()
        consul.heal()
        await registry.register(announcement)
        assert len(consul.instances("web")) == 1


async def test_an_agent_that_is_frozen_at_first_is_given_up_the_second_time(consul):
    """Not the first time: the first question of a process is late by itself."""
    with FakeConsul() as frozen:
        frozen.fault("freeze")
        registry = open_discovery(
            f"consul://{frozen.address},{consul.address}", clock=SYSTEM, emit=lambda *_, **__: None
        )
        announcement = Announcement("web", "w1", "127.0.0.1:80")
        for _ in range(2):
            await given_up(registry.register(announcement), frozen)
        await registry.register(announcement)
        assert len(consul.instances("web")) == 1
        await registry.deregister(announcement)
        assert consul.instances("web") == []


async def given_up(asking, agent):
    """Ask, and give up once an agent was asked."""
    before, task = len(agent.requests), asyncio.ensure_future(asking)
    async with asyncio.timeout(30):
        while len(agent.requests) == before:  # noqa: ASYNC110 - a look at the server from outside
            await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_right_that_is_missing_to_look_after_an_own_check_is_no_loss(consul):
    """With a check that Consul makes itself, the heartbeat only looks; where it may not, it registers again."""
    consul.allow({"mine": ["service:write"]})
    registry = open_discovery(consul.uri.replace("//", "//mine@"), clock=SYSTEM, emit=lambda *_, **__: None)
    announcement = Announcement("web", "w1", "127.0.0.1:80", check="tcp")
    await registry.register(announcement)
    await registry.heartbeat(announcement)
    consul.call(lambda: consul._agent.deregister("w1"))
    await registry.heartbeat(announcement)
    assert len(consul.instances("web")) == 1
    await registry.drain(announcement)
    await registry.deregister(announcement)
    await registry.deregister(announcement)
    assert consul.instances("web") == []


# -- a process that is killed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["fake", "real"])
def test_killing_consul_under_load_costs_no_call(which):
    """Servers live on while their registry is killed, frozen and comes back empty: no call fails, and news arrive."""
    binary = real_consul()
    if which == "real" and binary is None:
        pytest.skip(NO_CONSUL)
    with ConsulProcess(binary if which == "real" else None) as consul, svcmesh.Mesh(consul.uri) as mesh:
        registrations = [mesh.register("web", port=8000 + n, host="127.0.0.1", ttl=6.0) for n in range(3)]
        service = mesh.service("web")
        until(lambda: len(service.endpoints) == 3)
        with Calling(service, 8000, 8001, 8002, 8003) as load:
            consul.kill()
            time.sleep(0.3)
            consul.start()
            until(lambda: len(consul.health("web")[1]) == 3)
            consul.freeze()
            time.sleep(0.3)
            consul.thaw()
            fourth = mesh.register("web", port=8003, host="127.0.0.1")
            until(lambda: len(service.endpoints) == 4)
            until(lambda: load.calls > 50)
        assert load.failed == []
        for registration in (*registrations, fourth):
            registration.begin_to_leave()
