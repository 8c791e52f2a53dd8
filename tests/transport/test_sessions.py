"""Sticky sessions over real servers: clients come back to who answered them first, and move when that one is gone."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from svcmesh import Mesh, NoEndpoints, Policy, Retry
from svcmesh.balance import (
    CookieBasedSessionState,
    HeaderBasedSessionState,
    LeastRequest,
    RoundRobin,
    StatefulSession,
)
from svcmesh.balance.stateful_session import written
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.servers.http_process import HttpServer
from tests.transport.grpc.kit import ping, service_over
from tests.transport.http.colours import COLOURS

COOKIE = StatefulSession(CookieBasedSessionState("sid", path="/"))
HEADER = StatefulSession(HeaderBasedSessionState("x-session"))
STICKY = Policy(load_balancer=RoundRobin(), stateful_session=COOKIE)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """Names by address."""
    with HttpServer("a") as a, HttpServer("b") as b, HttpServer("c") as c:
        yield {server.address: server.name for server in (a, b, c)}


@pytest.mark.parametrize("colour", COLOURS)
def test_a_client_that_keeps_cookies_stays(servers: dict[str, str], colour: str) -> None:
    with Mesh({"orders": list(servers)}, policy=STICKY) as mesh, COLOURS[colour](mesh.service("orders")) as client:
        first = client.get("/echo")
        answers = [client.get(path) for path in ("/echo", "/status/404", "/chunks/2", "/echo")]

    assert first.headers["set-cookie"].startswith("sid=")
    assert {answer.headers.get("x-server", first.headers["x-server"]) for answer in answers} == {
        first.headers["x-server"]
    }
    assert not any("set-cookie" in answer.headers for answer in answers), "nothing has changed"


@pytest.mark.parametrize("colour", COLOURS)
def test_where_the_cookie_does_not_count_no_session_begins(servers: dict[str, str], colour: str) -> None:
    """Nor is one heeded that a caller sends there all the same; with ``strict``, too."""
    state = CookieBasedSessionState("sid", path="/status")
    policy = STICKY.replace(stateful_session=StatefulSession(state, strict=True))
    gone = {"cookie": "sid=" + written("gone:80")}
    with Mesh({"orders": list(servers)}, policy=policy) as mesh, COLOURS[colour](mesh.service("orders")) as client:
        elsewhere = [client.get("/echo", headers=gone) for _ in range(3)]
        below = client.get("/status/404")

    assert {answer.headers["x-server"] for answer in elsewhere} == {"a", "b", "c"}
    assert not any("set-cookie" in answer.headers for answer in elsewhere)
    assert below.headers["set-cookie"].endswith("Path=/status; HttpOnly")


def test_clients_do_not_share_their_sessions(servers: dict[str, str]) -> None:
    met = set()
    with Mesh({"orders": list(servers)}, policy=STICKY) as mesh:
        for _ in range(3):
            with mesh.service("orders").http_client() as client:
                met |= {client.get("/echo").headers["x-server"] for _ in range(3)}
    assert met == {"a", "b", "c"}


def test_a_header_takes_a_session_along(servers: dict[str, str]) -> None:
    policy = STICKY.replace(stateful_session=HEADER)
    with Mesh({"orders": list(servers)}, policy=policy) as mesh, mesh.service("orders").http_client() as client:
        first = client.get("/echo")
        headers = {"X-Session": first.headers["x-session"]}
        answers = [client.get("/echo", headers=headers) for _ in range(4)]

    assert {answer.headers["x-server"] for answer in answers} == {first.headers["x-server"]}
    assert (
        written(next(at for at, name in servers.items() if name == first.headers["x-server"])) == headers["X-Session"]
    )


def test_a_session_moves_when_its_server_is_gone_and_stays_with_the_next_one(servers: dict[str, str]) -> None:
    """The request that finds out goes elsewhere at once, and its answer says where."""
    policy = STICKY.replace(retry=Retry(wait=lambda _: 0.0, budget=None))
    gone = "127.0.0.1:1"
    mesh = Mesh({"orders": [*servers, gone]}, policy=policy)
    with mesh, mesh.service("orders").http_client(cookies={"sid": written(gone)}) as client:
        first = client.get("/echo")
        client.cookies = httpx.Cookies({"sid": first.cookies["sid"]})
        answers = [client.get("/echo") for _ in range(4)]
    assert {answer.headers["x-server"] for answer in answers} == {first.headers["x-server"]}


def test_a_strict_session_has_nobody_else(servers: dict[str, str]) -> None:
    policy = STICKY.replace(stateful_session=StatefulSession(COOKIE.session_state, strict=True))
    mesh = Mesh({"orders": list(servers)}, policy=policy)
    with mesh, mesh.service("orders").http_client(cookies={"sid": written("gone:80")}) as client:
        call = client.get
        with pytest.raises(NoEndpoints):
            call("/echo")


def test_headers_of_the_server_stay_as_they_are() -> None:
    """Its own cookies, and what is no ASCII."""

    def answered(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=[(b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-name", b"Andr\xe9")])

    with Mesh({"orders": ["127.0.0.1:1"]}, policy=STICKY) as mesh:
        transport = mesh.service("orders").http_transport(inner=httpx.MockTransport(answered))
        with httpx.Client(transport=transport, base_url="http://orders") as client:
            answer = client.get("/")
    assert [value.partition("=")[0] for value in answer.headers.get_list("set-cookie")] == ["a", "b", "sid"]
    assert answer.headers["x-name"] == "Andr\xe9"
    assert answer.headers.raw[0] == (b"Set-Cookie", b"a=1")


async def test_metadata_take_a_session_along(grpc_servers: tuple[GrpcServer, GrpcServer]) -> None:
    """What stands in it a caller knows from `Service.pick`, or from an answer over HTTP."""
    addresses = {server.address: server.name for server in grpc_servers}
    with service_over(list(addresses), Policy(load_balancer=LeastRequest(), stateful_session=HEADER)) as service:
        for address, name in addresses.items():
            metadata = [("x-session", written(address))]
            with service.grpc_channel() as channel:
                stub = pb_grpc.ProbeStub(channel)
                assert {stub.Unary(ping(), metadata=metadata).server for _ in range(4)} == {name}
                assert {pong.server for pong in stub.ServerStream(ping(count=2), metadata=metadata)} == {name}
            async with service.grpc_aio_channel() as aio_channel:
                aio_stub = pb_grpc.ProbeStub(aio_channel)
                assert {(await aio_stub.Unary(ping(), metadata=metadata)).server for _ in range(4)} == {name}


def test_a_header_of_that_name_that_the_server_sends_is_replaced() -> None:
    """Two values would be sent back as one, which names nobody."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=[("X-Session", "the server's own"), ("Set-Cookie", "other=1")])

    for session, name in ((HEADER, "x-session"), (COOKIE, "set-cookie")):
        with Mesh({"orders": ["127.0.0.1:9"]}, policy=STICKY.replace(stateful_session=session)) as mesh:
            transport = mesh.service("orders").http_transport(inner=httpx.MockTransport(answer))
            with httpx.Client(transport=transport) as client:
                got = client.get("http://orders/").headers.get_list(name)
        expected = session.session_state.header("127.0.0.1:9")[1]
        assert got == ([expected] if name == "x-session" else ["other=1", expected])


