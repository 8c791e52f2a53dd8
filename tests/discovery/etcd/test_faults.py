"""Whatever etcd does, a mesh keeps what it knew, says what is wrong, and is right again a moment later."""

from __future__ import annotations

import os
import ssl
import time
from contextlib import ExitStack

import pytest
import trustme

import svcmesh
from svcmesh.discovery.etcd import client as etcd_client
from svcmesh.discovery.etcd import errors as etcd_errors
from svcmesh.discovery.etcd import login as etcd_login
from tests.discovery.hearing import Calling, Told
from tests.servers.consul_agent import until
from tests.servers.etcd_process import Etcd, cluster_of, text64


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    """Let what only people can mend be asked again soon, and what does not answer be given up soon."""
    for module in (etcd_errors, etcd_login):
        monkeypatch.setattr(module, "SLOWLY", 0.1)
    monkeypatch.setattr(etcd_client, "PATIENCE", 1.0)


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path, flags=["--experimental-watch-progress-notify-interval", "100ms"]) as etcd:
        etcd.put("apps/orders/1", "127.0.0.1:8001")
        yield etcd


def ports(service):
    return sorted(endpoint.port for endpoint in service.endpoints)


def ready(mesh):
    service = mesh.service("orders")
    service.wait_ready(30)
    return service


# -- one member ----------------------------------------------------------------------------------------------------


def test_an_etcd_that_is_killed_takes_nothing_away_and_is_followed_when_it_is_back(etcd):
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        service, told = ready(mesh), Told(mesh)
        etcd.kill()
        until(lambda: any("cannot connect" in error for error in told.errors()))
        assert ports(service) == [8001]
        etcd.start()
        etcd.put("apps/orders/2", "127.0.0.1:8002")
        until(lambda: ports(service) == [8001, 8002])


def test_a_restart_is_one_change_where_one_thing_changed(etcd):
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        ready(mesh)
        told = Told(mesh)
        etcd.kill()
        etcd.start()
        etcd.put("apps/orders/2", "127.0.0.1:8002")
        until(lambda: ports(mesh.service("orders")) == [8001, 8002])
        changed = [event for event in told if event.name == "endpoints.changed"]
        assert len(changed) == 1


def test_data_that_was_lost_is_noticed(etcd):
    """Its revisions begin anew: a watch from where the old one was would be silent for ever."""
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        service = ready(mesh)
        for number in range(20):
            etcd.put("apps/other/x", str(number))
        etcd.kill()
        etcd.wipe()
        etcd.start()
        etcd.put("apps/orders/2", "127.0.0.1:8002")
        until(lambda: ports(service) == [8002])
        etcd.put("apps/orders/3", "127.0.0.1:8003")
        until(lambda: ports(service) == [8002, 8003])


def test_an_empty_store_empties_nothing_at_once(etcd):
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        service, told = ready(mesh), Told(mesh)
        etcd.kill()
        until(told.errors)
        etcd.wipe()
        etcd.start()
        until(lambda: any(event.name == "discovery.recovered" for event in told))
        assert ports(service) == [8001]


def test_a_frozen_etcd_is_noticed_by_nobody_who_calls(etcd):
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps?wait=1s") as mesh:
        service, told = ready(mesh), Told(mesh)
        etcd.freeze()
        until(lambda: any("no answer for 1 s" in error for error in told.errors()))
        assert ports(service) == [8001]
        etcd.thaw()
        etcd.put("apps/orders/2", "127.0.0.1:8002")
        until(lambda: ports(service) == [8001, 8002])


def test_a_mesh_that_watches_a_frozen_etcd_closes_at_once(etcd):
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        ready(mesh)
        etcd.freeze()
        began = time.monotonic()
    assert time.monotonic() - began < 10.0
    etcd.thaw()


def test_a_history_that_is_gone_when_a_watch_comes_back_is_got_over(etcd):
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        service = ready(mesh)
        told = Told(mesh)
        etcd.kill()
        until(told.errors)
        etcd.start()
        etcd.put("apps/orders/2", "127.0.0.1:8002")
        for number in range(20):
            etcd.put("apps/other/x", str(number))
        etcd.compact()
        until(lambda: ports(service) == [8001, 8002])
        etcd.delete("apps/orders/1")
        until(lambda: ports(service) == [8002])


def test_an_etcd_that_is_down_at_first_is_asked_until_it_is_not(tmp_path):
    with Etcd(tmp_path) as etcd:
        etcd.put("apps/orders/1", "127.0.0.1:8001")
        etcd.kill()
        with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
            with pytest.raises(svcmesh.NoEndpoints):
                mesh.service("orders").wait_ready(0.1)
            etcd.start()
            ready(mesh)


