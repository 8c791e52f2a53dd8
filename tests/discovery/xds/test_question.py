"""What an ``xds://`` URI asks for."""

from __future__ import annotations

import json
import sys

import pytest

from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.uri import open_discovery, open_service, parse, takes_name
from svcmesh.discovery.xds.bootstrap import INLINE
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.question import Question, names_service, question_of

SERVERS = [{"server_uri": "10.0.0.1:18000", "channel_creds": [{"type": "insecure"}]}]
ENVIRON = {INLINE: json.dumps({"xds_servers": SERVERS, "node": {"id": "pod-7", "cluster": "shop"}})}


def asked(text):
    return question_of(parse(text))


def test_the_name_is_that_of_the_service_or_stands_in_the_uri():
    assert asked("xds:///").about("orders") == asked("xds://").about("orders") == "orders"
    assert asked("xds:///prod/{service}:80").about("orders") == "prod/orders:80"
    assert asked("xds:///orders:50051").about("whatever") == "orders:50051"
    assert names_service(parse("xds:///orders"))
    assert not names_service(parse("xds:///"))
    assert takes_name("xds:///")
    assert not takes_name("xds:///orders")


def test_a_listener_is_meant_unless_the_uri_says_otherwise():
    assert asked("xds:///").kind is Kind.LISTENER
    assert asked("xds:///?resource=cluster").kind is Kind.CLUSTER
    assert asked("xds:///?resource=endpoints").kind is Kind.ENDPOINTS


def test_all_keys_of_the_query():
    found = asked("xds:///x?resource=cluster&wait=500ms&delta&bootstrap=/etc/b.json")

    assert found == Question("x", Kind.CLUSTER, 0.5, delta=True, bootstrap="/etc/b.json")


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("xds://authority/orders", "the bootstrap file"),
        ("xds:///{other}", "the only thing that braces can hold"),
        ("xds:///?resource=route", "resource is listener, cluster, endpoints"),
        ("xds:///?wait=0", "wait is a time"),
        ("xds:///?bootstrap=", "bootstrap has no value"),
        ("xds:///?bootstrap", "bootstrap has no value"),
        ("xds:///?delta=maybe", "delta is true or false"),
        ("xds:///?server=x", "unknown key 'server'"),
    ],
)
def test_what_means_nothing_is_an_error(uri, told):
    with pytest.raises(ConfigError, match=told):
        asked(uri)


@pytest.mark.parametrize("name", ["", "a" * 4097, "\ud800", "*"])
def test_a_name_that_nothing_can_have_is_refused(name):
    with pytest.raises(DiscoveryError, match="this is none"):
        asked("xds:///").about(name)


def test_who_is_behind_it_is_the_control_plane_and_not_the_node_which_each_process_has_for_itself():
    found = open_discovery("xds:///", clock=SYSTEM, emit=silent, environ=ENVIRON)

    assert found.identity == "xds 10.0.0.1:18000 shop LISTENER {service}"


def test_a_uri_with_a_name_stands_for_a_service():
    assert open_service("xds:///orders", clock=SYSTEM, emit=silent, environ=ENVIRON)
    with pytest.raises(ConfigError, match="names a registry and no service"):
        open_service("xds:///", clock=SYSTEM, emit=silent, environ=ENVIRON)


@pytest.mark.parametrize(("module", "package"), [("grpc", "grpcio"), ("google.protobuf", "protobuf")])
def test_a_library_that_is_missing_is_named(monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ConfigError, match=f"needs {package}: pip install {package}"):
        open_discovery("xds:///", clock=SYSTEM, emit=silent, environ=ENVIRON)
