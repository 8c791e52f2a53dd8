"""How a pod finds its API server, and which configuration has the say."""

from __future__ import annotations

import pytest

from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.kubernetes import access as module
from svcmesh.discovery.kubernetes.access import Credentials, in_cluster
from svcmesh.discovery.uri import open_discovery
from tests.servers.kubernetes.server import ApiServer

POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture(autouse=True)
def account(tmp_path, monkeypatch):
    """Let the files of the service account be elsewhere."""
    monkeypatch.setattr(module, "ACCOUNT", str(tmp_path))


def access(uri="k8s://", **environ):
    return open_discovery(uri, clock=SYSTEM, emit=silent, environ=environ)._surface.client.access


def config(file, context="test"):
    ApiServer(port=1).kubeconfig(file)
    file.write_text(file.read_text().replace('"test"', f'"{context}"'))
    return str(file)


def test_a_pod_is_told_by_its_environment_and_its_service_account(tmp_path):
    (tmp_path / "namespace").write_text("prod\n")
    found = in_cluster(POD)
    assert found.server.url == "https://10.96.0.1:443"
    assert found.tls.ca_file == f"{tmp_path}/ca.crt"
    assert found.credentials.token_file == f"{tmp_path}/token"
    assert found.namespace == "prod"
    assert in_cluster(POD | {"POD_NAMESPACE": "other"}).namespace == "other"


def test_an_address_of_ipv6_has_its_brackets():
    assert in_cluster(POD | {"KUBERNETES_SERVICE_HOST": "fd00::1"}).server.url == "https://[fd00::1]:443"


def test_without_a_file_the_namespace_is_the_default_one(tmp_path):
    assert in_cluster(POD).namespace == "default"
    (tmp_path / "namespace").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="namespace holds no name"):
        in_cluster(POD)


@pytest.mark.parametrize("environ", [{}, {"KUBERNETES_SERVICE_HOST": "h"}, {"KUBERNETES_SERVICE_PORT": "443"}])
def test_outside_of_a_cluster_there_is_none(environ):
    assert in_cluster(environ) is None


def test_a_port_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="KUBERNETES_SERVICE_PORT"):
        in_cluster(POD | {"KUBERNETES_SERVICE_PORT": "https"})


def test_a_token_that_rotates_is_read_again(tmp_path):
    file = tmp_path / "token"
    credentials = Credentials("spare", str(file))
    with pytest.raises(DiscoveryError, match="cannot read the API server's token from"):
        credentials.headers()
    for token in ("old", "new"):
        file.write_text(token + "\n")
        assert credentials.headers() == {"Authorization": f"Bearer {token}"}
    file.write_text("")
    assert credentials.headers() == {"Authorization": "Bearer spare"}
    assert Credentials().headers() == {}


def test_a_token_is_not_shown():
    assert "secret" not in repr(Credentials("secret"))


def test_the_uri_comes_before_the_environment_and_that_before_the_pod_and_that_before_home(tmp_path):
    named, listed = config(tmp_path / "named"), config(tmp_path / "listed")
    (tmp_path / ".kube").mkdir()
    config(tmp_path / ".kube" / "config", context="at-home")
    home = {"HOME": str(tmp_path)}
    assert access(f"k8s://?kubeconfig={named}", KUBECONFIG="/nowhere", **POD).server.url == "http://127.0.0.1:1"
    assert access(KUBECONFIG=listed, **POD).server.url == "http://127.0.0.1:1"
    assert access(KUBECONFIG=f"/nowhere:{listed}:").server.url == "http://127.0.0.1:1"
    assert access(**POD, **home).server.url == "https://10.96.0.1:443"
    assert access(**home).server.url == "http://127.0.0.1:1"
    assert access("k8s://?context=at-home", **POD, **home).server.url == "http://127.0.0.1:1"


def test_where_no_cluster_is_known_it_is_said_what_was_looked_for(tmp_path):
    with pytest.raises(ConfigError, match=r"no cluster is known.*KUBERNETES_SERVICE_HOST.*KUBECONFIG.*~/\.kube/config"):
        access(HOME=str(tmp_path))
    with pytest.raises(ConfigError, match="cannot read the kubeconfig /nowhere: No such file"):
        access(KUBECONFIG="/nowhere")


def test_who_is_asked_is_told_apart_without_secrets(tmp_path):
    def identity(uri, server="http://one:1"):
        file = tmp_path / "config"
        ApiServer(port=1).kubeconfig(file, user={"token": "secret"}, server=server)
        return open_discovery(f"{uri}kubeconfig={file}", clock=SYSTEM, emit=silent, environ={}).identity

    found = [
        identity("k8s://?"),
        identity("k8s://other/?"),
        identity("k8s://prod/orders?"),
        identity("k8s://prod/orders:http?"),
        identity("k8s://prod/?zone=a&"),
        identity("k8s://prod/?family=6&"),
        identity("k8s://?", "http://two:1"),
    ]
    assert len(set(found)) == len(found)
    assert identity("k8s://?") == identity("k8s://prod/?") == "kubernetes http://one:1 prod/{service}: (4, 6) "
    assert "secret" not in str(found)
