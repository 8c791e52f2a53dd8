"""Where Consul is: the URI, and the environment as HashiCorp's own client reads it."""

from __future__ import annotations

import pytest

from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.consul.address import Agent, access
from svcmesh.discovery.uri import parse

TOKEN = "1f0c7a5e-secret"


def found(uri="consul://", **environ):
    return access(parse(uri), environ)


def urls(uri="consul://", **environ):
    return [agent.url for agent in found(uri, **environ).agents]


@pytest.mark.parametrize(
    ("uri", "environ", "expected"),
    [
        ("consul://", {}, ["http://127.0.0.1:8500"]),
        ("consul:///web", {}, ["http://127.0.0.1:8500"]),
        ("consul://10.0.0.1:8500", {}, ["http://10.0.0.1:8500"]),
        ("consul://consul.example", {}, ["http://consul.example:8500"]),
        ("consul://[::1]:18500/web", {}, ["http://[::1]:18500"]),
        ("consul://[::1]", {}, ["http://[::1]:8500"]),
        ("consul+https://consul.example", {}, ["https://consul.example:8501"]),
        ("consul://a:1,b:2", {}, ["http://a:1", "http://b:2"]),
        ("consul://t@a:1,b:2", {}, ["http://a:1", "http://b:2"]),
        ("consul://", {"CONSUL_HTTP_ADDR": "10.0.0.1:8500"}, ["http://10.0.0.1:8500"]),
        ("consul://", {"CONSUL_HTTP_ADDR": "http://10.0.0.1:8500"}, ["http://10.0.0.1:8500"]),
        ("consul://", {"CONSUL_HTTP_ADDR": "https://c:443/consul/"}, ["https://c:443/consul"]),
        ("consul://", {"CONSUL_HTTP_ADDR": "https://consul.example"}, ["https://consul.example:443"]),
        ("consul://", {"CONSUL_HTTP_ADDR": "http://consul.example/pre"}, ["http://consul.example:80/pre"]),
        ("consul://", {"CONSUL_HTTP_ADDR": "http://[::1]", "CONSUL_HTTP_SSL": "1"}, ["https://[::1]:443"]),
        ("consul://", {"CONSUL_HTTP_SSL": "true"}, ["https://127.0.0.1:8500"]),
        ("consul://", {"CONSUL_HTTP_SSL": "1", "CONSUL_HTTP_ADDR": "http://c:1"}, ["https://c:1"]),
        ("consul://a:1", {"CONSUL_HTTP_ADDR": "10.0.0.1:8500"}, ["http://a:1"]),
    ],
)
def test_the_uri_says_where_then_the_environment(uri, environ, expected):
    assert urls(uri, **environ) == expected


@pytest.mark.parametrize(
    "uri", ["consul+unix://%2Frun%2Fconsul.sock/web", "consul+unix:///run/consul.sock?service=web"]
)
def test_a_unix_socket_is_written_either_way(uri):
    assert found(uri).agents == (Agent("http://localhost", "/run/consul.sock"),)


def test_a_unix_socket_of_the_environment():
    (agent,) = found(CONSUL_HTTP_ADDR="unix:///run/consul.sock").agents

    assert (agent.socket, agent.shown) == ("/run/consul.sock", "unix:/run/consul.sock")


@pytest.mark.parametrize(
    ("uri", "environ", "told"),
    [
        ("consul://a:b", {}, "port"),
        ("consul://a:1,", {}, "a:1"),
        ("consul://a b", {}, "space"),
        ("consul+unix://relative", {}, "absolute path"),
        ("consul+unix://", {}, "absolute path"),
        ("consul://", {"CONSUL_HTTP_ADDR": "ftp://c:1"}, "CONSUL_HTTP_ADDR begins with 'ftp'"),
        ("consul://", {"CONSUL_HTTP_ADDR": f"http://{TOKEN}@c:1"}, "no user"),
        ("consul://", {"CONSUL_HTTP_ADDR": f"http://me:{TOKEN}/{TOKEN}@c:1"}, "no user"),
        ("consul://", {"CONSUL_HTTP_ADDR": "c:x"}, "CONSUL_HTTP_ADDR"),
        ("consul://", {"CONSUL_HTTP_SSL": "yes"}, "CONSUL_HTTP_SSL must be true or false"),
        ("consul://", {"CONSUL_HTTP_SSL_VERIFY": "off"}, "CONSUL_HTTP_SSL_VERIFY"),
        ("consul://", {"CONSUL_CLIENT_CERT": "/c.pem"}, "belong together"),
        ("consul://", {"CONSUL_HTTP_TOKEN": f"{TOKEN} {TOKEN}"}, "CONSUL_HTTP_TOKEN"),
        (f"consul://{TOKEN}%0A@c:1", {}, "token in the URI"),
    ],
)
def test_what_cannot_be_is_said_without_a_secret(uri, environ, told):
    with pytest.raises(ConfigError, match=told) as caught:
        found(uri, **environ)
    assert TOKEN not in str(caught.value)