def test_killing_etcd_under_load_costs_no_call(etcd):
    """Servers live on while their registry is killed, frozen and comes back: no call fails, and news arrive."""
    with svcmesh.Mesh(f"etcd://{etcd.address}/web") as mesh:
        registrations = [mesh.register("web", port=8000 + n, host="127.0.0.1", ttl=6.0) for n in range(3)]
        service = mesh.service("web")
        until(lambda: len(service.endpoints) == 3)
        with Calling(service, 8000, 8001, 8002, 8003) as load:
            etcd.kill()
            etcd.wipe()
            time.sleep(0.3)
            etcd.start()
            until(lambda: len(etcd.items("web/web/")) == 3)
            etcd.freeze()
            time.sleep(0.3)
            etcd.thaw()
            fourth = mesh.register("web", port=8003, host="127.0.0.1")
            until(lambda: len(service.endpoints) == 4)
            until(lambda: load.calls > 50)
        assert load.failed == []
        for registration in (*registrations, fourth):
            registration.begin_to_leave()


def test_a_child_watches_by_itself(etcd):
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        service = ready(mesh)
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
        etcd.put("apps/orders/2", "127.0.0.1:8002")
        until(lambda: ports(service) == [8001, 8002])


# -- registration --------------------------------------------------------------------------------------------------


def test_a_registration_outlives_an_etcd_that_lost_it(etcd):
    with (
        svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh,
        mesh.register("web", port=80, host="127.0.0.1", id="a", ttl=1.0) as registration,
    ):
        until(lambda: registration.registered)
        first = etcd.items("apps/web/")["apps/web/a"]["lease"]
        etcd.kill()
        etcd.wipe()
        etcd.start()
        until(lambda: "apps/web/a" in etcd.items("apps/web/"))
        lease = etcd.items("apps/web/")["apps/web/a"]["lease"]
        assert lease != first
        etcd.ask("lease/revoke", ID=lease)
        until(lambda: "apps/web/a" in etcd.items("apps/web/"))
    assert etcd.items("apps/web/") == {}


def test_a_process_that_is_gone_is_gone_with_its_lease(etcd):
    """Nobody has to tell: the key ends with the lease."""
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        registration = mesh.register("web", port=80, host="127.0.0.1", ttl=1.0)
        until(lambda: registration.registered)
    until(lambda: etcd.items("apps/web/") == {})


def test_leaving_an_etcd_that_is_gone_is_bounded(etcd):
    with svcmesh.Mesh(f"etcd://{etcd.address}/apps") as mesh:
        registration = mesh.register("web", port=80, host="127.0.0.1")
        until(lambda: registration.registered)
        etcd.kill()
        began = time.monotonic()
        registration.deregister()
        assert time.monotonic() - began < 20.0  # tries for ever would take for ever


# -- users and passwords -------------------------------------------------------------------------------------------


def test_a_user_with_a_password_finds_and_registers(etcd):
    etcd.ask_for_password("me", "p@ss/word")
    with svcmesh.Mesh(f"etcd://me:p%40ss%2Fword@{etcd.address}/apps") as mesh:
        service = ready(mesh)
        with mesh.register("orders", port=8002, host="127.0.0.1"):
            until(lambda: ports(service) == [8001, 8002])
        until(lambda: ports(service) == [8001])


@pytest.mark.parametrize(
    ("user", "told"),
    [("me:wrong", "authentication failed"), ("nobody:x", "authentication failed"), ("", "user name is empty")],
)
def test_a_wrong_user_is_told_and_asked_for_again(etcd, user, told):
    etcd.ask_for_password("me", "right")
    with svcmesh.Mesh(f"etcd://{user + '@' if user else ''}{etcd.address}/apps") as mesh:
        errors = Told(mesh)
        with pytest.raises(svcmesh.NoEndpoints):
            mesh.service("orders").wait_ready(0.1)
        until(lambda: any(told in error and "ETCDCTL_USER" in error for error in errors.errors()))
        etcd.ask("auth/disable")
        ready(mesh)


def test_a_token_that_was_lost_is_renewed(etcd):
    """A restart may forget it, as some minutes without a question do."""
    etcd.ask_for_password("me", "right")
    with svcmesh.Mesh(f"etcd://me:right@{etcd.address}/apps") as mesh:
        service = ready(mesh)
        with mesh.register("web", port=80, host="127.0.0.1", ttl=1.0) as registration:
            until(lambda: registration.registered)
            etcd.kill()
            etcd.start()
            etcd.token = etcd.ask("auth/authenticate", name="root", password="root")["token"]
            etcd.put("apps/orders/2", "127.0.0.1:8002")
            until(lambda: ports(service) == [8001, 8002])
            etcd.delete("apps/orders/1")
            until(lambda: ports(service) == [8002])
        assert etcd.items("apps/web/") == {}


