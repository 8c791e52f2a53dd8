"""What of a kubeconfig is used, and that what cannot be is refused and never ignored."""

from __future__ import annotations

import base64

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh.core.errors import ConfigError
from svcmesh.discovery.kubernetes.kubeconfig import LARGEST, access_of

PEM = "-----BEGIN X-----\nc2VjcmV0\n-----END X-----\n"


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def document(*, cluster=None, user=None, context=None, **fields):
    whole = {"server": "https://10.0.0.1:6443"} | (cluster or {})
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "current-context": "one",
        "clusters": [{"name": "c", "cluster": whole}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"} | (context or {})}],
    } | fields


@pytest.fixture
def read(tmp_path):
    def reading(found=None, name=None, **fields):
        file = tmp_path / "config"
        file.write_text(yaml.safe_dump(document(**fields) if found is None else found))
        return access_of([file], name)

    return reading


def test_the_current_context_says_server_user_and_namespace(read):
    found = read(user={"token": "secret"}, context={"namespace": "prod"})
    assert found.server.url == "https://10.0.0.1:6443"
    assert found.credentials.headers() == {"Authorization": "Bearer secret"}
    assert found.namespace == "prod"
    assert found.tls.verify
    assert read().namespace == "default"
    assert read(context={"user": None}).credentials.headers() == {}


def test_another_context_can_be_named(read):
    contexts = [
        {"name": "one", "context": {"cluster": "gone"}},
        {"name": "two", "context": {"cluster": "c", "namespace": "x"}},
    ]
    assert read(name="two", contexts=contexts).namespace == "x"


def test_a_path_in_the_server_is_kept(read):
    assert read(cluster={"server": "https://r.example/k8s/clusters/c-x/"}).server.url.endswith("/k8s/clusters/c-x")


def test_paths_are_relative_to_the_file(read, tmp_path):
    (tmp_path / "t").write_text("from-file")
    cluster = {"certificate-authority": "ca.pem", "tls-server-name": "api.example"}
    user = {"tokenFile": "t", "token": "spare", "client-certificate": "/abs/c.pem", "client-key": "k.pem"}
    found = read(cluster=cluster, user=user)
    assert found.tls.ca_file == f"{tmp_path}/ca.pem"
    assert (found.tls.certificate, found.tls.key) == ("/abs/c.pem", f"{tmp_path}/k.pem")
    assert found.tls.server_name == "api.example"
    assert found.credentials.headers() == {"Authorization": "Bearer from-file"}


def test_what_stands_in_the_file_itself_comes_before_files_and_is_not_shown(read):
    data = {
        f"client-{what}{ending}": value
        for what in ("certificate", "key")
        for ending, value in (("-data", encoded(PEM)), ("", "x"))
    }
    found = read(cluster={"certificate-authority-data": encoded(PEM), "insecure-skip-tls-verify": True}, user=data)
    assert (found.tls.ca_data, found.tls.certificate_data, found.tls.key_data) == (PEM, PEM, PEM)
    assert (found.tls.certificate, found.tls.key, found.tls.verify) == (None, None, False)
    assert "c2VjcmV0" not in repr(found)


def test_of_several_files_the_first_that_names_something_has_the_say(tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_text(
        yaml.safe_dump(document(cluster={"server": "https://first:1"}, **{"current-context": ""}, contexts=None))
    )
    two.write_text(yaml.safe_dump(document(cluster={"server": "https://second:1"})))
    assert access_of([one, two]).server.url == "https://first:1"
    assert access_of([two, one]).server.url == "https://second:1"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"user": {"exec": {"command": "aws"}}}, "exec: a plugin is not run: put a token into tokenFile"),
        ({"user": {"auth-provider": {"name": "gcp"}}}, "auth-provider: a plugin is not run"),
        ({"user": {"username": "me", "password": "secret"}}, "username: API servers take no passwords"),
        ({"user": {"as": "root", "token": "secret"}}, "as: acting as somebody else"),
        ({"cluster": {"proxy-url": "http://p"}}, "proxy-url: proxies are not used"),
        ({"current-context": ""}, "no current-context"),
        ({"current-context": "x"}, "no context 'x'; known: one"),
        ({"context": {"cluster": "x"}}, "no cluster 'x'; known: c"),
        ({"context": {"user": "x"}}, "no user 'x'; known: u"),
        ({"cluster": {"server": "10.0.0.1:6443"}}, "server must be a URL"),
        ({"cluster": {"server": "https://me:secret@h"}}, "server must be a URL"),
        ({"cluster": {"server": "https://h:x"}}, "server must be a URL"),
        ({"cluster": {"server": ""}}, "server must be a URL"),
        ({"cluster": {"insecure-skip-tls-verify": "yes"}}, "insecure-skip-tls-verify is true or false"),
        ({"user": {"token": "secret one"}}, "token in .* is none"),
        ({"user": {"token": 5}}, "token must be text"),
        ({"user": {"client-key": "k"}}, "client-certificate and client-key belong together"),
        ({"user": {"client-key-data": "secret!", "client-certificate": "c"}}, "client-key-data must be PEM in base64"),
        ({"users": {"u": {}}}, r"users is a list of \{name, user\}"),
        ({"clusters": [{"cluster": {}}]}, r"clusters is a list of \{name, cluster\}"),
    ],
)
def test_what_cannot_be_done_is_refused_and_secrets_are_not_repeated(read, fields, told):
    with pytest.raises(ConfigError, match=told) as caught:
        read(**fields)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: [", "config, line 2"),
        (b"- a", "is no kubeconfig"),
        (b"\xff", "no UTF-8"),
        (b"#" * (LARGEST + 1), "more than"),
        (b"a: 1\na: 2", "'a' stands twice"),
    ],
)
def test_what_is_no_kubeconfig_is_refused(tmp_path, content, told):
    (tmp_path / "config").write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        access_of([tmp_path / "config"])


_KEYS = """
    clusters users contexts name cluster user context current-context server token tokenFile exec namespace
    certificate-authority client-key client-key-data insecure-skip-tls-verify
"""
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["c", "u", "one", "https://h:1", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS.split()), inner, max_size=5),
    max_leaves=10,
)


@settings(max_examples=50)  # each is a file that is written and read
@given(st.dictionaries(st.sampled_from(_KEYS.split()), _values), _values, _values)
def test_any_document_is_an_access_or_refused(tmp_path_factory, fields, user, cluster):
    file = tmp_path_factory.getbasetemp() / "fuzzed"
    whole = document() | fields
    for kind, value in (("user", user), ("cluster", cluster)):
        if isinstance(value, dict) and f"{kind}s" not in fields:
            whole[f"{kind}s"][0][kind] |= value
    file.write_text(yaml.safe_dump(whole))
    try:
        found = access_of([file])
    except ConfigError:
        return
    assert found.server.url.startswith("http")
