"""Two gRPC servers for all tests of a run: starting a process for each test would be most of the time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.grpc_process import GrpcServer


@pytest.fixture(scope="session")
def grpc_servers() -> Iterator[tuple[GrpcServer, GrpcServer]]:
    """Servers that tests must leave running."""
    with GrpcServer("a") as a, GrpcServer("b") as b:
        yield a, b
