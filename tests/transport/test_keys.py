"""Calls with equal keys meet the same endpoint, on every transport; retries go along the key's own path."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from svcmesh import PICKED, ConfigError, Endpoint, Mesh, Policy, Retry
from svcmesh.balance import Cookie, Header, LeastRequest, Maglev, Query, RingHash, Source, hash_key
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import ping, service_over
from tests.transport.test_functions import both_colours, called, coloured

SERVERS = [f"127.0.0.1:{port}" for port in range(1, 8)]
BY_USER = Policy(load_balancer=Maglev(), hash_on=Header("x-user"))


def path_of(service: Service, key: str) -> list[Endpoint]:
    """Return the endpoints in the order in which a key uses them."""
    path: list[Endpoint] = []
    while len(path) < len(service.endpoints):
        cell = service.view.picker.choose_from(hash_key(key), path)
        assert cell is not None
        path.append(cell.endpoint)
    return path


# -- functions and blocks -----------------------------------------------------------------------------------


@both_colours
def test_a_function_of_the_arguments_says_what_a_guarded_call_is_about(awaits: bool) -> None:
    policy = Policy(load_balancer=Maglev(), hash_on=lambda user, **_: user)
    asked: list[Endpoint] = []

    def work(user: str, *, endpoint: Endpoint = PICKED) -> None:
        asked.append(endpoint)

    with Mesh({"service": SERVERS}, policy=policy) as mesh:
        service = mesh.service("service")
        guarded = service.guard(coloured(work, awaits=awaits))
        for user in ("ann", "bob", "ann", "cid"):
            called(guarded, user)
        assert asked == [service.pick(hash_key(user)) for user in ("ann", "bob", "ann", "cid")]


@both_colours
def test_retries_go_along_the_path_of_the_key(awaits: bool) -> None:
    policy = Policy(
        load_balancer=RingHash(),
        hash_on=lambda user: user,
        retry=Retry(max_attempts=4, wait=lambda _: 0.0, budget=None),
    )
    asked: list[Endpoint] = []

    def work(user: str, *, endpoint: Endpoint = PICKED) -> None:
        asked.append(endpoint)
        raise ConnectionResetError("cut")

    with Mesh({"service": SERVERS}, policy=policy) as mesh:
        service = mesh.service("service")
        with pytest.raises(ConnectionResetError):
            called(service.guard(idempotent=True)(coloured(work, awaits=awaits)), "ann")
        assert asked == path_of(service, "ann")[:4]


@both_colours
def test_what_the_function_raises_its_caller_gets_and_nothing_is_counted(awaits: bool) -> None:
    def confused(user: str) -> str:
        raise LookupError(user)

    with Mesh({"service": SERVERS}, policy=Policy(load_balancer=Maglev(), hash_on=confused)) as mesh:
        service = mesh.service("service")
        with pytest.raises(LookupError, match="ann"):
            called(service.guard(coloured(lambda user: None, awaits=awaits)), "ann")
        assert sum(member.started for member in service.view.cluster.members.values()) == 0


def test_a_block_is_about_what_its_caller_says() -> None:
    with Mesh({"service": SERVERS}, policy=Policy(load_balancer=Maglev(), hash_on=Source("here"))) as mesh:
        service = mesh.service("service")
        with service.attempt() as attempt:
            assert attempt.endpoint == service.pick(hash_key("here"))
        with service.attempt(key=hash_key("ann")) as attempt:
            assert attempt.endpoint == service.pick(hash_key("ann"))


def test_without_a_key_calls_go_anywhere() -> None:
    asked: Counter[str] = Counter()

    def work(*, endpoint: Endpoint = PICKED) -> None:
        asked[endpoint.address] += 1

    with Mesh({"service": SERVERS}, policy=Policy(load_balancer=Maglev(), hash_on=Header("x-user"))) as mesh:
        guarded = mesh.service("service").guard(work)
        for _ in range(200):
            guarded()
    assert set(asked) == set(SERVERS)


@pytest.mark.parametrize("balancer", [None, LeastRequest()])
def test_keys_for_a_balancer_that_goes_by_none_are_refused(balancer: Any) -> None:
    with pytest.raises(ConfigError, match=r"hash_on needs a load_balancer that goes by keys, RingHash\(\) or Maglev"):
        Policy(load_balancer=balancer, hash_on=Header("x-user"))


def test_a_policy_keeps_its_rules_when_it_is_copied() -> None:
    assert BY_USER.replace(timeout=3.0).hash_on == (Header("x-user"),)
    assert Policy().hash_on is None


# -- gRPC -----------------------------------------------------------------------------------


@pytest.fixture(params=["straight", "machine"])
def service(request: pytest.FixtureRequest, grpc_servers: tuple[GrpcServer, GrpcServer]) -> Iterator[Service]:
    policy = Policy(load_balancer=Maglev(), hash_on=[Header("x-user"), lambda message: message.text or None])
    with service_over([server.address for server in grpc_servers], policy) as found:
        listening = found.view.runtime.events.subscribe(id, "call.finished")
        if request.param == "straight":
            listening.close()
        with contextlib.closing(listening):
            yield found


USERS = [f"user {number}" for number in range(48)]
"""So many that both servers own some, wherever they listen."""


def owners(service: Service, servers: tuple[GrpcServer, GrpcServer], keys: list[int]) -> list[str]:
    names = {server.address: name for server, name in zip(servers, "ab", strict=True)}
    return [names[service.pick(key).address] for key in keys]


def test_blocking_grpc_calls_by_metadata(service: Service, grpc_servers: tuple[GrpcServer, GrpcServer]) -> None:
    expected = owners(service, grpc_servers, [hash_key(user) for user in USERS])
    assert set(expected) == {"a", "b"}
    with service.grpc_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        sent = [[("x-user", user)] for user in USERS]
        assert [stub.Unary(ping(""), metadata=each).server for each in sent] == expected
        assert [stub.Unary.with_call(ping(""), metadata=each)[0].server for each in sent] == expected
        assert [stub.Unary.future(ping(""), metadata=each).result().server for each in sent] == expected
        assert [next(stub.ServerStream(ping("", count=1), metadata=each)).server for each in sent] == expected
        streamed = [stub.ClientStream(iter([ping("x")]), metadata=each).server for each in sent]
        assert streamed == expected, "of a stream no function is asked"


def test_blocking_grpc_calls_by_message(service: Service, grpc_servers: tuple[GrpcServer, GrpcServer]) -> None:
    with service.grpc_channel() as channel:
        answers = [pb_grpc.ProbeStub(channel).Unary(ping(user)).server for user in USERS]
    assert answers == owners(service, grpc_servers, [hash_key(user) for user in USERS])


async def test_asyncio_grpc_calls(service: Service, grpc_servers: tuple[GrpcServer, GrpcServer]) -> None:
    expected = owners(service, grpc_servers, [hash_key(user) for user in USERS])
    async with service.grpc_aio_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        for user, server in zip(USERS, expected, strict=True):
            asked = [("x-user", user)]
            assert (await stub.Unary(ping(""), metadata=asked)).server == server
            assert (await stub.Unary(ping(user))).server == server
            assert [a.server async for a in stub.ServerStream(ping("", count=1), metadata=asked)] == [server]


def test_several_values_of_metadata_are_one_text_and_binary_ones_none() -> None:
    """As gRPC does, where HTTP does as Envoy."""
    from svcmesh.transport.grpc.method import Method
    from svcmesh.transport.grpc.request import Request
    from svcmesh.transport.grpc.subject import GrpcSubject

    method = Method("unary_unary", "/probe.Probe/Unary", None, None, False)
    subject = GrpcSubject(method, (("x-user", "a"), ("X-User", b"b"), ("x-id-bin", b"7")), Request(None))
    assert subject.headers("x-user") == [b"a,b"]
    assert subject.headers("x-id-bin") == []
    assert subject.headers(":path") == [b"/probe.Probe/Unary"]


# -- HTTP -----------------------------------------------------------------------------------


class Inner(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers with the endpoint that it was to send to."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=request.extensions["svcmesh.endpoint"].address)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


@both_colours
@pytest.mark.parametrize("straight", [True, False], ids=["straight", "machine"])
def test_http_requests(awaits: bool, straight: bool) -> None:
    policy = Policy(
        load_balancer=Maglev(),
        hash_on=[Header("x-user", terminal=True), Cookie("user", terminal=True), Query("user")],
    )
    with Mesh({"orders": SERVERS}, policy=policy) as mesh:
        service = mesh.service("orders")

        def get(url: str, **kwargs: Any) -> str:
            if not awaits:
                with httpx.Client(transport=service.http_transport(inner=Inner())) as client:
                    return client.get(url, **kwargs).text

            async def ask() -> str:
                async with httpx.AsyncClient(transport=service.http_async_transport(inner=Inner())) as client:
                    return (await client.get(url, **kwargs)).text

            return asyncio.run(ask())

        with contextlib.nullcontext() if straight else mesh.events.subscribe(id, "call.finished"):
            for user in USERS[:6]:
                owner = service.pick(hash_key(user)).address
                assert get("http://orders/", headers={"X-User": user}) == owner
                assert get("http://orders/", headers={"cookie": f'a=1; user="{user}"'}) == owner
            owner = service.pick(hash_key("a%20b")).address
            assert get("http://orders/?x=1&user=a%20b&user=c") == owner