def test_a_token_comes_from_the_uri_then_the_environment():
    assert found(f"consul://{TOKEN}@c:1").credentials.headers() == {"X-Consul-Token": TOKEN}
    assert found(CONSUL_HTTP_TOKEN=f" {TOKEN}\n").credentials.headers() == {"X-Consul-Token": TOKEN}
    assert found("consul://mine@c:1", CONSUL_HTTP_TOKEN=TOKEN).credentials.headers() == {"X-Consul-Token": "mine"}
    assert found().credentials.headers() == {}


def test_basic_authentication_comes_from_the_uri_or_the_environment():
    expected = {"Authorization": "Basic dXNlcjpwYXNz"}

    assert found("consul://user:pass@c:1").credentials.headers() == expected
    assert found(CONSUL_HTTP_AUTH="user:pass").credentials.headers() == expected
    assert found(CONSUL_HTTP_AUTH="user").credentials.headers() == {"Authorization": "Basic dXNlcjo="}


def test_a_token_file_wins_and_is_read_each_time(tmp_path):
    file = tmp_path / "token"
    file.write_text("  first\n")
    credentials = found(CONSUL_HTTP_TOKEN="plain", CONSUL_HTTP_TOKEN_FILE=str(file)).credentials

    assert credentials.headers() == {"X-Consul-Token": "first"}
    file.write_text("second")
    assert credentials.headers() == {"X-Consul-Token": "second"}
    file.write_text(" \n")
    assert credentials.headers() == {"X-Consul-Token": "plain"}, "an empty file does not count"


@pytest.mark.parametrize("content", [b"a b", b"\xff\xfe", b"x" * 20_000])
def test_a_token_file_that_holds_no_token_is_a_failure(tmp_path, content):
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(DiscoveryError, match="token in the file"):
        found(CONSUL_HTTP_TOKEN_FILE=str(file)).credentials.headers()


def test_a_token_file_that_is_missing_is_a_failure(tmp_path):
    with pytest.raises(DiscoveryError, match="cannot read Consul's token from"):
        found(CONSUL_HTTP_TOKEN_FILE=str(tmp_path / "none")).credentials.headers()


@pytest.mark.parametrize(
    "uri", ["consul://me:se/cret@h/web", "consul+https://me:se/cret@h:1", "consul://me:se/cret@h:x"]
)
def test_no_password_with_a_slash_is_in_a_refusal(uri):
    with pytest.raises(ConfigError, match="written as %2F") as caught:
        found(uri)
    assert "'se" not in str(caught.value)
    assert caught.value.__context__ is None  # which tools that show causes would show


def test_nothing_secret_is_in_a_repr():
    shown = repr(found(f"consul://{TOKEN}@c:1", CONSUL_HTTP_AUTH=f"me:{TOKEN}"))

    assert TOKEN not in shown
    assert "http://c:1" in shown


def test_tls_and_tenancy_come_from_the_environment():
    access = found(
        CONSUL_CACERT="/ca.pem",
        CONSUL_CAPATH="/ca",
        CONSUL_CLIENT_CERT="/c.pem",
        CONSUL_CLIENT_KEY="/k.pem",
        CONSUL_TLS_SERVER_NAME="server.dc1.consul",
        CONSUL_HTTP_SSL_VERIFY="false",
        CONSUL_NAMESPACE="team",
        CONSUL_PARTITION="blue",
    )

    tls = access.tls
    assert (tls.ca_file, tls.ca_path, tls.certificate, tls.key) == ("/ca.pem", "/ca", "/c.pem", "/k.pem")
    assert (tls.server_name, tls.verify) == ("server.dc1.consul", False)
    assert (access.namespace, access.partition) == ("team", "blue")
    assert found().tls.verify
