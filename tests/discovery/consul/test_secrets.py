"""Whatever goes wrong, no token and no password is in a log, an event, a repr, an error or a request line."""

from __future__ import annotations

import traceback

import pytest

import svcmesh
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.consul.errors import error_of
from svcmesh.testing import FakeConsul
from tests.servers.consul_agent import until

TOKEN = "5e7a1c3e-token"
PASSWORD = "5e7a1c3e-password"
SECRETS = (TOKEN, PASSWORD, "bWU6NWU3YTFj")  # the beginning of what basic authentication sends

FAULTS = ["500", "403", "garbage", "half", "html", "redirect", "no-index", "drop", "cut"]
REFUSING = {"500", "403", "redirect", "drop", "html"}
"""Those that a registration cannot take for success."""


@pytest.mark.parametrize(
    ("where", "kind"),
    [*(("uri", kind) for kind in FAULTS), ("environment", "500"), ("file", "403"), ("basic", "html")],
)
def test_no_secret_is_told(kind, where, said, tmp_path, monkeypatch):
    with FakeConsul() as consul:
        uri = _with_secret(where, consul, tmp_path, monkeypatch)
        consul.fault(kind)
        with svcmesh.Mesh(uri) as mesh:
            mesh.events.subscribe(lambda event: said.append(repr(event)))
            service = mesh.service("orders")
            registration = mesh.register("web", port=80, host="127.0.0.1")
            with pytest.raises(svcmesh.NoEndpoints) as caught:
                service.wait_ready(0.05)
            until(lambda: any("DiscoveryFailed" in text for text in said))
            if kind in REFUSING:
                until(lambda: any("RegistrationLost" in text for text in said))
            said.append("".join(traceback.format_exception(caught.value)))
            said += [
                repr(mesh.state()),
                mesh.explain("orders"),
                repr(service),
                repr(mesh._discovery),
                repr(registration),
            ]
            said.append(repr(vars(mesh._discovery)))
            consul.heal()
        assert any(_sent(request) for request in consul.requests), "it was sent where it belongs"
        assert not any(TOKEN in str((request.path, request.query)) for request in consul.requests)


def _with_secret(where, consul, tmp_path, monkeypatch):
    if where == "uri":
        return consul.uri.replace("//", f"//{TOKEN}@")
    if where == "environment":
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", TOKEN)
    elif where == "file":
        (tmp_path / "t").write_text(TOKEN)
        monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", str(tmp_path / "t"))
    else:
        return consul.uri.replace("//", f"//me:{PASSWORD}@")
    return consul.uri


def _sent(request):
    return request.headers.get("x-consul-token") == TOKEN or "Basic bWU6" in request.headers.get("authorization", "")


@pytest.mark.parametrize(
    "uri", [f"consul://{TOKEN}@h:x", f"consul://{TOKEN}@h:1?token={TOKEN}", f"consul://{TOKEN}%0A@h:1"]
)
def test_no_secret_is_in_a_refusal(uri):
    with pytest.raises(svcmesh.ConfigError) as caught:
        svcmesh.Mesh(uri)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


async def test_a_token_that_is_sent_back_is_not_repeated():
    """A proxy may show the request that it did not understand."""
    with FakeConsul() as consul:
        consul._wire._routes.answer = _echo
        mesh = svcmesh.Mesh(consul.uri.replace("//", f"//{TOKEN}@"))
        with pytest.raises(svcmesh.DiscoveryError, match="bad gateway for …") as caught:
            await mesh._discovery.register(Announcement("web", "w", "127.0.0.1:80"))
        assert TOKEN not in str(caught.value)


async def _echo(request):
    from svcmesh.testing.consul.answers import HttpError

    raise HttpError(502, f"bad gateway for {request.headers['x-consul-token']}")


def test_the_look_would_see_one():
    assert TOKEN in str(error_of(500, TOKEN.encode(), asked="x"))
