"""A registry of the demo's own: there, killed, there again, and gone with the demo however that ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from svcmesh.cli.demo.registry import Source
from svcmesh.cli.demo.registry_process import RegistryProcess
from svcmesh.discovery.uri import parse
from tests.servers.consul_agent import NO_CONSUL, Api, fake_consul, real_consul, until

SOURCE = Path(__file__).parents[3] / "src"


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes find the library."""
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))


def answers(registry: RegistryProcess) -> bool:
    """Whether somebody answers where the registry is said to be."""
    try:
        return Api(parse(registry.uri).authority).ask("GET", "/v1/status/leader")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("which", ["fake", "real"])
def test_it_comes_back_where_it_was(tmp_path: Path, which: str) -> None:
    """Killed it is gone when the call returns; started again it has the same address; after its block it is gone."""
    program = str(fake_consul(tmp_path)) if which == "fake" else real_consul()
    if program is None:
        pytest.skip(NO_CONSUL)
    with RegistryProcess(Source("consul", program=program), tmp_path) as registry:
        until(lambda: answers(registry), 60)
        registry.kill()
        assert not answers(registry)
        assert registry.failed() is None
        registry.kill()
        registry.start()
        until(lambda: answers(registry), 60)

    assert not answers(registry)
    assert tmp_path.exists(), "the demo's directory stays its maker's"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere who holds a port keeps the registry out as well")
def test_nobody_is_given_its_port_while_it_is_down(tmp_path: Path) -> None:
    """Else it could not come back, and callers would ask somebody else."""
    with RegistryProcess(Source("consul", program=str(fake_consul(tmp_path))), tmp_path) as registry:
        registry.kill()
        host, _, port = parse(registry.uri).authority.rpartition(":")
        with socket.socket() as another, pytest.raises(OSError, match="in use"):
            another.bind((host, int(port)))


def test_one_that_ends_by_itself_is_reported(tmp_path: Path) -> None:
    """With its status and its last words."""
    broken = tmp_path / "etcd"
    broken.write_text("#!/bin/sh\necho no room left >&2\nexit 3\n")
    broken.chmod(0o755)
    with RegistryProcess(Source("etcd", program=str(broken)), tmp_path) as registry:
        until(lambda: registry.failed() is not None, 60)
        assert registry.failed() == f"{broken} ended with status 3: no room left"


def test_it_does_not_outlive_the_demo(tmp_path: Path) -> None:
    """When nobody holds its standard input any more it is killed, and the demo's directory goes."""
    home = tmp_path / "home"
    home.mkdir()
    said = tmp_path / "pid"
    command = ["-m", "svcmesh.cli.demo.leash", str(home), "/bin/sh", "-c", f"echo $$ > {said}; exec sleep 600"]
    with subprocess.Popen([sys.executable, "-W", "error", *command], stdin=subprocess.PIPE) as leash:
        until(lambda: said.exists() and said.read_text().strip(), 60)
        assert leash.stdin is not None
        leash.stdin.close()
        assert leash.wait(60) == 0

    assert not home.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(said.read_text()), signal.SIG_DFL)
