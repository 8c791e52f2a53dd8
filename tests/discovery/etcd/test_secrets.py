"""Whatever goes wrong, no password and no token is in a log, an event, a repr or an error."""

from __future__ import annotations

import json
import traceback

import pytest

import svcmesh
from svcmesh.discovery.etcd.errors import error_of
from tests.servers.bad_etcd import BadEtcd, respond
from tests.servers.consul_agent import until

PASSWORD = '5e7a1c3e"pass word'
TOKEN = "5e7a1c3e.token"
SECRETS = ("5e7a1c3e", "pass word", "cGFzcyB3b3Jk")
HEADER = {"cluster_id": "1", "revision": "5"}


def broken(text, status="503 Service Unavailable", code=14):
    return respond({"error": text, "code": code, "message": text}, status)


def echo(body):
    """Answer as something that shows what it did not understand."""
    told = json.dumps(body) if "password" in body else TOKEN
    return respond(f"cannot understand {told}".encode(), "502 Bad Gateway", "text/plain")


ANSWERS = {
    "login-refused": lambda path, body: broken(f"authentication failed for {PASSWORD}", "400 Bad Request", 3),
    "login-echoed": lambda path, body: echo(body),
    "login-garbage": lambda path, body: respond(b"{" + TOKEN.encode()),
    "login-odd": lambda path, body: respond({"header": HEADER, "token": TOKEN + "\n"}),
    "echoed": lambda path, body: respond({"header": HEADER, "token": TOKEN}) if "auth" in path else echo(body),
    "token-lost": lambda path, body: (
        respond({"header": HEADER, "token": TOKEN})
        if "auth" in path
        else broken(f"invalid auth token {TOKEN}", "401 Unauthorized", 16)
    ),
    "denied": lambda path, body: (
        respond({"header": HEADER, "token": TOKEN})
        if "auth" in path
        else broken("etcdserver: permission denied", "403 Forbidden", 7)
    ),
}


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        *((kind, "uri") for kind in ANSWERS),
        ("login-echoed", "environment"),
        ("login-refused", "file"),
        ("echoed", "file"),
    ],
)
def test_no_secret_is_told(kind, where, said, tmp_path, monkeypatch):
    with BadEtcd(ANSWERS[kind]) as bad:
        uri = _with_secret(where, bad, tmp_path, monkeypatch)
        with svcmesh.Mesh(uri) as mesh:
            mesh.events.subscribe(lambda event: said.append(repr(event)))
            service = mesh.service("orders")
            registration = mesh.register("web", port=80, host="127.0.0.1")
            with pytest.raises(svcmesh.NoEndpoints) as caught:
                service.wait_ready(0.05)
            until(lambda: any("DiscoveryFailed" in text for text in said))
            until(lambda: any("RegistrationLost" in text for text in said))
            said.append("".join(traceback.format_exception(caught.value)))
            discovery = mesh._discovery
            shown = (mesh.state(), mesh.explain("orders"), service, registration, discovery, vars(discovery))
            said += [repr(one) for one in (*shown, vars(discovery._client), discovery._client.access)]
        logins = [body for path, _, body in bad.asked if path == "/v3/auth/authenticate"]
        assert {"name": "me", "password": PASSWORD} in logins, "it was sent where it belongs"


def _with_secret(where, bad, tmp_path, monkeypatch):
    if where == "uri":
        return f"etcd://me:5e7a1c3e%22pass%20word@{bad.address}/apps"
    if where == "environment":
        monkeypatch.setenv("ETCDCTL_USER", f"me:{PASSWORD}")
        return f"etcd://{bad.address}/apps"
    (tmp_path / "password").write_text(PASSWORD)
    return f"etcd://me@{bad.address}/apps?password-file={tmp_path}/password"


def test_the_look_would_see_one():
    assert TOKEN in str(error_of(500, TOKEN.encode(), asked="x"))
