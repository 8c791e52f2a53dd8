"""Whatever the API server does, callers keep their endpoints, are told what is wrong, and see news soon after."""

from __future__ import annotations

import base64
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import trustme

import svcmesh
from svcmesh.discovery.kubernetes import access, backend, client, errors, watch
from tests.discovery.hearing import Calling, Told
from tests.servers.consul_agent import until
from tests.servers.kubernetes import faults
from tests.servers.kubernetes.server import ApiServer
from tests.servers.ports import HeldPort

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    """Let what takes its time by design take less of it."""
    monkeypatch.setattr(errors, "SLOWLY", 0.1)
    monkeypatch.setattr(client, "SLOWLY", 0.1)
    monkeypatch.setattr(watch, "SLOWLY", 0.1)


@pytest.fixture
def api():
    with ApiServer() as api:
        api.put("orders", ["10.0.0.1:8080"])
        yield api


@pytest.fixture
def uri(api, tmp_path):
    return api.kubeconfig(tmp_path / "config")


def hosts(service):
    return sorted(endpoint.host for endpoint in service.endpoints)


WORDS = {
    "401": "answered 401: Unauthorized; the token is unknown",
    "403": "verbs list and watch on endpointslices",
    "404": "answered 404: 404 page not found; is that the address",
    "410": "answered 410: too old resource version",
    "429": "answered 429: Too many requests",
    "500": "answered 500: etcdserver: leader changed",
    "503": "answered 503: service unavailable",
    "504": "answered 504: the server was unable",
    "garbage": "is no JSON",
    "half": "is no JSON",
    "null": "no list of EndpointSlices but None",
    "array": "no list of EndpointSlices but a list",
    "no-version": "no list of EndpointSlices but an object",
    "html": "'text/html' instead of JSON",
    "redirect": "answered 302: moved; redirects are not followed",
    "deep": "nested too deeply",
    "drop": "disconnected",
    "cut": "peer closed connection",
    "huge": "more than 67108864 bytes",
    "freeze": "no answer for 0.3 s",
}
LINES = {
    "line-garbage": "is no JSON",
    "line-half": "ended in the middle of a line",
    "line-unknown": "an event that nobody knows",
    "line-empty-object": "instead of an EndpointSlice",
    "line-bookmark-without-version": "bookmark without version",
    "line-410": "answered 410: too old resource version",
    "line-500": "answered 500: etcdserver: no leader",
    "line-error": "answered 500",
    "line-huge": "a line of more than 8388608 bytes",
    "line-silent": "no answer for 0.3 s",
}


def test_every_fault_is_tested():
    assert set(faults.KINDS) == {*WORDS, *LINES}


@pytest.mark.parametrize(("kind", "verb"), [*((kind, None) for kind in WORDS), *((kind, "watch") for kind in LINES)])
def test_a_fault_takes_nothing_away_and_is_over_with_its_cause(api, uri, kind, verb, monkeypatch):
    with svcmesh.Mesh(uri) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        if "no answer" in (WORDS | LINES)[kind]:
            monkeypatch.setattr(client, "PATIENCE", 0.3)
            monkeypatch.setattr(client, "SILENCE", 0.3)
        told = Told(mesh)
        api.fault(kind, verb)
        api.break_connections()
        until(lambda: any((WORDS | LINES)[kind] in error for error in told.errors()))
        assert all("service orders in namespace prod at http://127.0.0.1" in error for error in told.errors())
        assert hosts(service) == ["10.0.0.1"]

        monkeypatch.undo()
        api.heal()
        api.put("orders", ["10.0.0.1:8080", "10.0.0.2:8080"])
        until(lambda: hosts(service) == ["10.0.0.1", "10.0.0.2"])
        until(lambda: any(event.name == "discovery.recovered" for event in told))


@pytest.mark.parametrize("kind", ["500", "garbage", "drop", "403", "redirect"])
def test_an_api_server_that_is_broken_at_first_is_asked_until_it_is_not(api, uri, kind):
    api.fault(kind)
    with svcmesh.Mesh(uri) as mesh:
        service, told = mesh.service("orders"), Told(mesh)
        with pytest.raises(svcmesh.NoEndpoints):
            service.wait_ready(0.1)
        until(lambda: any(WORDS[kind] in error for error in told.errors()))
        api.heal()
        service.wait_ready(30)


@pytest.mark.parametrize("kind", ["410", "line-410"])
def test_a_version_that_is_forgotten_is_no_failure(api, uri, kind):
    with svcmesh.Mesh(uri) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        until(lambda: len(api.asked("watch")) == 1)
        told = Told(mesh)
        api.fault(kind, "watch", times=1)
        api.break_connections()
        until(lambda: len(api.asked("list")) == 2)
        api.put("orders", ["10.0.0.2:8080"])
        until(lambda: hosts(service) == ["10.0.0.2"])
        assert told.errors() == []


