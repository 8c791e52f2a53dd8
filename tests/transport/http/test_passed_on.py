"""Hosts that no service serves: who may use their connections, and when those are closed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

import svcmesh
from tests.servers.http_process import HttpServer


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


@pytest.fixture
def mesh() -> Iterator[svcmesh.Mesh]:
    with svcmesh.Mesh({"orders": ["127.0.0.1:1"]}) as mesh:
        yield mesh


def others_than_ours(server: HttpServer, wanted: int) -> int:
    """Return how many connections the server has besides that of the question, once those are ``wanted``, or not."""
    end = time.monotonic() + 10
    while (found := server.stats()["open"] - 1) != wanted and time.monotonic() < end:
        time.sleep(0.01)
    return found


FORKING = """
import asyncio, os, sys, httpx, svcmesh
kind, address = sys.argv[1:]
mesh = svcmesh.Mesh({"orders": ["127.0.0.1:1"]})
url = f"http://{address}/echo"
if kind == "blocking":
    client = httpx.Client(transport=mesh.http_transport(passthrough=True), timeout=30)
    ask = lambda: str(client.get(url).json()["connection"])
else:
    async_client = httpx.AsyncClient(transport=mesh.http_async_transport(passthrough=True), timeout=30)
    runner = asyncio.Runner()
    async def get():
        return str((await async_client.get(url)).json()["connection"])
    def ask():
        return runner.run(get())
print("parent", ask(), flush=True)
child = os.fork()
if child == 0:
    if kind == "awaiting":
        runner = asyncio.Runner()
    print("child", ask(), ask(), flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
print("parent", ask(), os.waitstatus_to_exitcode(status), flush=True)
if kind == "awaiting":
    runner.close()
else:
    client.close()
mesh.close()
"""


@pytest.mark.parametrize("kind", ["blocking", "awaiting"])
def test_a_forked_child_has_connections_of_its_own(server: HttpServer, kind: str) -> None:
    """Or it would read its parent's answers, and the parent those of the child."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    warnings = ["-W", "error"] if kind == "blocking" else []  # asyncio warns of sockets that only the parent may close
    command = [sys.executable, *warnings, "-c", FORKING, kind, server.address]
    left = subprocess.run(command, check=True, timeout=120, env=environment, capture_output=True, text=True)
    (_, before), (_, first, second), (_, after, status) = (line.split() for line in left.stdout.splitlines())
    assert (after, status) == (before, "0"), "the parent keeps its own, and the child has ended well"
    assert first == second != before, "the child has one of its own, and keeps that"
    assert left.stderr == ""


def test_a_transport_that_was_given_is_not_forgotten_in_a_child(mesh: svcmesh.Mesh) -> None:
    """It is the user's, who may have reasons; svcmesh only forgets what it made."""
    inner = httpx.MockTransport(lambda request: httpx.Response(200))
    transport = mesh.http_transport(passthrough=True, inner=inner)
    transport.forget()  # type: ignore[attr-defined]
    with httpx.Client(transport=transport) as client:
        assert client.get("http://elsewhere/").status_code == 200


def test_one_loop_after_the_other(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    """Each has a connection of its own, which ends with its loop although nobody has closed the client."""
    client = httpx.AsyncClient(transport=mesh.http_async_transport(passthrough=True))

    async def ask() -> int:
        await client.get(f"http://{server.address}/echo")
        return int((await client.get(f"http://{server.address}/echo")).json()["connection"])

    assert len({asyncio.run(ask()) for _ in range(3)}) == 3
    assert others_than_ours(server, 0) == 0


def test_the_loop_that_closes_a_client_lets_others_close_their_own(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    """Only a connection's own loop can close it, also when that is in another thread."""
    client = httpx.AsyncClient(transport=mesh.http_async_transport(passthrough=True))
    asked, done = threading.Event(), threading.Event()

    async def ask() -> None:
        await client.get(f"http://{server.address}/echo")

    async def other() -> None:
        await ask()
        asked.set()
        await asyncio.to_thread(done.wait, 30)

    async def close() -> None:
        await ask()
        assert await asyncio.to_thread(others_than_ours, server, 2) == 2
        await client.aclose()

    thread = threading.Thread(target=asyncio.run, args=(other(),))
    thread.start()
    assert asked.wait(30)
    asyncio.run(close())
    left = others_than_ours(server, 0)
    done.set()
    thread.join(30)
    assert left == 0


def test_a_client_that_is_closed_by_the_end_of_its_loop(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    """An application that closes it in a generator which the loop ends: beside ours, in whatever order."""
    client = httpx.AsyncClient(transport=mesh.http_async_transport(passthrough=True))

    async def held() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await client.aclose()

    async def ask() -> object:
        await client.get(f"http://{server.address}/echo")
        holder = held()
        await anext(holder)
        return holder

    asyncio.run(ask())
    assert client.is_closed
    assert others_than_ours(server, 0) == 0


def test_a_scheme_that_nobody_serves_is_refused_before_a_loop_is_looked_for(mesh: svcmesh.Mesh) -> None:
    """As by the stock transport, in its words: so under trio it is no matter of asyncio."""
    transport = mesh.http_async_transport(passthrough=True)
    for url, words in (("invalid://example.org", "unsupported protocol 'invalid://'"), ("//example.org", "is missing")):
        with pytest.raises(httpx.UnsupportedProtocol, match=words):
            transport.handle_async_request(httpx.Request("GET", url)).send(None)
