"""Clients and transports as users make them: which of httpx's arguments are applied, refused, or passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import svcmesh
from svcmesh import Policy
from svcmesh.testing import FakeClock
from tests.servers.http_process import HttpServer
from tests.transport.http.colours import in_flight


class Silent:
    """A registry that never answers."""

    async def watch(self, service: str) -> AsyncIterator[svcmesh.Snapshot]:
        await asyncio.Event().wait()
        yield svcmesh.Snapshot(())


def get(colour: str, mesh: svcmesh.Mesh, url: str, *, passthrough: bool, **kwargs: Any) -> httpx.Response:
    """Get ``url`` through a transport of the whole mesh."""

    async def awaited() -> httpx.Response:
        async with httpx.AsyncClient(transport=mesh.http_async_transport(passthrough=passthrough)) as client:
            return await client.get(url, **kwargs)

    if colour == "awaiting":
        return asyncio.run(awaited())
    with httpx.Client(transport=mesh.http_transport(passthrough=passthrough)) as client:
        return client.get(url, **kwargs)


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


def test_a_base_url_is_one_of_the_service(mesh: svcmesh.Mesh) -> None:
    """With a path or TLS it may be; one of another host would have every request refused."""
    with mesh.service("orders").http_client(base_url="http://orders/v1") as client:
        assert client.get("/echo").json()["target"] == "/v1/echo"
    with pytest.raises(svcmesh.ConfigError, match="base_url: the host 'else' is not service 'orders'") as caught:
        mesh.service("orders").http_client(base_url="http://user:secret@else")
    assert "secret" not in str(caught.value)


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


def test_netrc_is_read_where_it_is_asked_for(
    mesh: svcmesh.Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by stock clients: by `httpx.NetRCAuth`, and by nothing else."""
    file = tmp_path / "netrc"
    file.write_text("machine orders login me password secret\n")
    monkeypatch.setenv("NETRC", str(file))
    for auth, sent in ((None, False), (httpx.NetRCAuth(str(file)), True)):
        with mesh.service("orders").http_client(auth=auth) as client:
            names = {name.lower() for name, _ in client.get("/echo").json()["headers"]}
        assert ("authorization" in names) is sent


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
        ("inner", httpx.MockTransport(httpx.Response), r"http_transport\(inner="),
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
    with pytest.raises(svcmesh.ConfigError, match="limits"):
        orders.http_client(limits=10)
    with pytest.raises(svcmesh.ConfigError, match="http1 and http2"):
        orders.http_client(http1=False, http2=False)
    with pytest.raises(svcmesh.ConfigError, match="inner transport"):
        orders.http_transport(inner=httpx.HTTPTransport(), http2=True)
    with pytest.raises(svcmesh.ConfigError, match="BaseTransport"):
        orders.http_transport(inner=httpx.AsyncHTTPTransport())
    with pytest.raises(svcmesh.ConfigError, match="AsyncBaseTransport"):
        orders.http_async_transport(inner=httpx.HTTPTransport())


@pytest.mark.filterwarnings("ignore:`cert=:DeprecationWarning")  # since httpx 0.28
def test_bad_certificates_are_refused_when_the_client_is_made(mesh: svcmesh.Mesh) -> None:
    """As httpx does: not at the first call, ten minutes later."""
    with pytest.raises(OSError):
        mesh.service("orders").http_client(cert="/does/not/exist.pem")


