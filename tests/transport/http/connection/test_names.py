"""Names of endpoints are resolved inside the time of an attempt, whatever the name server does."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

import svcmesh
from svcmesh import Policy
from svcmesh.core.address import parse_address
from svcmesh.transport.http.connection import names as http_names
from svcmesh.transport.http.connection.names import MOST, Names
from tests.servers.grpc_process import blackhole_port
from tests.servers.http_process import HttpServer
from tests.transport.http.colours import COLOURS, Colour, ask_anew, in_flight

ADDRESS = parse_address("somewhere.example:80")


class Resolver:
    """In place of ``socket.getaddrinfo``: silent about some names until the test ends."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {}
        self.speak = threading.Event()

    def getaddrinfo(self, host: str, port: int, **_: object) -> list[Any]:
        self.asked.append(host)
        if host not in self.answers:
            self.speak.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        answer = self.answers[host]
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
    ask_anew(monkeypatch)
    yield found
    found.speak.set()


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


@pytest.fixture(params=COLOURS)
def caller(request: pytest.FixtureRequest) -> Colour:
    return COLOURS[request.param]


def test_a_silent_name_server_does_not_outlast_the_deadline(caller: Colour, resolver: Resolver) -> None:
    """The call ends when its time does."""
    with svcmesh.Mesh({"orders": ["silent.example:80"]}, policy=Policy(timeout=0.2)) as mesh:
        service = mesh.service("orders")
        with caller(service) as client:
            began = time.monotonic()
            with pytest.raises(httpx.TimeoutException):
                client.get("/")
            assert time.monotonic() - began < 10
        assert in_flight(service) == 0


def test_a_silent_name_server_costs_one_try(caller: Colour, resolver: Resolver, server: HttpServer) -> None:
    """The request was surely not sent, so that even a POST goes to an endpoint that has an address."""
    addresses = ["silent.example:80", server.address]
    policy = Policy.standard().replace(per_try_timeout=0.7)
    with svcmesh.Mesh({"orders": addresses}, policy=policy) as mesh, caller(mesh.service("orders")) as client:
        assert [client.request("POST", "/echo").status_code for _ in range(4)] == [200] * 4
    assert resolver.asked.count("silent.example") <= 1, "a thread is stuck already: no second one is risked"


def test_httpxs_connect_timeout_holds_for_names(caller: Colour, resolver: Resolver) -> None:
    with (
        svcmesh.Mesh({"orders": ["silent.example:80"]}, policy=Policy()) as mesh,
        caller(mesh.service("orders"), timeout=httpx.Timeout(20, connect=0.1)) as client,
    ):
        began = time.monotonic()
        with pytest.raises(httpx.ConnectTimeout):
            client.get("/")
        assert time.monotonic() - began < 5


def test_what_a_caller_is_told_of_a_silent_resolver(caller: Colour, resolver: Resolver) -> None:
    """The name, because a timeout alone would be looked for at the server."""
    with (
        svcmesh.Mesh({"orders": ["silent.example:80"]}, policy=Policy()) as mesh,
        caller(mesh.service("orders"), timeout=0.1) as client,
        pytest.raises(httpx.ConnectTimeout, match="silent.example"),
    ):
        client.get("/")


def test_what_a_caller_is_told_of_a_silent_server(caller: Colour) -> None:
    """That its name was found."""
    with (
        blackhole_port() as port,
        svcmesh.Mesh({"orders": [f"localhost:{port}"]}, policy=Policy()) as mesh,
        caller(mesh.service("orders"), timeout=0.7) as client,
        pytest.raises(httpx.ConnectTimeout, match="timed out"),
    ):
        client.get("/")


def test_one_name_is_asked_for_once_at_a_time(resolver: Resolver) -> None:
    """However many threads want it, and once more only when the answer has grown old."""
    names = Names()
    slow = threading.Event()

    def answer(host: str, port: int, **_: object) -> list[Any]:
        resolver.asked.append(host)
        slow.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(8) as threads:
        patch.setattr(socket, "getaddrinfo", answer)
        waiting = [threads.submit(names.wait, ADDRESS, 10) for _ in range(8)]
        slow.set()
        assert [each.result() for each in waiting] == [[(socket.AF_INET, ("127.0.0.1", 80))]] * 8
    assert resolver.asked == ["somewhere.example"]


def test_an_answer_grows_old(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(http_names, "monotonic", lambda: now[0])
    names = Names()
    resolver.answers["somewhere.example"] = "127.0.0.1"
    assert names.wait(ADDRESS, 5) == names.wait(ADDRESS, 5)
    assert len(resolver.asked) == 1
    resolver.answers["somewhere.example"] = "127.0.0.2"
    now[0] += http_names.FRESH
    assert names.wait(ADDRESS, 5) == [(socket.AF_INET, ("127.0.0.2", 80))]


def test_a_failure_is_no_answer_to_remember(resolver: Resolver) -> None:
    """The next connection asks again, and errors are not shared between those who are told."""
    names = Names()
    resolver.answers["somewhere.example"] = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    told: list[BaseException] = []
    for _ in range(2):
        with pytest.raises(socket.gaierror, match="not known") as caught:
            names.wait(ADDRESS, 5)
        told.append(caught.value)
    assert told[0] is not told[1]
    assert len(resolver.asked) == 2


def test_stuck_threads_are_bounded(resolver: Resolver) -> None:
    """Further names wait for their turn inside their own time, and are told why."""
    names = Names()
    for number in range(MOST):
        with pytest.raises(TimeoutError):
            names.wait(parse_address(f"silent-{number}.example:80"), 0.001)
    with pytest.raises(TimeoutError, match=f"because {MOST} at a time are"):
        names.wait(ADDRESS, 0.01)
    assert sum(thread.name == "svcmesh-names" for thread in threading.enumerate()) == MOST
    resolver.answers["somewhere.example"] = "127.0.0.1"
    resolver.speak.set()
    assert names.wait(ADDRESS, 10) == [(socket.AF_INET, ("127.0.0.1", 80))]


async def test_a_wait_that_is_cancelled_leaves_nothing_on_the_loop(resolver: Resolver) -> None:
    names = Names()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await names.wait_async(ADDRESS)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_an_answer_that_comes_after_its_loop_has_ended_is_nobodys(resolver: Resolver) -> None:
    """The thread that has it must not fail over it (an exception there would fail this test)."""
    names = Names()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await names.wait_async(ADDRESS)

    asyncio.run(give_up())
    resolver.speak.set()
    with pytest.raises(socket.gaierror):
        names.wait(ADDRESS, 10)


LEAVING = """
import socket, threading, svcmesh
socket.getaddrinfo = lambda *args, **kwargs: threading.Event().wait(600)
with svcmesh.Mesh({"orders": ["silent.example:80"]}, policy=svcmesh.Policy(timeout=0.1)) as mesh:
    try:
        mesh.service("orders").http_client().get("/")
    except Exception as error:
        print("late")
import asyncio
async def awaiting():
    async with mesh2.service("orders").http_async_client() as client:
        try:
            await client.get("/")
        except Exception as error:
            print("late")
with svcmesh.Mesh({"orders": ["silent.example:80"]}, policy=svcmesh.Policy(timeout=0.1)) as mesh2:
    asyncio.run(awaiting())
"""


def test_a_stuck_resolver_does_not_hold_up_the_end_of_the_interpreter() -> None:
    """Nor that of an event loop, whose own executor would wait for its threads."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", LEAVING]
    left = subprocess.run(command, check=True, timeout=120, env=environment, capture_output=True, text=True)
    assert (left.stdout, left.stderr) == ("late\nlate\n", "")
