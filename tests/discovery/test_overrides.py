"""Single services that the environment sends elsewhere."""

from __future__ import annotations

import pytest

import svcmesh
from svcmesh.core.errors import ConfigError

ALL = {"orders": ["10.0.0.1:80"], "billing": ["10.0.0.2:80"]}


@pytest.fixture
def override(monkeypatch):
    return lambda text: monkeypatch.setenv("SVCMESH_OVERRIDES", text)


def addresses(mesh, name):
    return [endpoint.address for endpoint in mesh.service(name).endpoints]


def test_a_service_is_sent_elsewhere_and_the_others_are_not(override):
    override("orders=127.0.0.1:8080, 127.0.0.1:8081 ;")
    with svcmesh.Mesh(ALL) as mesh:
        assert addresses(mesh, "orders") == ["127.0.0.1:8080", "127.0.0.1:8081"]
        assert addresses(mesh, "billing") == ["10.0.0.2:80"]
        assert mesh.service("orders").endpoints[0].metadata == {"source": "SVCMESH_OVERRIDES"}


def test_a_service_may_be_sent_to_a_uri(override):
    override("stock=static://127.0.0.1:1;orders=static://127.0.0.1:2,127.0.0.1:3")
    with svcmesh.Mesh(ALL) as mesh:
        assert addresses(mesh, "stock") == ["127.0.0.1:1"]
        assert addresses(mesh, "orders") == ["127.0.0.1:2", "127.0.0.1:3"]


def test_an_override_goes_before_what_services_says_and_keeps_its_policy(override):
    override("orders=127.0.0.1:8080")
    policy = svcmesh.Policy(timeout=3.0)
    with svcmesh.Mesh({}, services={"orders": ("static://10.0.0.9:1", policy)}) as mesh:
        assert addresses(mesh, "orders") == ["127.0.0.1:8080"]
        assert mesh.service("orders").policy == policy


def test_urls_find_an_override_in_any_case(override):
    override("Orders=127.0.0.1:8080")
    with svcmesh.Mesh({}) as mesh:
        assert len(mesh.by_host("orders").endpoints) == 1


@pytest.mark.parametrize("text", ["", " ; ;"])
def test_nothing_overrides_nothing(override, text):
    override(text)
    with svcmesh.Mesh(ALL) as mesh:
        assert addresses(mesh, "orders") == ["10.0.0.1:80"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("orders", "name=host:port"),
        ("=127.0.0.1:80", "name=host:port"),
        ("orders=", "name=host:port"),
        ("orders=127.0.0.1", "service 'orders': .*no port"),
        ("orders=a:1,,b:1", "service 'orders'"),
        ("orders=a:1,a:1", "service 'orders': .*twice"),
        ("orders=nothing://x", "service 'orders': unknown discovery scheme"),
        ("orders=a:1;orders=b:1", "'orders' twice"),
        ("consul://hunter2@h", "not 'consul://…@h'"),
        ("orders=consul:/hunter2@h", "service 'orders': 'consul:/…@h' is neither"),
    ],
)
def test_what_cannot_be_understood_names_the_variable(override, text, told):
    override(text)
    with pytest.raises(ConfigError, match=rf"SVCMESH_OVERRIDES.*{told}"):
        svcmesh.Mesh(ALL)
