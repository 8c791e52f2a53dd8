"""The table of good and bad discovery URIs: what has no meaning is an error, and secrets are not repeated."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import svcmesh
from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.discovery.file import FileDiscovery
from svcmesh.discovery.local.registry import LocalRegistry
from svcmesh.discovery.static import DictDiscovery, StaticDiscovery
from svcmesh.discovery.uri import is_uri, open_discovery, open_service, takes_name
from svcmesh.discovery.uri_parts import redacted


def opened(source, how=open_discovery, **environ):
    return how(source, clock=SYSTEM, emit=silent, environ=environ)


async def addresses(discovery, service="any"):
    snapshots = discovery.watch(service)
    try:
        return [endpoint.address for endpoint in (await anext(snapshots)).endpoints]
    finally:
        await snapshots.aclose()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("static://10.0.0.1:8080", ["10.0.0.1:8080"]),
        ("static://a:1,b:2,c:3", ["a:1", "b:2", "c:3"]),
        ("STATIC://a:1", ["a:1"]),
        ("static://[::1]:80,[2001:db8::2]:81", ["[::1]:80", "[2001:db8::2]:81"]),
        ("static://%5B::1%5D:80", ["[::1]:80"]),
        ("static://[fe80::1%25eth0]:80", ["[fe80::1%eth0]:80"]),
        ("static://unix:%2Frun%2Fapp.sock,a:1", ["unix:/run/app.sock", "a:1"]),
    ],
)
@pytest.mark.parametrize("how", [open_discovery, open_service])
async def test_static_uris_list_addresses(uri, expected, how):
    assert await addresses(opened(uri, how)) == expected


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("", "no discovery URI"),
        ("orders", "no discovery URI"),
        ("localhost:8500", "no discovery URI"),
        ("/etc/mesh.yaml", "no discovery URI"),
        ("static:a:1", "no discovery URI"),
        ("file:/etc/mesh.yaml", "no discovery URI"),
        ("://a:1", "no discovery URI"),
        ("1st://a:1", "no discovery URI"),
        ("zookeeper://a:1", "'zookeeper'.*file, k8s, local, static"),
        ("static://", "address is missing"),
        ("static://a:1,", "address is missing"),
        ("static://,a:1", "address is missing"),
        ("static://a:1,,b:1", "address is missing"),
        ("static://a:1, b:1", "space"),
        ("static://a:1\n", "control"),
        ("static://a:1\tb", "control"),
        ("static://a:1/", "nothing follows"),
        ("static://a:1/orders", "nothing follows"),
        ("static://unix:/run/app.sock", "nothing follows"),
        ("static://a:1?weight=2", "no query"),
        ("static://a:1?", "no query"),
        ("static://a:1#x", "fragment"),
        ("static://a", "no port"),
        ("static://a:0", "port '0'"),
        ("static://a:70000", "port '70000'"),
        ("static://::1:80", "brackets"),
        ("static://[::1]", "brackets"),
        ("static://a:1,a:1", "twice"),
        ("static://%zz:1", "hexadecimal"),
        ("static://%ff:1", "UTF-8"),
        ("static://a:1%00", "NUL"),
        ("file://", "three slashes"),
        ("file://etc/mesh.yaml", "three slashes"),
        ("file:///etc/", "three slashes"),
        ("file:///etc/mesh.yaml?watch=1", "no query"),
        ("file:///etc/mesh.yaml#1", "fragment"),
        ("file:///etc/{name}.yaml", "braces"),
        ("file:///etc/{service.yaml", "braces"),
        ("file:///etc/%00", "NUL"),
        ("local://run/mesh", "absolute directory"),
        ("local:///run/{service}", "absolute directory"),
        ("local:///run?ttl=3", "no query"),
        ("etcd://h:x", "port 'x'"),
        ("etcd://h/apps/{name}", "braces"),
        ("etcd://h/apps?ttl=3", "unknown key 'ttl'"),
        ("etcd+unix://h", "unknown discovery scheme"),
    ],
)
def test_bad_uris_say_what_is_wrong(uri, told):
    with pytest.raises(ConfigError, match=told):
        opened(uri)


@pytest.mark.parametrize(
    "uri", ["file:///etc/mesh.yaml", "file://localhost/etc/mesh.yaml", "file:///etc/{service}.json"]
)
def test_file_uris_open_files_without_reading_them(uri):
    assert isinstance(opened(uri), FileDiscovery)


async def test_a_file_uri_may_be_percent_encoded(tmp_path):
    file = tmp_path / "a #b.json"
    file.write_text('["a:1"]')

    assert await addresses(opened(f"file://{tmp_path}/a%20%23b.json")) == ["a:1"]


def test_local_takes_its_directory_from_the_uri_then_the_environment(tmp_path):
    assert opened(f"local://{tmp_path}/x", SVCMESH_LOCAL_DIR="/elsewhere").directory == f"{tmp_path}/x"
    assert opened("local://", SVCMESH_LOCAL_DIR=f"{tmp_path}/y").directory == f"{tmp_path}/y"
    assert opened(None, SVCMESH_LOCAL_DIR=f"{tmp_path}/y").directory == f"{tmp_path}/y"
    assert opened(None, XDG_RUNTIME_DIR=f"{tmp_path}").directory == f"{tmp_path}/svcmesh"
    assert opened(None).directory == f"/tmp/svcmesh-{os.geteuid()}"


def test_the_directory_from_the_environment_must_be_absolute():
    with pytest.raises(ConfigError, match=r"SVCMESH_LOCAL_DIR.*'run/mesh'"):
        opened(None, SVCMESH_LOCAL_DIR="run/mesh")


def test_none_is_the_embedded_registry(tmp_path):
    assert isinstance(opened(None, SVCMESH_LOCAL_DIR=str(tmp_path / "x")), LocalRegistry)


def test_opening_touches_nothing(tmp_path):
    opened(f"local://{tmp_path}/x")

    assert list(tmp_path.iterdir()) == []


def test_dicts_and_own_backends_pass():
    own = StaticDiscovery(["a:1"])

    assert opened(own) is own
    assert isinstance(opened({"orders": ["a:1", Endpoint("b:1")]}), DictDiscovery)


@pytest.mark.parametrize(
    ("uri", "registry", "service"),
    [
        ("etcd://h/apps", b"apps/orders/", b"apps/"),
        ("etcd+https://me:secret@h:1,i:2//apps/orders", b"/apps/orders/orders/", b"/apps/orders/"),
        ("etcd://", b"orders/", None),
        ("etcd://h/{service}/grpc", b"orders/grpc/", None),
    ],
)
def test_an_etcd_uri_is_a_registry_or_one_service(uri, registry, service):
    assert takes_name(uri)
    assert opened(uri)._target.prefix("orders") == registry
    if service is None:
        with pytest.raises(ConfigError, match="names a registry|in Mesh"):
            opened(uri, open_service)
    else:
        assert opened(uri, open_service)._target.prefix("orders") == service


@pytest.mark.parametrize("source", [7, ["a:1"], b"local://", object(), StaticDiscovery])
def test_anything_else_is_refused_by_its_type(source):
    with pytest.raises(ConfigError, match=rf"watch.*{type(source).__name__}"):
        opened(source)


def test_a_registry_is_no_service():
    with pytest.raises(ConfigError, match="names a registry"):
        opened("local:///run/mesh", open_service)


@pytest.mark.parametrize("uri", ["file:///etc/{service}.yaml", "file:///etc/%7Bservice%7D.yaml"])
def test_a_service_uri_leaves_no_name_open(uri):
    with pytest.raises(ConfigError, match="write the name"):
        opened(uri, open_service)


@pytest.mark.parametrize(
    "uri",
    [
        "static://admin:hunter2@a:1",
        "file://admin:hunter2@host/x",
        "local://a?token=hunter2",
        "static://a:1?x=hunter2",
        "consul:/hunter2@h:1",
        "consul:hun/hunter2@h",
        "hunter2@h:1",
        "admin:hunter2@consul://h",
        "consul:/h?token=hunter2",
        "consul:/hunter2 @h",
        "consul://hunter2@h\n",
    ],
)
def test_errors_repeat_no_secret(uri):
    with pytest.raises(ConfigError) as caught:
        opened(uri)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["consul", "consul+https", "etcd", "xds+http"])
@pytest.mark.parametrize("odd", ["#", "?", "/", "@?", "?@", "?a=", "?token=", "/?", "#@/", "?a&"])
@pytest.mark.parametrize("end", ["@h:1", "@h:1/web", "@h:1,g:1?wait=5s"])
def test_no_password_with_an_odd_letter_is_in_a_refusal(scheme, odd, end):
    """It has to be percent-encoded; as it stands, nothing says where it ends."""
    uri = f"{scheme}://me:hunter{odd}secret{end}"
    with pytest.raises(ConfigError) as caught:
        opened(uri)
    with pytest.raises(ConfigError) as looked_for, svcmesh.Mesh({}) as mesh:
        mesh.explain(uri)

    for error in (caught.value, looked_for.value):
        assert "hunter" not in str(error)
        assert "secret" not in str(error)
        assert error.__context__ is None


@given(st.text(max_size=60))
def test_any_text_is_opened_or_refused_by_a_config_error(text):
    for prefix in ("", "static://", "file:///", "local:///nowhere/"):
        try:
            opened(prefix + text)
        except ConfigError as error:
            assert str(error)  # noqa: PT017 - the other outcome is that it opens


def test_names_and_uris_are_told_apart():
    assert is_uri("static://a:1")
    assert not is_uri("orders")
    assert not is_uri("127.0.0.1")


def test_redaction_keeps_the_rest():
    assert redacted("etcd://user:p@w@host:8500/x") == "etcd://…@host:8500/x", "also where an '@' is not encoded"
    assert redacted("consul://user:pw@host:8500/x?token=abc&dc=eu") == "consul://…@host:8500/x?token=…&dc=…"


def test_who_an_etcd_is_has_no_password_in_it():
    one = opened("etcd://me:secret@b:1,a/apps")
    assert one.identity == "etcd http://a:2379,http://b:1 apps/{service}"
    assert opened("etcd:///apps", ETCDCTL_ENDPOINTS="a,b:1", ETCDCTL_USER="you:x").identity == one.identity
