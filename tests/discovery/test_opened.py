"""Who is behind a discovery: told apart by what is asked, never by a secret, and nobody where nobody can be away."""

from __future__ import annotations

import pytest

from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.core.errors import ConfigError
from svcmesh.discovery import first, poll, union
from svcmesh.discovery.opened import opened, opened_service
from svcmesh.discovery.static import StaticDiscovery


def identity(source):
    return opened(source, clock=SYSTEM, emit=silent).identity


class Registry:
    async def watch(self, service):
        raise OSError
        yield


class Named(Registry):
    def __init__(self, identity):
        self.identity = identity


def instances(service):
    return []


@pytest.mark.parametrize(
    "source", ["static://a:1", {"orders": ["a:1"]}, "local://", None, StaticDiscovery(["a:1"]), Named(None)]
)
def test_nobody_is_behind_what_is_given_or_lies_on_this_machine(source, tmp_path, monkeypatch):
    monkeypatch.setenv("SVCMESH_LOCAL_DIR", str(tmp_path / "registry"))

    assert identity(source) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("consul://a:1", "consul://b:1"),
        ("consul://a:1", "consul+https://a:1"),
        ("consul://a:1?tag=x", "consul://a:1?tag=y"),
        ("consul://a:1?ns=x", "consul://a:1"),
        ("consul://a:1", "dns://a:1"),
        ("dns://a/{service}:1", "dns://a/{service}:2"),
        ("file:///a/{service}.json", "file:///b/{service}.json"),
        (Registry(), Named("Registry")),
        (Named("prod"), Named("test")),
        (poll(instances, 1), poll(lambda _: [], 1)),
        (first("consul://a:1", "consul://b:1"), first("consul://b:1", "consul://a:1")),
        (first("consul://a:1", "dns://"), union("consul://a:1", "dns://")),
        (union("consul://a:1", {"orders": []}), "consul://a:1"),
    ],
)
def test_others_are_told_apart(one, other):
    assert identity(one)
    assert identity(other)
    assert identity(one) != identity(other)


def test_the_same_is_the_same_in_each_process():
    """No address of an object, no order of agents, no time."""
    assert identity(Registry()) == f"{__name__}.Registry"
    assert identity(poll(instances, 1)) == identity(poll(instances, 2)) == f"poll {__name__}.instances"
    assert identity("consul://a:1,b:1") == identity("consul://b:1,a:1")
    assert identity("dns://") == "dns://"


@pytest.mark.parametrize("identity_", [7, "", b"prod", lambda: "prod"])
def test_an_identity_that_is_no_text_is_refused(identity_):
    with pytest.raises(ConfigError, match="identity of Named must be a non-empty string or None"):
        identity(Named(identity_))


def test_combinations_are_their_parts():
    assert identity(union({"orders": ["a:1"]}, "static://b:1")) is None
    assert identity(union({"orders": ["a:1"]}, Named("prod"))) == "union(given, prod)"


def test_a_consul_that_the_environment_names_is_that_one(monkeypatch):
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "10.0.0.1:8500")
    one = identity("consul://")
    assert one == identity("consul://10.0.0.1:8500")
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "10.0.0.2:8500")
    two = identity("consul://")
    monkeypatch.setenv("CONSUL_NAMESPACE", "team")

    assert len({one, two, identity("consul://")}) == 3


def test_no_secret_is_part_of_it(monkeypatch):
    secret = "hunter2"
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", secret)
    monkeypatch.setenv("CONSUL_HTTP_AUTH", f"user:{secret}")
    for source in (
        f"consul://{secret}@a:1",
        f"consul://user:{secret}@a:1/orders",
        union(f"consul://{secret}@a:1", "dns://"),
    ):
        assert secret not in str(identity(source))

    found = opened_service(f"consul://{secret}@a:1/orders", clock=SYSTEM, emit=silent)
    assert secret not in str(found.identity)


def test_a_uri_of_a_strangers_backend_goes_without_its_secrets(monkeypatch):
    """Keys that sound like one lose their value; the others tell services apart."""
    from svcmesh.discovery import uri
    from svcmesh.discovery.uri_parts import Scheme

    schemes = dict(uri.SCHEMES) | {"zk": Scheme(lambda *_: Registry(), complete=False)}
    monkeypatch.setattr(uri, "SCHEMES", schemes)

    assert identity("zk://user:hunter2@a:1,b:2/path?root=x&api_key=hunter2&Password=hunter2&y=@z") == (
        "zk://a:1,b:2/path?root=x&api_key=&Password=&y=@z"
    )
