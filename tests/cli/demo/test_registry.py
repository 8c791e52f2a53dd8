"""Which registry the demo takes: what is given, what the environment says, what PATH has; or why there is none."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from svcmesh.cli.demo.problem import DemoError
from svcmesh.cli.demo.registry import Source, source_for
from tests.servers.ports import HeldPort


@pytest.fixture
def address() -> Iterator[str]:
    """Return where somebody takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def closed() -> Iterator[str]:
    """Return where nobody does."""
    with HeldPort() as port:
        yield port.address


def program(directory: Path, name: str) -> str:
    """Write a program of that name."""
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_the_default_is_an_embedded_one_in_the_demos_directory() -> None:
    """It needs nothing, so nothing of the environment matters."""
    assert (
        source_for("local", None, {"CONSUL_HTTP_ADDR": "10.0.0.1:8500"}).uri(Path("/home")) == "local:///home/registry"
    )


@pytest.mark.parametrize(("kind", "variable"), [("consul", "CONSUL_HTTP_ADDR"), ("etcd", "ETCDCTL_ENDPOINTS")])
def test_one_that_runs_wins_over_one_in_path_and_a_program_over_both(
    kind: str, variable: str, address: str, tmp_path: Path
) -> None:
    """Who names a program wants that one to be started."""
    in_path = program(tmp_path, kind)
    other = program(tmp_path, "other")
    path = {"PATH": str(tmp_path)}

    assert source_for(kind, None, path) == Source(kind, program=in_path)
    assert source_for(kind, None, path | {variable: address}) == Source(kind, running=f"{kind}://")
    assert source_for(kind, other, path | {variable: address}) == Source(kind, program=other)


@pytest.mark.parametrize("scheme", ["consul", "consul+https", "etcd", "etcd+https"])
def test_one_that_runs_is_given_by_its_address(scheme: str, address: str) -> None:
    """Services have names there that nobody else has, in each run others."""
    source = source_for(f"{scheme}://{address}/", None, {})

    assert source == Source(scheme.partition("+")[0], running=f"{scheme}://{address}")
    first, second = source.uri(Path("/home")), source.uri(Path("/home"))
    assert first.startswith(f"{scheme}://{address}/svcmesh-demo-")
    assert first.endswith("-{service}")
    assert first != second


def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    """Consul may listen on one."""
    path = tmp_path / "s"
    quoted = str(path).replace("/", "%2F")
    with pytest.raises(DemoError, match="there is no Consul at unix:"):
        source_for(f"consul+unix://{quoted}", None, {})
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        assert source_for(f"consul+unix://{quoted}", None, {}).running == f"consul+unix://{quoted}"


def test_nobody_at_an_address_is_said_at_once(closed: str, address: str) -> None:
    """With the address and the reason, from wherever it came; one of several that answers is enough."""
    with pytest.raises(DemoError, match=rf"^there is no etcd at http://{closed}: Connection refused$"):
        source_for("etcd", None, {"ETCDCTL_ENDPOINTS": closed})
    with pytest.raises(DemoError, match=rf"^there is no Consul at http://{closed}: Connection refused$"):
        source_for(f"consul://{closed}", None, {})
    assert source_for(f"etcd://{closed},{address}", None, {}).running


@pytest.mark.parametrize(
    ("wanted", "binary", "words"),
    [
        ("consul", None, "there is no Consul here: put consul into PATH, name the program by --registry-binary, or"),
        ("etcd", None, "ETCDCTL_ENDPOINTS or --registry etcd://host:port"),
        ("etcd", "/nowhere/etcd", "--registry-binary /nowhere/etcd: there is no such program"),
        ("local", "etcd", "--registry-binary is for --registry consul and --registry etcd"),
        ("etcd://127.0.0.1:1", "etcd", "leave one of them out"),
        ("zookeeper", None, "--registry is local, consul, etcd, or the URI of a Consul or an etcd, not 'zookeeper'"),
        ("Consul", None, "--registry is local, consul, etcd, or the URI of a Consul or an etcd, not 'Consul'"),
        ("zk://127.0.0.1:1", None, "--registry is local, consul, etcd, or the URI of a Consul or an etcd, not 'zk://"),
        ("static://127.0.0.1:1", None, "--registry is local, consul, etcd, or the URI of a Consul or an etcd, not 's"),
        ("consul://127.0.0.1:1/orders", None, "scheme and address are all that it takes"),
        ("etcd://127.0.0.1:1?wait=1s", None, "scheme and address are all that it takes"),
        ("consul://127.0.0.1:http", None, "--registry: "),
    ],
)
def test_what_cannot_be_used_is_said(wanted: str, binary: str | None, words: str) -> None:
    """Each with what would help."""
    with pytest.raises(DemoError) as refused:
        source_for(wanted, binary, {"PATH": "/nowhere"})

    assert words in str(refused.value)


@pytest.mark.parametrize("uri", ["consul://S3CRET@127.0.0.1:1", "etcd://root:S3CRET@127.0.0.1:1"])
def test_secrets_belong_into_variables(uri: str) -> None:
    """A URI stands on the servers' command lines, which everybody on the machine can read."""
    with pytest.raises(DemoError, match="tokens and passwords go into the variables") as refused:
        source_for(uri, None, {})

    assert "S3CRET" not in str(refused.value)


def test_secrets_are_not_repeated_where_the_scheme_is_wrong() -> None:
    with pytest.raises(DemoError, match="--registry is local") as refused:
        source_for("consull://S3CRET@127.0.0.1:1", None, {})

    assert "S3CRET" not in str(refused.value)
