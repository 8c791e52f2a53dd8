"""Whatever goes wrong, no token and no key is in a log, an event, a repr, an error or a request line."""

from __future__ import annotations

import base64
import traceback

import pytest
import trustme

import svcmesh
from svcmesh.discovery.kubernetes import client, errors
from tests.servers.consul_agent import until
from tests.servers.kubernetes import faults
from tests.servers.kubernetes.server import ApiServer

TOKEN = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.5e7a1c3e-token"
LEAF = trustme.CA().issue_cert("client.example")
KEY = LEAF.private_key_pem.bytes().decode()
SECRETS = (TOKEN, "5e7a1c3e", KEY, base64.b64encode(KEY.encode()).decode(), KEY.splitlines()[2])

FAULTS = ["500", "401", "403", "garbage", "half", "html", "redirect", "no-version", "drop", "cut", "echo", "echo-text"]


@pytest.fixture
def api(monkeypatch):
    monkeypatch.setattr(errors, "SLOWLY", 0.1)
    monkeypatch.setattr(client, "SLOWLY", 0.1)
    told = f'{{"kind":"Status","message":"bad gateway for Bearer {TOKEN} and {TOKEN}","code":502}}'.encode()
    monkeypatch.setitem(faults.ANSWERS, "echo", (502, {"Content-Type": faults.JSON}, told))
    monkeypatch.setitem(faults.ANSWERS, "echo-text", (502, {}, b"Authorization: Bearer " + TOKEN.encode()))
    monkeypatch.setattr(faults, "KINDS", (*faults.KINDS, "echo", "echo-text"))
    with ApiServer() as api:
        api.allowed = {TOKEN: {"list", "watch"}}
        yield api


@pytest.mark.parametrize(("where", "kind"), [*(("inline", kind) for kind in FAULTS), ("file", "403"), ("file", "echo")])
def test_no_secret_is_told(kind, where, said, api, tmp_path):
    (tmp_path / "t").write_text(TOKEN)
    user = {"token": TOKEN} if where == "inline" else {"tokenFile": str(tmp_path / "t")}
    with svcmesh.Mesh(api.kubeconfig(tmp_path / "config", user=user)) as mesh:
        mesh.events.subscribe(lambda event: said.append(repr(event)))
        api.fault(kind)
        service = mesh.service("orders")
        with pytest.raises(svcmesh.NoEndpoints) as caught:
            service.wait_ready(0.05)
        until(lambda: any("DiscoveryFailed" in text for text in said))
        said.append("".join(traceback.format_exception(caught.value)))
        discovery = mesh._discovery
        said += [repr(mesh.state()), mesh.explain("orders"), repr(service), repr(discovery), repr(vars(discovery))]
        api.heal()
        api.put("orders", ["10.0.0.1:80"])
        service.wait_ready(30)
    assert all(r.headers["authorization"] == f"Bearer {TOKEN}" for r in api.requests), "it was sent where it belongs"
    assert not any("5e7a1c3e" in str((r.namespace, r.query)) for r in api.requests)


def test_a_key_is_not_told(said, api, tmp_path):
    data = {"client-certificate-data": "eA==", "client-key-data": base64.b64encode(KEY.encode()).decode()}
    uri = api.kubeconfig(tmp_path / "config", user=data, server="https://127.0.0.1:1")
    with svcmesh.Mesh(uri) as mesh:
        mesh.events.subscribe(lambda event: said.append(repr(event)))
        with pytest.raises(svcmesh.NoEndpoints):
            mesh.service("orders").wait_ready(0.05)
        until(lambda: any("cannot be set up from the certificate given, the key given" in text for text in said))
        said.append(repr(mesh._discovery._surface.client.access))


@pytest.mark.parametrize(
    "uri", [f"k8s://{TOKEN}@orders", f"k8s://orders?token={TOKEN}", f"k8s://orders?zone=%zz{TOKEN}"]
)
def test_no_secret_is_in_a_refusal(uri):
    with pytest.raises(svcmesh.ConfigError) as caught:
        svcmesh.Mesh(uri)
    assert "5e7a1c3e" not in "".join(traceback.format_exception(caught.value))


def test_the_look_would_see_one():
    assert TOKEN in str(errors.error_of(500, TOKEN.encode(), asked="x"))