def test_authentication_may_be_enabled_while_somebody_watches(etcd):
    with svcmesh.Mesh(f"etcd://me:right@{etcd.address}/apps?wait=1s") as mesh:
        service = ready(mesh)
        etcd.ask_for_password("me", "right")
        etcd.put("apps/orders/2", "127.0.0.1:8002")
        until(lambda: ports(service) == [8001, 8002])
        with mesh.register("web", port=80, host="127.0.0.1") as registration:
            until(lambda: registration.registered)


def test_a_lost_permission_empties_nothing(etcd):
    etcd.ask_for_password("me", "right")
    with svcmesh.Mesh(f"etcd://me:right@{etcd.address}/apps") as mesh:
        service, told = ready(mesh), Told(mesh)
        etcd.forbid()
        etcd.kill()
        etcd.start()
        until(lambda: any("permission denied" in error for error in told.errors()))
        assert ports(service) == [8001]
        etcd.token = etcd.ask("auth/authenticate", name="root", password="root")["token"]
        etcd.permit()
        etcd.put("apps/orders/2", "127.0.0.1:8002")
        until(lambda: ports(service) == [8001, 8002])


# -- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client.test")
    server.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    server.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    client.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    context.load_cert_chain(str(tmp_path / "client.pem"))
    files = ["--cert-file", str(tmp_path / "cert.pem"), "--key-file", str(tmp_path / "key.pem")]
    flags = [*files, "--client-cert-auth", "--trusted-ca-file", str(tmp_path / "ca.pem")]
    with Etcd(tmp_path, flags=flags, tls=context) as etcd:
        yield etcd


def test_mutual_tls(secure, tmp_path, monkeypatch):
    secure.put("apps/orders/1", "127.0.0.1:8001")
    monkeypatch.setenv("ETCDCTL_CACERT", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("ETCDCTL_CERT", str(tmp_path / "client.pem"))
    monkeypatch.setenv("ETCDCTL_KEY", str(tmp_path / "client.pem"))
    with svcmesh.Mesh(f"etcd+https://{secure.address}/apps") as mesh:
        service = ready(mesh)
        with mesh.register("orders", port=8002, host="127.0.0.1"):
            until(lambda: ports(service) == [8001, 8002])


def test_an_authority_that_is_not_known_is_refused(secure):
    with svcmesh.Mesh(f"etcd+https://{secure.address}/apps") as mesh:
        told = Told(mesh)
        with pytest.raises(svcmesh.NoEndpoints):
            mesh.service("orders").wait_ready(0.1)
        until(lambda: any("CERTIFICATE_VERIFY_FAILED" in error for error in told.errors()))


# -- several members -----------------------------------------------------------------------------------------------


def test_members_stand_in_for_each_other_and_without_a_leader_nothing_is_taken_away(tmp_path):
    with ExitStack() as stack:
        members = cluster_of(tmp_path, 3, stack)
        members[0].put("apps/orders/1", "127.0.0.1:8001")
        addresses = ",".join(member.address for member in members)
        with svcmesh.Mesh(f"etcd://{addresses}/apps?wait=1s") as mesh:
            service, told = ready(mesh), Told(mesh)
            members[0].freeze()
            until(lambda: written(members[1], "apps/orders/2", "127.0.0.1:8002"))
            until(lambda: ports(service) == [8001, 8002])
            assert told.errors() == [], "another member answered"
            members[0].thaw()

            members[0].kill()
            members[1].kill()
            until(lambda: any("no leader" in error or "timed out" in error for error in told.errors()))
            assert ports(service) == [8001, 8002]
            late(mesh=svcmesh.Mesh(f"etcd://{addresses}/apps"))

            members[1].start()
            until(lambda: written(members[2], "apps/orders/3", "127.0.0.1:8003"))
            until(lambda: ports(service) == [8001, 8002, 8003])


def written(member, key, value):
    """Return whether a key could be put: there may be no leader yet."""
    try:
        return member.try_to_ask("kv/put", key=text64(key), value=text64(value))[0] == 200
    except OSError:
        return False


def late(mesh):
    """Find a service while there is no leader: what a member remembers is better than nothing, and is told of."""
    with mesh:
        told = Told(mesh)
        service = ready(mesh)
        assert ports(service) == [8001, 8002]
        until(lambda: any("no leader" in error for error in told.errors()))
        assert ports(service) == [8001, 8002]
