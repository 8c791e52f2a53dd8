"""Connections before and after a fork, and when the interpreter ends."""

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
connection = lambda: str(client.get("/echo").json()["connection"])
print("parent", connection(), flush=True)
child = os.fork()
if child == 0:
    print("child", connection(), connection(), flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
print("parent", connection(), os.waitstatus_to_exitcode(status), flush=True)
mesh.close()
"""


def test_a_forked_child_uses_connections_of_its_own(server: HttpServer) -> None:
    """Two processes that write to one connection would read each other's answers."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", FORKING, server.address]
    left = subprocess.run(command, check=True, timeout=120, env=environment, capture_output=True, text=True)
    (_, before), (_, first, second), (_, after, status) = (line.split() for line in left.stdout.splitlines())
    assert (after, status) == (before, "0"), "the parent keeps its own, and the child has ended well"
    assert first == second != before, "the child has one of its own, and keeps that"
    assert left.stderr == ""


LEAVING = """
import asyncio, sys, threading, svcmesh
mesh = svcmesh.Mesh({"orders": [sys.argv[1]]})
orders = mesh.service("orders")
client, async_client, transport = orders.http_client(), orders.http_async_client(), orders.http_async_transport()
client.get("/echo")
held = client.send(client.build_request("POST", "/drip"), stream=True)
asyncio.run(async_client.get("/echo"))
threading.Thread(target=client.get, args=("/slow/600",), daemon=True).start()
print("left")
"""


def test_the_end_of_the_interpreter_is_quiet(server: HttpServer) -> None:
    """Clients left open, a response half read, a call under way in a daemon thread: no wait, no word on stderr."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", LEAVING, server.address]
    left = subprocess.run(command, check=True, timeout=60, env=environment, capture_output=True, text=True)
    assert (left.stdout, left.stderr) == ("left\n", "")


IMPORTING = """
import asyncio, sys, svcmesh
one, two = sys.argv[1:]
mesh = svcmesh.Mesh({"one": [one], "two": [two]})
both = {"http1": False, "http2": True}
clients = [mesh.service("one").http_client(), mesh.service("two").http_client(**both)]
async_clients = [mesh.service("one").http_async_client(), mesh.service("two").http_async_client(**both)]
before = set(sys.modules)
print(*[client.get("/echo").status_code for client in clients])
async def ask():
    print(*[(await client.get("/echo")).status_code for client in async_clients])
asyncio.run(ask())
print([name for name in set(sys.modules) - before if name.partition(".")[0] in {"svcmesh", "h2"}])
"""


def test_the_first_request_imports_nothing_of_ours(server: HttpServer) -> None:
    """Children of a process that forks while one of its threads imports a module wait for ever where they need it."""
    with HttpServer("two", module="tests.servers.h2_server") as two:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", IMPORTING, server.address, two.address]
        left = subprocess.run(command, check=True, timeout=120, env=environment, capture_output=True, text=True)
    assert left.stdout.splitlines() == ["200 200", "200 200", "[]"]


CLOSING = """
import os, signal, sys, threading, svcmesh
mesh = svcmesh.Mesh({"orders": [sys.argv[1]]})
kwargs = {"http1": False, "http2": True} if sys.argv[2] == "2" else {}
client = mesh.service("orders").http_client(**kwargs)
held = client.send(client.build_request("POST", "/echo"), stream=True)
(connections,) = client._transport._connections.values()
if sys.argv[3] == "dropped":
    client.close()
    del client
lock, locked = connections.pool._lock, threading.Event()
threading.Thread(target=lambda: (lock.acquire(), locked.set()), daemon=True).start()
locked.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)  # ends one that waits for a thread that is not here
    held.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
lock.release()
print(os.waitstatus_to_exitcode(status), held.read() != b"")
"""


@pytest.mark.parametrize("client", ["kept", "dropped"])
@pytest.mark.parametrize("version", ["1", "2"])
def test_a_child_may_close_the_answers_of_its_parent(server: HttpServer, version: str, client: str) -> None:
    """Also where a thread of the parent was using the pool just then; the parent reads its answer to the end."""
    with HttpServer("two", module="tests.servers.h2_server") as two:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        address = two.address if version == "2" else server.address
        command = [sys.executable, "-W", "error", "-c", CLOSING, address, version, client]
        left = subprocess.run(command, check=True, timeout=120, env=environment, capture_output=True, text=True)
    assert (left.stdout, left.stderr) == ("0 True\n", "")
