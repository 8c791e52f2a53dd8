"""Clients and transports as users make them: which of httpx's arguments are applied, refused, or passed on."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import svcmesh
from svcmesh import Policy
from svcmesh.balance import RoundRobin
from svcmesh.testing import FakeClock
from svcmesh.transport.http_errors import as_httpx
from svcmesh.transport.http_route import host_of
from tests.servers.http_process import HttpServer
from tests.transport.http_colours import in_flight


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("one") as one:
        yield one


@pytest.fixture
def mesh(server: HttpServer) -> Iterator[svcmesh.Mesh]:
    with svcmesh.Mesh({"orders": [server.address], "empty": []}) as mesh:
        yield mesh


def test_clients_are_stock_clients(mesh: svcmesh.Mesh) -> None:
    """Of httpx's own classes, with the service as base URL and httpx's default timeout."""
    orders = mesh.service("orders")
    client, async_client = orders.http_client(), orders.http_async_client()
    assert (type(client), type(async_client)) == (httpx.Client, httpx.AsyncClient)
    assert str(client.base_url) == str(async_client.base_url) == "http://orders"
    assert client.timeout == httpx.Timeout(5.0)
    client.close()
    asyncio.run(async_client.aclose())


def test_the_clients_own_arguments_reach_the_client(mesh: svcmesh.Mesh) -> None:
    """Headers, parameters, cookies, auth, hooks and redirects are the client's business and stay there."""
    hooked: list[str] = []
    hooks = {"request": [lambda request: hooked.append(request.method)]}
    with mesh.service("orders").http_client(
        headers={"X-Own": "1"}, params={"q": "2"}, cookies={"c": "3"}, auth=("u", "p"), event_hooks=hooks, timeout=9
    ) as client:
        seen = client.get("/echo").json()
    headers = {name.lower(): value for name, value in seen["headers"]}
    assert (headers["x-own"], seen["target"], headers["cookie"]) == ("1", "/echo?q=2", "c=3")
    assert headers["authorization"].startswith("Basic ")
    assert hooked == ["GET"]


def test_hooks_see_a_logical_request_once(mesh: svcmesh.Mesh) -> None:
    """Attempts happen below: what is retried three times is one request to hooks, auth and redirects."""
    hooked: list[int] = []
    hooks = {"response": [lambda response: hooked.append(response.status_code)]}
    with mesh.service("orders").http_client(event_hooks=hooks) as client:
        client.get("/status/503")
    assert hooked == [503]


@pytest.mark.parametrize(
    ("argument", "value", "instead"),
    [
        ("proxy", "http://proxy:3128", "mounts"),
        ("uds", "/run/secret.sock", "unix:"),
        ("retries", 3, "Retry"),
        ("transport", httpx.MockTransport(lambda request: httpx.Response(200)), "inner"),
    ],
)
def test_what_makes_no_sense_is_refused(mesh: svcmesh.Mesh, argument: str, value: Any, instead: str) -> None:
    """With what to do instead; httpx would ignore some of them without a word."""
    for make in (mesh.service("orders").http_client, mesh.service("orders").http_async_client):
        with pytest.raises(svcmesh.ConfigError, match=instead) as caught:
            make(**{argument: value})
        assert argument in str(caught.value)
        assert str(value) not in str(caught.value)  # it may hold a password


def test_arguments_that_do_not_exist_are_refused(mesh: svcmesh.Mesh) -> None:
    orders = mesh.service("orders")
    with pytest.raises(TypeError):
        orders.http_client(time_out=3)
    with pytest.raises(svcmesh.ConfigError, match="time_out"):
        orders.http_transport(time_out=3)
    with pytest.raises(svcmesh.ConfigError, match="http1 and http2"):
        orders.http_client(http1=False, http2=False)
    with pytest.raises(svcmesh.ConfigError, match="inner transport"):
        orders.http_transport(inner=httpx.HTTPTransport(), http2=True)
    with pytest.raises(svcmesh.ConfigError, match="BaseTransport"):
        orders.http_transport(inner=httpx.AsyncHTTPTransport())
    with pytest.raises(svcmesh.ConfigError, match="AsyncBaseTransport"):
        orders.http_async_transport(inner=httpx.HTTPTransport())


