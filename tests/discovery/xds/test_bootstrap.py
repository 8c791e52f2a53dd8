"""The bootstrap file of gRPC."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh.core.errors import ConfigError
from svcmesh.discovery.tls import Tls
from svcmesh.discovery.xds.bootstrap import FILE, INLINE, Server, bootstrap_for, bootstrap_of
from svcmesh.discovery.xds.node import node_of
from svcmesh.discovery.xds.question import Question

INSECURE = [{"type": "insecure"}]
HALF = {"type": "tls", "config": {"certificate_file": "/c"}}
SERVER = {"server_uri": "10.0.0.1:18000", "channel_creds": INSECURE}


def read(**document):
    return bootstrap_of(json.dumps({"xds_servers": [SERVER]} | document), "the file")


def test_servers_stand_in_for_each_other_in_order():
    second = {"server_uri": "dns:///plane:18000", "channel_creds": INSECURE, "server_features": ["xds_v3"]}

    assert read(xds_servers=[SERVER, second]).servers == (Server("10.0.0.1:18000"), Server("dns:///plane:18000"))


def test_the_first_credentials_that_are_known_count():
    config = {"ca_certificate_file": "/ca", "certificate_file": "/cert", "private_key_file": "/key"}
    creds = [{"type": "google_default"}, {"type": "tls", "config": config}, *INSECURE]

    (server,) = read(xds_servers=[{"server_uri": "plane:1", "channel_creds": creds}]).servers
    assert server.tls == Tls(ca_file="/ca", certificate="/cert", key="/key")
    (server,) = read(xds_servers=[{"server_uri": "plane:1", "channel_creds": [{"type": "tls"}]}]).servers
    assert server.tls == Tls()


@pytest.mark.parametrize(
    ("features", "keeping"), [(["xds_v3", "ignore_resource_deletion"], True), (["xds_v3"], False), ([], False)]
)
def test_a_server_may_say_that_what_it_takes_away_is_used_on(features, keeping):
    assert read(xds_servers=[SERVER, SERVER | {"server_features": features}]).keeping is keeping
    assert not read().keeping


def test_listeners_may_be_called_otherwise_than_services():
    found = read(client_default_listener_resource_name_template="prod/%s?x")

    assert Question(template=found.template).called("orders") == "prod/orders?x"
    assert Question(template=read().template).called("orders") == "orders"


def test_who_we_are_is_sent_as_it_stands():
    node = node_of(
        read(node={"id": "me", "cluster": "c", "locality": {"zone": "z"}, "metadata": {"a": [1]}, "more": 1}).node
    )

    assert (node.id, node.cluster, node.locality.zone, node.user_agent_name) == ("me", "c", "z", "svcmesh")
    assert node.metadata["a"][0] == 1


def test_the_uri_comes_before_the_file_of_the_environment_and_that_before_its_text(tmp_path):
    inline = json.dumps({"xds_servers": [SERVER | {"server_uri": "inline:1"}]})
    for name in ("uri", "file"):
        (tmp_path / name).write_text(json.dumps({"xds_servers": [SERVER | {"server_uri": f"{name}:1"}]}))
    environ = {INLINE: inline}
    assert bootstrap_for(None, environ).servers[0].target == "inline:1"
    environ[FILE] = str(tmp_path / "file")
    assert bootstrap_for(None, environ).servers[0].target == "file:1"
    assert bootstrap_for(str(tmp_path / "uri"), environ).servers[0].target == "uri:1"


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("{", "is no JSON"),
        ("[]", "the document must be an object, not list"),
        ("{}", "xds_servers must be a list, not NoneType"),
        ('{"xds_servers": []}', "names no control plane"),
        ('{"xds_servers": [1]}', r"xds_servers\[0\] must be an object"),
        ('{"xds_servers": [{}]}', r"xds_servers\[0\].server_uri must be text"),
        ('{"xds_servers": [{"server_uri": "xds:///x", "channel_creds": []}]}', "server_uri is host:port"),
        ('{"xds_servers": [{"server_uri": "x", "channel_creds": []}]}', "none that is known"),
        ('{"xds_servers": [{"server_uri": "x", "channel_creds": [{"type": "other"}]}]}', "none that is known"),
        (json.dumps({"xds_servers": [SERVER | {"channel_creds": [HALF]}]}), "without the other"),
        (json.dumps({"xds_servers": [SERVER], "node": 1}), "node must be an object"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_what_is_wrong_with_it_is_told_with_the_field(document, told):
    with pytest.raises(ConfigError, match=told):
        bootstrap_of(document, "the file")


def test_a_field_of_the_node_that_is_of_another_type_is_told():
    with pytest.raises(ConfigError, match="node of the xDS bootstrap"):
        node_of({"id": 1})
    for half in ({"metadata": {"a": 10**400}}, {"locality": "\ud800"}):
        with pytest.raises(ConfigError, match="node of the xDS bootstrap"):
            node_of(half)


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the bootstrap file"):
        bootstrap_for(str(tmp_path / "none"), {})
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        bootstrap_for(str(tmp_path / "bytes"), {})
    (tmp_path / "large").write_bytes(b" " * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="too large"):
        bootstrap_for(str(tmp_path / "large"), {})
    with pytest.raises(ConfigError, match="GRPC_XDS_BOOTSTRAP in the environment"):
        bootstrap_for(None, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40)
@given(JSON, JSON, JSON, JSON)
def test_any_document_is_a_bootstrap_or_a_config_error(servers, creds, node, template):
    named = {
        "xds_servers": [{"server_uri": "x:1", "channel_creds": creds}] if servers is None else servers,
        "node": node,
        "client_default_listener_resource_name_template": template,
    }
    with suppress(ConfigError):
        node_of(bootstrap_of(json.dumps(named), "the file").node)