def test_history_that_was_compacted_is_made_up_for_by_a_list(api, uri):
    with svcmesh.Mesh(uri) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        until(lambda: len(api.asked("watch")) == 1)
        told = Told(mesh)
        with api.store.changed:
            api.break_connections()
            api.put("orders", ["10.0.0.2:8080"])
            api.store.compact()
        until(lambda: hosts(service) == ["10.0.0.2"])
        assert told.errors() == []


def test_what_happened_while_a_watch_was_cut_is_not_missed_and_nothing_is_listed_again(api, uri):
    with svcmesh.Mesh(uri) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        told = Told(mesh)
        for number in range(2, 5):
            until(lambda: api.connections >= 1)
            api.break_connections()
            api.put("orders", [f"10.0.0.{number}:8080"])
            until(lambda number=number: hosts(service) == [f"10.0.0.{number}"])
        assert len(api.asked("list")) == 1
        assert told.errors() == []


def test_bookmarks_move_the_version_on(api, uri):
    api.bookmark_every = 0.05
    with svcmesh.Mesh(uri) as mesh:
        mesh.service("orders").wait_ready(30)
        until(lambda: len(api.asked("watch")) == 1)
        api.store.bump()
        version = str(api.store.version)

        def again():
            api.break_connections()
            time.sleep(0.2)
            return api.asked("watch")[-1].query["resourceVersion"] == version

        until(again)
        assert len(api.asked("list")) == 1


def test_a_watch_is_ended_in_time_and_begun_again(api, uri):
    with svcmesh.Mesh(f"{uri}&wait=1s") as mesh:
        mesh.service("orders").wait_ready(30)
        until(lambda: len(api.asked("watch")) >= 3)
        assert api.asked("watch")[0].query["timeoutSeconds"] == "1"
        assert api.asked("watch")[0].query["allowWatchBookmarks"] == "true"
        assert len(api.asked("list")) == 1


def test_many_slices_come_in_pages(api, uri, monkeypatch):
    monkeypatch.setattr(watch, "PAGE", 2)
    api.put("orders", [f"10.0.0.1:{8000 + number}" for number in range(7)])
    with svcmesh.Mesh(uri.replace("?", "{service}:http?")) as mesh:
        mesh.service("orders").wait_ready(30)
        assert len(mesh.service("orders").endpoints) == 7
        assert len(api.asked("list")) == 4


def test_rights_that_are_lost_empty_nothing_and_a_token_that_rotates_is_read_again(api, tmp_path):
    token = tmp_path / "token"
    token.write_text("old")
    api.allowed = {"old": {"list", "watch"}}
    with svcmesh.Mesh(api.kubeconfig(tmp_path / "config", user={"tokenFile": str(token)})) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        told = Told(mesh)
        for allowed, words in (
            ({"old": {"list"}}, "cannot watch resource"),
            ({"old": set()}, "cannot list"),
            ({}, "401"),
        ):
            api.allowed = allowed
            api.break_connections()
            until(lambda words=words: any(words in error for error in told.errors()))
            assert hosts(service) == ["10.0.0.1"]
        api.allowed = {"new": {"list", "watch"}}
        token.write_text("new")
        api.put("orders", ["10.0.0.2:8080"])
        until(lambda: hosts(service) == ["10.0.0.2"])


def test_a_frozen_api_server_is_noticed_by_nobody_who_calls(api, uri):
    with svcmesh.Mesh(uri) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        until(lambda: len(api.asked("watch")) == 1)
        api.fault("freeze")
        api.break_connections()
        until(lambda: len(api.asked("watch")) >= 2)
        began = time.monotonic()
        assert hosts(service) == ["10.0.0.1"]
        mesh.close()
        assert time.monotonic() - began < 10.0, "a request that is under way ends at once"


# -- many, and few connections -------------------------------------------------------------------------------------


def test_beyond_a_number_services_share_a_watch_of_their_namespace(api, uri, monkeypatch):
    monkeypatch.setattr(backend, "MOST_SINGLE", 3)
    for number in range(20):
        api.put(f"s{number}", ["10.0.0.1:80"])
    with svcmesh.Mesh(uri) as mesh:
        services = [mesh.service(f"s{number}") for number in range(20)]
        for service in services:
            service.wait_ready(30)
        until(lambda: len({r.query["labelSelector"] for r in api.asked("watch")}) == 4)
        assert api.connections <= 4
        for number in range(20):
            api.put(f"s{number}", ["10.0.0.2:80"])
        until(lambda: all(hosts(service) == ["10.0.0.2"] for service in services))
        late = mesh.service("s-late")
        with pytest.raises(svcmesh.NoEndpoints):
            late.wait_ready(0.2)
        api.put("s-late", ["10.0.0.9:80"])
        until(lambda: hosts(late) == ["10.0.0.9"])
        assert len(api.asked("list")) == 4

        told = Told(mesh)
        api.fault("500")
        api.break_connections()
        until(lambda: len({event.service for event in told if event.name == "discovery.failed"}) == 21)
        api.heal()
        api.put("s19", ["10.0.0.3:80"])
        until(lambda: hosts(services[19]) == ["10.0.0.3"])
    until(lambda: api.connections == 0)


