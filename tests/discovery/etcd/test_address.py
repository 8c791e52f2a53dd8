"""Where etcd is, and who we are to it: from URIs and from etcdctl's variables."""

from __future__ import annotations

import pytest

from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.etcd.address import Credentials, access
from svcmesh.discovery.uri import parse


def found(uri, password_file=None, **environ):
    return access(parse(uri), environ, password_file=password_file)


def urls(*arguments, **environ):
    return [member.url for member in found(*arguments, **environ).members]


@pytest.mark.parametrize(
    ("uri", "environ", "expected"),
    [
        ("etcd://h", {}, ["http://h:2379"]),
        ("etcd://a:1,b,[::1]/apps", {}, ["http://a:1", "http://b:2379", "http://[::1]:2379"]),
        ("etcd+https://h:1", {}, ["https://h:1"]),
        ("etcd://", {}, ["http://127.0.0.1:2379"]),
        ("etcd:///apps", {"ETCDCTL_ENDPOINTS": "a:1,https://b:2/"}, ["http://a:1", "https://b:2"]),
        ("etcd://", {"ETCDCTL_ENDPOINTS": "a:1", "ETCDCTL_CACERT": "/ca.pem"}, ["https://a:1"]),
        ("etcd+https://", {"ETCDCTL_ENDPOINTS": "http://a:1"}, ["https://a:1"]),
        ("etcd://h", {"ETCDCTL_ENDPOINTS": "a:1"}, ["http://h:2379"]),
    ],
)
def test_members(uri, environ, expected):
    assert urls(uri, **environ) == expected


@pytest.mark.parametrize(
    ("uri", "environ", "expected"),
    [
        ("etcd://h", {}, None),
        ("etcd://me:p%40ss@h", {}, ("me", "p@ss")),
        ("etcd://me:a:b@h", {}, ("me", "a:b")),
        ("etcd://me@h", {"ETCDCTL_PASSWORD": "x"}, ("me", "x")),
        ("etcd://h", {"ETCDCTL_USER": "you:y"}, ("you", "y")),
        ("etcd://h", {"ETCDCTL_USER": "you", "ETCDCTL_PASSWORD": "z"}, ("you", "z")),
        ("etcd://me:x@h", {"ETCDCTL_USER": "you:y"}, ("me", "x")),
    ],
)
def test_credentials(uri, environ, expected):
    credentials = found(uri, **environ).credentials

    assert (credentials and (credentials.user, credentials.secret())) == expected


def test_a_password_may_stand_in_a_file_and_rotate(tmp_path):
    file = tmp_path / "password"
    file.write_text("one\n")
    credentials = found("etcd://me@h", str(file)).credentials
    assert credentials.secret() == "one"
    file.write_text("two")
    assert credentials.secret() == "two"
    file.write_text("x" * 5000)
    with pytest.raises(DiscoveryError, match="too large"):
        credentials.secret()
    file.unlink()
    with pytest.raises(DiscoveryError, match="cannot read etcd's password"):
        credentials.secret()


def test_tls_comes_from_the_environment():
    tls = found("etcd+https://h", ETCDCTL_CACERT="/ca", ETCDCTL_CERT="/c", ETCDCTL_KEY="/k").tls
    assert (tls.ca_file, tls.certificate, tls.key, tls.verify) == ("/ca", "/c", "/k", True)
    assert not found("etcd+https://h", ETCDCTL_INSECURE_SKIP_TLS_VERIFY="true").tls.verify


@pytest.mark.parametrize(
    ("uri", "environ", "told"),
    [
        ("etcd://h:x", {}, "port 'x'"),
        ("etcd://a,,b", {}, "address"),
        ("etcd://::1", {}, "brackets"),
        ("etcd://unix:%2Frun%2Fetcd.sock", {}, "host:port"),
        ("etcd://me@h", {}, "user 'me' has no password"),
        ("etcd://:x@h", {}, "no user"),
        ("etcd://", {"ETCDCTL_ENDPOINTS": "ftp://a"}, "ETCDCTL_ENDPOINTS is a list"),
        ("etcd://", {"ETCDCTL_ENDPOINTS": "me:x@a:1"}, "ETCDCTL_ENDPOINTS is a list"),
        ("etcd://h", {"ETCDCTL_CERT": "/c"}, "belong together"),
        ("etcd://h", {"ETCDCTL_INSECURE_SKIP_TLS_VERIFY": "maybe"}, "true or false"),
    ],
)
def test_what_cannot_be_is_refused(uri, environ, told):
    with pytest.raises(ConfigError, match=told):
        found(uri, **environ)


@pytest.mark.parametrize(
    "uri", ["etcd://me:se/cret@h/apps", "etcd://me:s@cret@h:x", "etcd://:secret@h", "etcd://me:secret@h:0"]
)
def test_no_password_is_in_a_refusal(uri):
    with pytest.raises(ConfigError) as caught:
        found(uri)
    assert "cret" not in str(caught.value)


def test_no_password_is_in_a_repr():
    assert "secret" not in repr(Credentials("me", "secret")) + repr(found("etcd://me:secret@h"))