def test_no_ssl_context_is_made_before_it_is_needed(mesh: svcmesh.Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred services would spend eleven seconds on contexts that plain HTTP never uses."""
    made: list[object] = []
    monkeypatch.setattr(httpx, "create_ssl_context", lambda **kwargs: made.append(kwargs))
    with mesh.service("orders").http_client() as client:
        client.get("/echo")
    assert made == []


def test_trio_is_refused_with_a_reason(mesh: svcmesh.Mesh) -> None:
    """A coroutine that no asyncio loop runs gets an error that says what to use instead."""
    coroutine = (
        mesh.service("orders").http_async_transport().handle_async_request(httpx.Request("GET", "http://orders/"))
    )
    with pytest.raises(svcmesh.ConfigError, match="asyncio"):
        coroutine.send(None)


def test_trio_is_refused_before_discovery_is_waited_for() -> None:
    """Also where a port in the URL makes the call wait for endpoints first."""
    with svcmesh.Mesh(Silent()) as mesh:
        transport = mesh.service("orders").http_async_transport()
        coroutine = transport.handle_async_request(httpx.Request("GET", "http://orders:8080/"))
        with pytest.raises(svcmesh.ConfigError, match="asyncio"):
            coroutine.send(None)


@pytest.mark.parametrize("colour", ["blocking", "awaiting"])
@pytest.mark.parametrize("passthrough", [False, True], ids=["refusing", "passing on"])
@pytest.mark.parametrize("host", ["orders", "orders:8080"])
@pytest.mark.parametrize("timeout", [0.2, httpx.Timeout(9, connect=0.2)], ids=["number", "connect"])
def test_a_silent_registry_holds_a_request_for_no_longer_than_connecting_may_take(
    colour: str, host: str, timeout: Any, *, passthrough: bool
) -> None:
    """As a network does that loses all packets; also where no policy has a deadline."""
    clock = FakeClock()
    with svcmesh.Mesh(Silent(), policy=Policy(), clock=clock) as mesh:
        with pytest.raises(httpx.ConnectTimeout, match="'orders' in the 0.2 s") as caught:
            get(colour, mesh, f"http://{host}/", passthrough=passthrough, timeout=timeout)
        assert clock.now() == pytest.approx(0.2)
    assert isinstance(caught.value, svcmesh.DeadlineExceeded)
    assert str(caught.value.request.url) == f"http://{host}/"


@pytest.mark.parametrize("colour", ["blocking", "awaiting"])
@pytest.mark.parametrize("host", ["orders", "orders:8080"])
def test_all_time_spent_on_a_silent_registry_is_a_failure_to_connect(colour: str, host: str) -> None:
    """And it is spent once, also where a port in the URL has to wait for endpoints first."""
    clock = FakeClock()
    with svcmesh.Mesh(Silent(), policy=Policy(timeout=3), clock=clock) as mesh:
        with pytest.raises(httpx.ConnectTimeout, match="after 3 s, waiting for its endpoints"):
            get(colour, mesh, f"http://{host}/", passthrough=False, timeout=None)
        assert clock.now() == pytest.approx(3.0)


def test_a_service_by_uri_has_a_client(server: HttpServer) -> None:
    with svcmesh.Mesh({}) as mesh, mesh.service(f"static://{server.address}").http_client() as client:
        assert client.get("/echo").status_code == 200


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


def test_virtual_time_and_real_sockets(server: HttpServer) -> None:
    """Under a clock that stands still, a call to a real server works, and its time is counted on the machine's."""
    clock = FakeClock(autojump=False)
    policy = Policy(per_try_timeout=0.7, timeout=5)
    with svcmesh.Mesh({"orders": [server.address]}, clock=clock, policy=policy) as mesh:
        client = mesh.service("orders").http_client()
        assert client.get("/echo").status_code == 200
        with pytest.raises(httpx.TimeoutException):
            client.get("/slow/60")
        client.close()


def test_the_public_face() -> None:
    """`svcmesh.http` names the classes that users check for and catch."""
    from svcmesh import http

    assert issubclass(http.MeshTransport, httpx.BaseTransport)
    assert issubclass(http.AsyncMeshTransport, httpx.AsyncBaseTransport)
    assert issubclass(http.HTTPNoEndpoints, svcmesh.NoEndpoints)


def test_a_policy_that_does_nothing_still_sends(server: HttpServer) -> None:
    with svcmesh.Mesh({"orders": [server.address]}, policy=Policy()) as mesh:
        client = mesh.service("orders").http_client()
        assert client.get("/status/503").status_code == 503
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/drop")
        client.close()