async def test_a_cookie_in_metadata_counts_for_the_methods_below_its_path(
    grpc_servers: tuple[GrpcServer, GrpcServer],
) -> None:
    addresses = {server.address: server.name for server in grpc_servers}
    for path, sticky in (("/svcmesh.test.Probe", True), ("/other.Service/", False)):
        session = StatefulSession(CookieBasedSessionState("sid", path))
        with service_over(list(addresses), Policy(load_balancer=RoundRobin(), stateful_session=session)) as service:
            for address, name in addresses.items():
                metadata = [("cookie", f"sid={written(address)}")]
                expected = {name} if sticky else set(addresses.values())
                with service.grpc_channel() as channel:
                    stub = pb_grpc.ProbeStub(channel)
                    assert {stub.Unary(ping(), metadata=metadata).server for _ in range(4)} == expected
                    assert {
                        next(stub.ServerStream(ping(count=1), metadata=metadata)).server for _ in "1234"
                    } == expected
                async with service.grpc_aio_channel() as aio_channel:
                    aio_stub = pb_grpc.ProbeStub(aio_channel)
                    assert {(await aio_stub.Unary(ping(), metadata=metadata)).server for _ in range(4)} == expected
                    streams = [aio_stub.ServerStream(ping(count=1), metadata=metadata) for _ in range(4)]
                    assert {pong.server for stream in streams async for pong in stream} == expected
