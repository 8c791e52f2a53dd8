"""What answers on etcd's port may be anything: it takes nothing away, is told in words, and is over with its cause."""

from __future__ import annotations

import base64
from contextlib import aclosing

import pytest

import svcmesh
from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.discovery.etcd import client as etcd_client
from svcmesh.discovery.etcd import errors as etcd_errors
from svcmesh.discovery.uri import open_discovery
from tests.servers.bad_etcd import BadEtcd, respond
from tests.servers.consul_agent import until

HEADER = {"cluster_id": "1", "revision": "5"}


def text64(text):
    return base64.b64encode(text.encode()).decode()


KV = {"key": text64("apps/orders/a"), "mod_revision": "3", "value": text64("127.0.0.1:8001")}
GOOD = respond({"header": HEADER, "kvs": [KV], "count": "1"})
NO_LEADER = {"error": "etcdserver: no leader", "code": 14, "message": "etcdserver: no leader"}

KINDS = {
    "500": (respond(b"oh no", "500 Internal Server Error"), "answered 500: oh no"),
    "503": (respond(NO_LEADER, "503 Service Unavailable"), "etcdserver: no leader"),
    "429": (respond(b"slow down", "429 Too Many Requests"), "answered 429: slow down"),
    "404": (respond(b"Not Found", "404 Not Found", "text/plain"), "gRPC gateway"),
    "redirect": (respond(b"", "302 Found"), "redirects are not followed"),
    "html": (respond(b"<html>", kind="text/html"), "'text/html' instead of JSON"),
    "garbage": (respond(b"\x00\xff" * 100), "no JSON"),
    "half": (respond(b'{"header":{"cluster_id":"1"'), "no JSON"),
    "cut": (respond(b'{"header":{"cluster_id":"1"', missing=100), "peer closed"),
    "deep": (respond(b"[" * 200_000), "nested too deeply"),
    "null": (respond(b"null"), "no object but None"),
    "no-header": (respond(b"{}"), "no header"),
    "nothing": (b"", "disconnected"),
    "no-http": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "illegal"),
    "silent": (None, "no answer for 1 s"),
    "huge": (respond(b" " * 50_000_000), "more than 33554432 bytes"),
}


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    monkeypatch.setattr(etcd_errors, "SLOWLY", 0.1)
    monkeypatch.setattr(etcd_client, "PATIENCE", 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_takes_nothing_away_and_is_over_with_its_cause(kind):
    fault, words = KINDS[kind]
    state = {"answer": GOOD}
    with (
        BadEtcd(lambda path, _: None if path == "/v3/watch" else state["answer"]) as bad,
        svcmesh.Mesh(f"etcd://{bad.address}/apps?wait=1s") as mesh,
    ):
        service, told = mesh.service("orders"), []
        service.wait_ready(30)
        mesh.events.subscribe(told.append)
        state["answer"] = fault
        until(lambda: any(words in event.error for event in told if event.name == "discovery.failed"))
        assert [endpoint.port for endpoint in service.endpoints] == [8001]
        state["answer"] = GOOD
        until(lambda: any(event.name == "discovery.recovered" for event in told))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"result":', "no JSON"),
        (b'{"result":{}}', "no header"),
        (b'{"result":{"header":{},"events":[{"type":"MOVE"}]}}', "neither a PUT nor a DELETE"),
        (b"x" * 40_000_000, "a message of etcd's has more than 33554432 bytes"),
    ],
)
def test_a_watch_that_says_nonsense_is_an_error(line, words):
    begun = b'{"result":{"header":{"cluster_id":"1","revision":"5"},"created":true}}\n'
    watch = respond(begun + line + (b"\n" if len(line) < 100 else b""))
    with (
        BadEtcd(lambda path, _: watch if path == "/v3/watch" else GOOD) as bad,
        svcmesh.Mesh(f"etcd://{bad.address}/apps") as mesh,
    ):
        told = []
        mesh.events.subscribe(lambda event: told.append(event.error), "discovery.failed")
        mesh.service("orders").wait_ready(30)
        until(lambda: any(words in error for error in told))
        assert len(mesh.service("orders").endpoints) == 1


def test_a_token_that_is_not_known_any_more_is_replaced_and_nobody_is_told():
    logins, refusals = [], ["/v3/kv/range", "/v3/watch", "/v3/kv/range"]

    def answer(path, body):
        if path == "/v3/auth/authenticate":
            logins.append(body)
            return respond({"header": HEADER, "token": f"token-{len(logins)}"})
        if refusals[:1] == [path]:
            refusals.pop(0)
            text = "etcdserver: invalid auth token"
            return respond({"error": text, "code": 16, "message": text}, "401 Unauthorized")
        return None if path == "/v3/watch" else GOOD

    with BadEtcd(answer) as bad, svcmesh.Mesh(f"etcd://me:right@{bad.address}/apps?wait=1s") as mesh:
        told = []
        mesh.events.subscribe(told.append, "discovery.*")
        mesh.service("orders").wait_ready(30)
        until(lambda: not refusals)
        until(lambda: len(logins) == 4)
        assert told == []
        until(lambda: bad.asked[-1][0] == "/v3/watch")
        assert bad.asked[-1][1]["authorization"] == "token-4"


def test_without_a_leader_a_late_comer_gets_what_a_member_remembers():
    def answer(path, body):
        if path == "/v3/watch":
            return None
        return GOOD if body.get("serializable") else respond(NO_LEADER, "503 Service Unavailable")

    with BadEtcd(answer) as bad, svcmesh.Mesh(f"etcd://{bad.address}/apps") as mesh:
        told = []
        mesh.events.subscribe(told.append, "discovery.*")
        service = mesh.service("orders")
        service.wait_ready(30)
        assert [endpoint.port for endpoint in service.endpoints] == [8001]
        until(lambda: len([event for event in told if event.name == "discovery.failed"]) >= 2)
        assert [event.name for event in told if event.name == "discovery.recovered"] == [], "it is remembered once"


async def test_names_that_are_no_service_leave_nothing():
    """Hosts of URLs become names, and may be anybody's text."""
    nothing = respond({"header": HEADER})

    with BadEtcd(lambda path, _: None if path == "/v3/watch" else nothing) as bad:
        discovery = open_discovery(f"etcd://{bad.address}/apps", clock=SYSTEM, emit=silent)
        for number in range(3):
            async with aclosing(discovery.watch(f"{number}.example.org")) as snapshots:
                assert (await anext(snapshots)).endpoints == ()

    assert discovery._known == set()


def test_a_member_that_does_not_answer_a_heartbeat_in_time_is_not_asked_first_again():
    """A heartbeat has a third of its TTL, which is less than the patience with a member."""
    granted = respond({"header": HEADER, "ID": "7", "TTL": "60"})
    with (
        BadEtcd(lambda *_: None) as silent,
        BadEtcd(lambda *_: granted) as good,
        svcmesh.Mesh(f"etcd://{silent.address},{good.address}/apps") as mesh,
    ):
        registration = mesh.register("web", port=80, host="127.0.0.1", ttl=0.6)
        until(lambda: registration.registered)
        registration.begin_to_leave()
    assert any(path == "/v3/kv/put" for path, _, _ in good.asked)
