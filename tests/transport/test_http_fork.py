"""Connections before and after a fork."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.servers.http_process import HttpServer


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


FORKING = """
import os, sys, threading, svcmesh
mesh = svcmesh.Mesh({"orders": [sys.argv[1]]})
client = mesh.service("orders").http_client()
numbers = [client.get("/echo").json()["connection"]]
child = os.fork()
numbers.append(client.get("/echo").json()["connection"])
if child == 0:
    os._exit(0 if numbers[0] != numbers[1] else 1)  # a connection of its own
_, status = os.waitpid(child, 0)
numbers.append(client.get("/echo").json()["connection"])
assert os.waitstatus_to_exitcode(status) == 0, status
assert len(set(numbers)) == 1, numbers  # and the parent keeps its own
mesh.close()
"""


def test_a_forked_child_uses_connections_of_its_own(server: HttpServer) -> None:
    """Two processes that write to one connection would read each other's answers."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", FORKING, server.address], check=True, timeout=30, env=environment)
