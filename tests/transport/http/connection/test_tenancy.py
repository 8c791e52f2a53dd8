"""How long connections are kept, and what ends them."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest

import svcmesh
from svcmesh import Policy
from svcmesh.balance import RoundRobin
from svcmesh.engine.member import Commons, Member
from svcmesh.transport.http.connection.pool import Pool
from svcmesh.transport.http.connection.tenancy import Tenancy
from tests.servers.consul_agent import until
from tests.servers.http_process import HttpServer
from tests.transport.http.colours import COLOURS, AsyncCaller, Colour, in_flight


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


@pytest.fixture
def mesh(server: HttpServer) -> Iterator[svcmesh.Mesh]:
    with svcmesh.Mesh({"orders": [server.address], "empty": []}) as mesh:
        yield mesh


def test_closing_a_client_closes_nothing_else(mesh: svcmesh.Mesh) -> None:
    """Not the mesh, not the service, not the other client."""
    orders = mesh.service("orders")
    one, other = orders.http_client(), orders.http_client()
    one.get("/echo")
    other.get("/echo")
    one.close()
    assert other.get("/echo").status_code == 200
    assert orders.http_client().get("/echo").status_code == 200
    other.close()


def test_an_endpoint_that_leaves_is_drained(server: HttpServer) -> None:
    """Its idle connections are closed when it goes, and an answer that is under way is still read to its end."""
    with svcmesh.Mesh({"orders": [server.address]}) as mesh:
        orders = mesh.service("orders")
        with orders.http_client() as client:
            client.get("/echo")
            with client.stream("GET", "/chunks/3") as response:
                client.get("/echo")
                transport: Any = client._transport
                pool = next(iter(transport._connections.values())).pool
                (member,) = orders.view.cluster.members.values()
                assert (pool.opened, pool.idle, member in pool) == (2, 1, True)
                member.close()  # what the cluster does with one that has left
                assert (pool.opened, pool.idle, member in pool) == (1, 0, False)
                assert response.read() == b"part 0;part 1;part 2;"
            assert pool.opened == 0
            assert in_flight(orders) == 0


def test_idle_connections_end_when_their_endpoint_leaves_although_others_are_busy(server: HttpServer) -> None:
    """A server that is on its way out is not held up by connections that nobody will use again."""
    with svcmesh.Mesh({"orders": [server.address]}) as mesh:
        orders = mesh.service("orders")
        with orders.http_client() as client:
            client.get("/echo")
            with client.stream("GET", "/chunks/3") as response:
                client.get("/echo")
                transport: Any = client._transport
                pool = next(iter(transport._connections.values())).pool
                assert (pool.opened, pool.idle) == (2, 1)
                orders.view.cluster.apply(svcmesh.Snapshot(()))
                assert (pool.opened, pool.idle) == (1, 0)
                assert response.read() == b"part 0;part 1;part 2;"
            assert pool.opened == 0


def test_a_call_that_was_still_to_begin_keeps_nothing_of_an_endpoint_that_has_left() -> None:
    """It may connect, as it has been sent there; the connection ends with it."""
    member = Member(svcmesh.Endpoint("127.0.0.1:1"), Commons(lambda now: math.inf))
    pool: Pool[Member, Any] = Pool(Mock, Mock)
    tenancy = Tenancy(pool)
    tenancy.begin(member)
    member.close_idle()
    tenancy.begin(member)
    connection: Any = pool.take(member, 0.0)
    pool.give(member, connection, 0.0, keep=True)
    assert (pool.opened, member in pool) == (0, False)
    connection.close.assert_called_once()
    tenancy.end()


def test_a_stay_that_has_ended_keeps_nothing_of_a_call_that_was_still_to_begin() -> None:
    member = Member(svcmesh.Endpoint("127.0.0.1:1"), Commons(lambda now: math.inf))
    pool: Pool[Member, Any] = Pool(Mock, Mock)
    tenancy = Tenancy(pool)
    tenancy.end()
    tenancy.begin(member)
    connection: Any = pool.take(member, 0.0)
    pool.give(member, connection, 0.0, keep=True)
    assert (pool.opened, member in pool, member._attachments) == (0, False, {})
    connection.close.assert_called_once()


@pytest.mark.parametrize("colour", COLOURS.values(), ids=COLOURS)
def test_a_call_that_outlives_its_client_leaves_no_connection(colour: Colour) -> None:
    """Its client is closed while it waits for its retry, which connects anew, succeeds, and hangs up."""
    with HttpServer() as server, svcmesh.Mesh({"orders": [server.address]}) as mesh:
        caller = colour(mesh.service("orders"))

        def close(_: object) -> None:
            if isinstance(caller, AsyncCaller):
                closing.append(asyncio.get_running_loop().create_task(caller.async_client.aclose()))
            else:
                caller.client.close()

        closing: list[asyncio.Task[None]] = []
        with mesh.events.subscribe(close, "retry.scheduled"):
            assert caller.get("/first/drop/echo").status_code == 200
        until(lambda: server.stats()["open"] == 1)  # that of the question itself
        caller.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 on its loopback")
def test_many_endpoints_keep_their_connections(server: HttpServer) -> None:
    """Twenty-four endpoints: the second round opens nothing. The stock pool opens one for every request."""
    names = [f"127.0.0.{number}" for number in range(1, 25)]
    with HttpServer("all", listen="0.0.0.0:0") as everywhere:
        mesh = svcmesh.Mesh(
            {"orders": [f"{name}:{everywhere.port}" for name in names]}, policy=Policy(load_balancer=RoundRobin())
        )
        with mesh, mesh.service("orders").http_client() as client:
            first = [client.get("/echo").json()["connection"] for _ in range(24)]
            second = [client.get("/echo").json()["connection"] for _ in range(24)]
    assert len(set(first)) == 24
    assert set(second) == set(first)


def test_clients_that_come_and_go_leave_nothing_with_the_endpoints(mesh: svcmesh.Mesh) -> None:
    """A client per request is a bad idea, and not a leak: closed or dropped, it leaves the endpoint's books."""
    orders = mesh.service("orders")
    for number in range(6):
        client = orders.http_client()
        client.get("/echo")
        if number % 2:
            client.close()
        del client
        gc.collect()
    with orders.http_client() as client:
        client.get("/echo")
        (member,) = orders.view.cluster.members.values()
        assert len(member._attachments) <= 2