def test_bad_certificates_are_refused_when_the_client_is_made(mesh: svcmesh.Mesh) -> None:
    """As httpx does: not at the first call, ten minutes later."""
    with pytest.raises(OSError), pytest.warns(DeprecationWarning, match="cert"):
        mesh.service("orders").http_client(cert="/does/not/exist.pem")


def test_no_ssl_context_is_made_before_it_is_needed(mesh: svcmesh.Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred services would spend eleven seconds on contexts that plain HTTP never uses."""
    made: list[object] = []
    monkeypatch.setattr(httpx, "create_ssl_context", lambda **kwargs: made.append(kwargs))
    with mesh.service("orders").http_client() as client:
        client.get("/echo")
    assert made == []


def test_mesh_transport_takes_hosts_for_names(mesh: svcmesh.Mesh) -> None:
    """In any case; a service that discovery does not know is refused, as httpx's ConnectError and our NoEndpoints."""
    with httpx.Client(transport=mesh.http_transport()) as client:
        assert client.get("http://orders/echo").status_code == 200
        assert client.get("http://ORDERS/echo").status_code == 200
        with pytest.raises(svcmesh.NoEndpoints) as caught:
            client.get("http://nobody/echo")
    assert isinstance(caught.value, httpx.ConnectError)
    assert str(caught.value.request.url) == "http://nobody/echo"


def test_async_mesh_transport_takes_hosts_for_names(mesh: svcmesh.Mesh) -> None:
    async def check() -> None:
        async with httpx.AsyncClient(transport=mesh.http_async_transport()) as client:
            assert (await client.get("http://orders/echo")).status_code == 200
            with pytest.raises(svcmesh.NoEndpoints):
                await client.get("http://nobody/echo")

    asyncio.run(check())


def test_a_port_in_the_url(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    """It must be the endpoints' own; another one is refused, with what there is."""
    with httpx.Client(transport=mesh.http_transport()) as client:
        assert client.get(f"http://orders:{server.port}/echo").status_code == 200
        with pytest.raises(svcmesh.NoEndpoints, match=str(server.port)):
            client.get("http://orders:1/echo")
        with pytest.raises(svcmesh.NoEndpoints):
            client.get("http://empty:1/echo")


def test_passthrough(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    """Unknown names and other ports go to a plain transport, or to the one that was given."""
    with httpx.Client(transport=mesh.http_transport(passthrough=True)) as client:
        response = client.get(f"http://{server.address}/echo")
        assert ["Host", server.address] in response.json()["headers"]
        assert svcmesh.info(response) is None
        assert svcmesh.info(client.get("http://orders/echo")) is not None
        with pytest.raises(httpx.ConnectError):
            client.get("http://orders:1/echo")
    inner = httpx.MockTransport(lambda request: httpx.Response(200, text=str(request.url)))
    with httpx.Client(transport=mesh.http_transport(passthrough=True, inner=inner)) as client:
        assert client.get("http://elsewhere/x").text == "http://elsewhere/x"


def test_async_passthrough(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    async def check() -> None:
        async with httpx.AsyncClient(transport=mesh.http_async_transport(passthrough=True)) as client:
            response = await client.get(f"http://{server.address}/echo")
            assert svcmesh.info(response) is None
            assert svcmesh.info(await client.get("http://orders/echo")) is not None

    asyncio.run(check())


def test_a_services_client_serves_that_service_only(mesh: svcmesh.Mesh) -> None:
    """A redirect or an absolute URL to another host is not sent to the service's endpoints."""
    with mesh.service("orders").http_client() as client:
        with pytest.raises(svcmesh.NoEndpoints, match="serves http://orders only"):
            client.get("http://elsewhere/")
        with pytest.raises(httpx.UnsupportedProtocol, match="ftp"):
            client.get("ftp://orders/")
    client = httpx.Client(transport=mesh.http_transport())
    with client, pytest.raises(httpx.UnsupportedProtocol, match="missing"):
        client.get("/no/host")


def test_mounts_keep_other_hosts_apart(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    with httpx.Client(mounts={"http://orders": mesh.service("orders").http_transport()}) as client:
        assert svcmesh.info(client.get("http://orders/echo")) is not None
        assert svcmesh.info(client.get(f"http://{server.address}/echo")) is None


def test_an_inner_transport_gets_the_logical_url_and_the_endpoint(mesh: svcmesh.Mesh, server: HttpServer) -> None:
    """And the attempt's time as timeouts; what it answers is counted like any other answer."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(503 if len(seen) == 1 else 200, text="mocked")

    orders = mesh.service("orders")
    with httpx.Client(transport=orders.http_transport(inner=httpx.MockTransport(answer)), timeout=60) as client:
        response = client.get("http://orders/path")
    info = svcmesh.info(response)
    assert info is not None
    assert (response.text, info.attempts, str(seen[0].url)) == ("mocked", 2, "http://orders/path")
    assert seen[0].extensions["svcmesh.endpoint"].address == server.address
    assert 0 < seen[0].extensions["timeout"]["read"] <= 3
    assert client.timeout.read == 60
    assert in_flight(orders) == 0


def test_an_inner_stock_transport_works_in_both_colours(server: HttpServer) -> None:
    """Under the logical URL it resolves names itself, so here the service is called what the machine is called."""
    with svcmesh.Mesh({"localhost": [server.address]}) as mesh:
        service = mesh.service("localhost")
        with httpx.Client(transport=service.http_transport(inner=httpx.HTTPTransport())) as client:
            assert client.get(f"http://localhost:{server.port}/chunks/2").text == "part 0;part 1;"

        async def check() -> None:
            transport = service.http_async_transport(inner=httpx.AsyncHTTPTransport())
            async with httpx.AsyncClient(transport=transport) as client:
                assert (await client.get(f"http://localhost:{server.port}/chunks/2")).text == "part 0;part 1;"
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.post(f"http://localhost:{server.port}/drop")

        asyncio.run(check())
        assert in_flight(service) == 0


def test_an_inner_transport_is_closed_once(mesh: svcmesh.Mesh) -> None:
    closed: list[str] = []

    class Closing(httpx.MockTransport):
        def close(self) -> None:
            closed.append("closed")

    inner = Closing(lambda request: httpx.Response(200))
    with httpx.Client(transport=mesh.service("orders").http_transport(inner=inner)) as client:
        client.get("http://orders/")
    assert closed == ["closed"]


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


def test_trio_is_refused_with_a_reason(mesh: svcmesh.Mesh) -> None:
    """A coroutine that no asyncio loop runs gets an error that says what to use instead."""
    coroutine = mesh.service("orders").http_async_transport().handle_async_request(httpx.Request("GET", "http://orders/"))
    with pytest.raises(svcmesh.ConfigError, match="asyncio"):
        coroutine.send(None)


@pytest.mark.parametrize(
    ("error", "theirs"),
    [
        (svcmesh.NoEndpoints("nobody"), httpx.ConnectError),
        (svcmesh.CircuitOpen("open", retry_after=2.5), httpx.ConnectError),
        (svcmesh.LimitExceeded("full"), httpx.PoolTimeout),
        (svcmesh.DeadlineExceeded("late"), httpx.TimeoutException),
    ],
)
def test_refusals_are_ours_and_httpxs(error: svcmesh.SvcmeshError, theirs: type[Exception]) -> None:
    """Whichever name the caller catches; with the request, and the same after pickling."""
    request = httpx.Request("GET", "http://orders/")
    found: Any = as_httpx(error, request)
    for each in (found, pickle.loads(pickle.dumps(found))):
        assert isinstance(each, type(error))
        assert isinstance(each, theirs)
        assert isinstance(each, httpx.TransportError)
        assert (str(each), each.retry_after, str(each.request.url)) == (str(error), error.retry_after, "http://orders/")


def test_an_error_without_counterpart_is_raised_as_it_is() -> None:
    error = svcmesh.DiscoveryError("unreadable")
    assert as_httpx(error, httpx.Request("GET", "http://orders/")) is error


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("orders", "orders"),
        ("orders.prod_2", "orders.prod_2"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "[::1]"),
        ("consul://127.0.0.1:8500/orders?tag=x", "orders"),
        ("static://10.0.0.1:80,10.0.0.2:80", "static"),
        ("dns:///orders.internal:80", "orders.internal"),
    ],
)
def test_the_host_of_a_service(name: str, host: str) -> None:
    """Its name, or what stands for the name in a URI."""
    assert host_of(name) == host


@pytest.mark.parametrize("name", ["a b", "a/b", "user@host", "a#b"])
def test_a_name_that_no_url_can_hold(name: str) -> None:
    with pytest.raises(svcmesh.ConfigError, match="host of a URL"):
        host_of(name)


def test_a_service_by_uri_has_a_client(server: HttpServer) -> None:
    with svcmesh.Mesh({}) as mesh, mesh.service(f"static://{server.address}").http_client() as client:
        assert client.get("/echo").status_code == 200


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
    for number in range(20):
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


def test_watched_calls_take_the_machine_and_end_the_same(mesh: svcmesh.Mesh) -> None:
    """With somebody listening to every attempt, answers, streams and counts are as without."""
    seen: list[str] = []
    orders = mesh.service("orders")
    subscription = mesh.events.subscribe(lambda event: seen.append(event.name), "attempt.finished", "call.finished")
    with orders.http_client() as client:
        response = client.get("/echo")
        assert client.get("/chunks/2").text == "part 0;part 1;"
        assert client.get("/status/404").status_code == 404
    info = svcmesh.info(response)
    assert info is not None
    assert (info.attempts, info.endpoints) == (1, orders.endpoints)
    assert seen == ["attempt.finished", "call.finished"] * 3
    assert in_flight(orders) == 0
    subscription.close()


@pytest.mark.parametrize("listening", [False, True])
def test_an_interrupted_call_is_nobodys_fault(mesh: svcmesh.Mesh, listening: bool) -> None:
    """Ctrl-C inside a call comes through, and nothing stays in flight, on either path."""

    def interrupted(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    orders = mesh.service("orders")
    if listening:
        mesh.events.subscribe(lambda event: None, "call.finished")
    with httpx.Client(transport=orders.http_transport(inner=httpx.MockTransport(interrupted))) as client:
        for _ in range(6):
            with pytest.raises(KeyboardInterrupt):
                client.get("http://orders/")
    assert in_flight(orders) == 0
    assert mesh.state()["services"]["orders"]["endpoints"][0]["ejected"] is None


def test_virtual_time_and_real_sockets(server: HttpServer) -> None:
    """Under a clock that stands still, a call to a real server works, and its time is counted on the machine's."""
    clock = FakeClock(autojump=False)
    policy = Policy(per_try_timeout=0.2, timeout=5)
    with svcmesh.Mesh({"orders": [server.address]}, clock=clock, policy=policy) as mesh:
        client = mesh.service("orders").http_client()
        assert client.get("/echo").status_code == 200
        with pytest.raises(httpx.TimeoutException):
            client.get("/slow/3")
        client.close()


def test_the_public_face() -> None:
    """`svcmesh.http` names the classes that users check for and catch."""
    from svcmesh import http

    assert issubclass(http.MeshTransport, httpx.BaseTransport)
    assert issubclass(http.AsyncMeshTransport, httpx.AsyncBaseTransport)
    assert issubclass(http.HTTPNoEndpoints, svcmesh.NoEndpoints)


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


def test_a_policy_that_does_nothing_still_sends(server: HttpServer) -> None:
    with svcmesh.Mesh({"orders": [server.address]}, policy=Policy()) as mesh:
        client = mesh.service("orders").http_client()
        assert client.get("/status/503").status_code == 503
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/drop")
        client.close()
