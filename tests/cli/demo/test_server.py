"""The servers, each by its own protocol, and as a process that does not outlive its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest

from svcmesh import Mesh
from svcmesh._proto import greet_pb2, greet_pb2_grpc
from svcmesh.cli.demo.record import name_of
from svcmesh.cli.demo.server import greeter, orders

SOURCE = Path(__file__).parents[3] / "src"


def test_the_greeter_greets() -> None:
    """SayHello answers with the name that it was given."""
    with greeter() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        reply = greet_pb2_grpc.GreeterStub(channel).SayHello(greet_pb2.HelloRequest(name="you"), timeout=30)

    assert reply.message == "Hello, you!"


def test_orders_are_found_by_number() -> None:
    """A number gets its order; anything else is not found; one connection serves several requests."""
    with orders() as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        answers = [client.get(path) for path in ("/orders/7", "/orders/x", "/orders/", "/", "/orders/7/8", "/orders/٣")]

    assert [answer.status_code for answer in answers] == [200, 404, 404, 404, 404, 404]
    assert answers[0].json() == {"order": 7}


@pytest.fixture
def process(tmp_path: Path) -> subprocess.Popen[bytes]:
    """Return a server process that has registered in ``tmp_path``/home/registry."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    command = [sys.executable, "-W", "error", "-m", "svcmesh.cli.demo.server", "orders", "orders-1"]
    with subprocess.Popen(
        [*command, f"local://{home}/registry", str(home)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    ) as server:
        with Mesh(f"local://{home}/registry") as mesh:
            mesh.service("orders").wait_ready(60)
            (endpoint,) = mesh.service("orders").endpoints
            assert name_of(endpoint) == "orders-1"
            assert httpx.get(f"http://{endpoint.address}/orders/1", trust_env=False).json() == {"order": 1}
        yield server
        server.kill()


def test_it_leaves_in_order_when_told(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """SIGTERM: it deregisters and ends with status 0, saying nothing; the directory stays its maker's."""
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None

    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    assert (tmp_path / "home" / "registry").is_dir()
    assert not list((tmp_path / "home" / "registry").glob("*/*.json"))


def test_it_does_not_outlive_the_demo(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """When its standard input closes it ends, and takes the demo's directory with it."""
    assert process.stdin is not None
    process.stdin.close()

    assert process.wait(60) == 0
    assert not (tmp_path / "home").exists()