def test_a_child_watches_by_itself(api, uri):
    with svcmesh.Mesh(uri) as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            service.wait_ready(30)
            os.write(writing, b"ok" if hosts(service) == ["10.0.0.1"] else b"no")
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 10) == b"ok"
        os.close(reading)
        os.close(writing)
        api.put("orders", ["10.0.0.2:8080"])
        until(lambda: hosts(service) == ["10.0.0.2"])


# -- as a pod, and by certificates ---------------------------------------------------------------------------------


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def secure(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ApiServer(tls=context) as api:
        api.put("orders", ["10.0.0.1:8080"])
        yield api


def test_a_pod_needs_no_configuration(secure, authority, tmp_path, monkeypatch):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    (tmp_path / "token").write_text("of-the-pod")
    (tmp_path / "namespace").write_text("prod")
    secure.allowed = {"of-the-pod": {"list", "watch"}}
    host, _, port = secure.address.rpartition(":")
    monkeypatch.setattr(access, "ACCOUNT", str(tmp_path))
    for name, value in (("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with svcmesh.Mesh("k8s://") as mesh:
        service = mesh.service("orders")
        service.wait_ready(30)
        assert hosts(service) == ["10.0.0.1"]


def test_an_authority_that_is_not_trusted_is_an_error(secure, tmp_path):
    with svcmesh.Mesh(secure.kubeconfig(tmp_path / "config")) as mesh:
        told = Told(mesh)
        with pytest.raises(svcmesh.NoEndpoints):
            mesh.service("orders").wait_ready(0.1)
        until(lambda: any("CERTIFICATE_VERIFY_FAILED" in error for error in told.errors()))


def test_a_client_certificate_of_a_kubeconfig_says_who_we_are(authority, tmp_path):
    def encoded(*blobs):
        return base64.b64encode(b"".join(blob.bytes() for blob in blobs)).decode()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.example").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    leaf = authority.issue_cert("me@example")
    user = {
        "client-certificate-data": encoded(*leaf.cert_chain_pems),
        "client-key-data": encoded(leaf.private_key_pem),
    }
    cluster = {"certificate-authority-data": encoded(authority.cert_pem), "tls-server-name": "api.example"}
    with ApiServer(tls=context) as api:
        api.put("orders", ["10.0.0.1:8080"])
        with svcmesh.Mesh(api.kubeconfig(tmp_path / "config", user=user, **cluster)) as mesh:
            mesh.service("orders").wait_ready(30)
            assert hosts(mesh.service("orders")) == ["10.0.0.1"]
        with svcmesh.Mesh(api.kubeconfig(tmp_path / "config", **cluster)) as mesh:
            told = Told(mesh)
            with pytest.raises(svcmesh.NoEndpoints):
                mesh.service("orders").wait_ready(0.1)
            until(told.errors)


# -- a process that is killed --------------------------------------------------------------------------------------


class Process:
    """An API server in a process of its own, that can be killed, frozen and brought back."""

    def __init__(self):
        self._held = HeldPort()
        self.port = self._held.number
        self.start()

    def start(self):
        command = [sys.executable, "-m", "tests.servers.kubernetes.server", str(self.port)]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}"}
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        until(self._ready, 60.0)

    def _ready(self):
        assert self.process.poll() is None
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def put(self, service, *addresses):
        body = {"service": service, "addresses": addresses}
        assert httpx.post(f"http://127.0.0.1:{self.port}/-/put", json=body).status_code == 200

    def kill(self):
        self.process.kill()
        self.process.wait(60)
        self.process.stdin.close()

    def signal(self, which):
        self.process.send_signal(which)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self._held.close()


def test_killing_the_api_server_under_load_costs_no_call(tmp_path):
    with Process() as process:
        process.put("web", "127.0.0.1:8000", "127.0.0.1:8001")
        uri = ApiServer(process.port).kubeconfig(tmp_path / "config")
        with svcmesh.Mesh(uri.replace("?", "{service}:http?")) as mesh:
            service = mesh.service("web")
            until(lambda: len(service.endpoints) == 2)
            with Calling(service, 8000, 8001, 8002) as load:
                process.kill()
                time.sleep(0.3)
                process.start()
                process.put("web", "127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002")
                until(lambda: len(service.endpoints) == 3)
                process.signal(signal.SIGSTOP)
                time.sleep(0.3)
                process.signal(signal.SIGCONT)
                process.put("web", "127.0.0.1:8001")
                until(lambda: len(service.endpoints) == 1)
                until(lambda: load.calls > 50)
            assert load.failed == []
