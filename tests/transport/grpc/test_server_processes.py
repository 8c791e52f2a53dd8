"""The server interceptors and the shutdown helper in processes of their own, as they are in production."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import svcmesh
from svcmesh import Policy
from tests.servers.grpc_process import ROOT
from tests.servers.http_process import HttpServer
from tests.transport.grpc.kit import PATIENCE


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, HttpServer]]:
    """One server on threads and one on asyncio."""
    module = "tests.servers.deadline_grpc"
    with HttpServer("sync", module=module) as sync, HttpServer("aio", module=module) as aio:
        yield {"sync": sync, "aio": aio}


@pytest.fixture
def ask(servers: dict[str, HttpServer], request: pytest.FixtureRequest) -> Iterator[Any]:
    """Ask the server that the test names for one of its methods."""
    with (
        svcmesh.Mesh({"one": [servers[request.param].address]}, policy=Policy()) as mesh,
        mesh.service("one").grpc_channel() as channel,
    ):

        def asked(method: str, payload: str = "") -> list[float | None]:
            if method == "Stream":
                return [json.loads(answer) for answer in channel.unary_stream("/test/Stream")(b"")]
            return [json.loads(channel.unary_unary(f"/test/{method}")(payload.encode()))]

        yield asked


BOTH = pytest.mark.parametrize("ask", ["sync", "aio"], indirect=True)


@BOTH
@pytest.mark.parametrize("method", ["Left", "Stream"])
def test_what_the_caller_has_left_is_what_the_handler_has(ask: Any, method: str) -> None:
    """For each message, and for that call only."""
    with svcmesh.deadline(60):
        found = ask(method)
    assert len(found) == (3 if method == "Stream" else 1)
    assert all(0 < left <= 61 for left in found)
    assert set(ask(method)) == {None}


@BOTH
@pytest.mark.parametrize("following", ["sync", "aio"])
def test_it_goes_on_to_the_next_server(ask: Any, servers: dict[str, HttpServer], following: str) -> None:
    """A handler that names no time calls within its caller's; a deadline on the wire is rounded up at each hop."""
    with svcmesh.deadline(60):
        (left,) = ask("Onward", servers[following].address)
    assert 0 < left <= 62


@pytest.mark.parametrize("kind", ["grpc", "grpc-aio"])
def test_a_server_that_is_told_to_end_says_so_before_it_does(kind: str, tmp_path: Path) -> None:
    """Whoever watches its health hears NOT_SERVING while it still answers; then it has left, and ends well."""
    registry = f"local://{tmp_path}"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.servers.leaving", kind, registry],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process, svcmesh.Mesh(registry) as mesh:
        worker = mesh.service("worker")
        worker.wait_ready(PATIENCE)
        with grpc.insecure_channel(worker.endpoints[0].address) as channel:
            watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
            assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
            process.terminate()
            assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert channel.unary_unary("/test.Worker/Work")(b"", timeout=PATIENCE) == b"done"
            watching.cancel()
        assert process.wait(PATIENCE) == 0
