"""One client for loops that come and go in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

import svcmesh
from svcmesh.transport.http.by_loop import Loops
from tests.servers.http_process import HttpServer
from tests.transport.http.colours import in_flight


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


def in_threads(count: int, work: object) -> list[BaseException]:
    """Run ``work`` in threads; return what they raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - that is what is looked at
            raised.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return raised


def test_loops_in_threads_share_a_client(server: HttpServer) -> None:
    """Two threads that find the same ended loops at once do not disturb each other."""
    with svcmesh.Mesh({"orders": [server.address]}) as mesh:
        orders = mesh.service("orders")
        client = orders.http_async_client()

        async def ask() -> None:
            assert (await client.get("/echo")).status_code == 200

        async def close() -> None:
            await client.aclose()

        def work() -> None:
            for _ in range(25):
                asyncio.run(ask())

        assert in_threads(8, work) == []
        assert in_flight(orders) == 0
        asyncio.run(close())


def test_homes_of_ended_loops_are_given_up_when_another_one_comes() -> None:
    """And a loop keeps its home, whoever moves in beside it."""
    loops, stays = Loops(), asyncio.new_event_loop()
    kept = loops.home(stays)

    def work() -> None:
        for _ in range(200):
            loop = asyncio.new_event_loop()
            assert loops.home(loop) is loops.home(loop)
            loop.close()

    assert in_threads(4, work) == []
    assert loops.home(stays) is kept
    stays.close()
    last = asyncio.new_event_loop()
    home = loops.home(last)
    assert loops.values() == [home] != [kept]
    last.close()
