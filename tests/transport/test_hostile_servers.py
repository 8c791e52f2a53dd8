"""Servers that break every rule, seen through the stock clients and through ours: the same error, nothing left over.

Where it depends on the moment what a socket says last (a connection that is closed while a request is being written),
errors are compared up to there.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

import svcmesh
from svcmesh.policy.policy import Policy
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.hostile import WHAT, address_of
from tests.servers.http_process import HttpServer
from tests.transport.grpc.kit import ping, service_over

OVER_HTTP = ("garbage", "silent", "hang-up", "reset", "http1")
KINDS = ("unary", "future", "server stream", "client stream", "bidi")
STOCK_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.min_reconnect_backoff_ms", 1500)]
SHORT, LONG = 0.4, 60.0
ROUNDS = 20
"""Some ends have several forms, between which chance decides, on the stock channel too."""


def time_for(what: str) -> float:
    """Return seconds that a call gets: few only where nothing else would end it."""
    return SHORT if what in {"silent", "late"} else LONG


Servers = dict[str, str]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What gRPC logs of a torn message has a traceback, which would keep its channel alive."""
    caplog.set_level(logging.CRITICAL, "grpc._common")


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with HttpServer(module="tests.servers.hostile") as server:
        yield {what: address_of(what, server.port) for what in WHAT}


def probe(channel: Any) -> Any:
    """Return a stub."""
    return pb_grpc.ProbeStub(channel)  # type: ignore[no-untyped-call]


def shortened(details: str | None) -> str:
    """Return details without what depends on the moment: how a connect ended, and whether a read or a write broke."""
    text = (details or "").partition("; last error")[0]
    return re.sub(r"(recvmsg|sendmsg): ?", "", text)


# -- gRPC --------------------------------------------------------------------------------------------------------------


def call(stub: Any, kind: str, timeout: float) -> Any:
    """Make a call of this kind, blocking."""
    if kind == "unary":
        return stub.Unary(ping(), timeout=timeout)
    if kind == "future":
        return stub.Unary.future(ping(), timeout=timeout).result()
    if kind == "server stream":
        return list(stub.ServerStream(ping(), timeout=timeout))
    if kind == "client stream":
        return stub.ClientStream(iter([ping()]), timeout=timeout)
    return list(stub.BidiStream(iter([ping()]), timeout=timeout))


def aio_call(stub: Any, kind: str, timeout: float) -> Any:
    """Start a call of this kind."""
    if kind == "server stream":
        return stub.ServerStream(ping(), timeout=timeout)
    if kind == "client stream":
        return stub.ClientStream(iter([ping()]), timeout=timeout)
    if kind == "bidi":
        return stub.BidiStream(iter([ping()]), timeout=timeout)
    return stub.Unary(ping(), timeout=timeout)


def told_by(error: Any) -> tuple[Any, ...]:
    """Return what a caller can see of an error."""
    return (
        isinstance(error, grpc.Call),
        isinstance(error, grpc.Future),
        isinstance(error, grpc.aio.AioRpcError),
        error.code(),
        shortened(error.details()),
        tuple(error.initial_metadata() or ()),
        tuple(error.trailing_metadata() or ()),
    )


def story(make: Callable[[], Any]) -> Any:
    """Return how a call ended: what it brought, or all that can be seen of its error."""
    try:
        return make()
    except grpc.RpcError as error:
        return told_by(error)


async def aio_story(stub: Any, kind: str, timeout: float) -> Any:
    """Return how an asyncio call ended."""
    running = aio_call(stub, kind, timeout)
    try:
        return [message async for message in running] if hasattr(running, "__aiter__") else await running
    except grpc.RpcError as error:
        return told_by(error)
    except asyncio.CancelledError:  # grpcio 1.85 does so to some uploads that are answered without a status
        return "cancelled"


@pytest.mark.parametrize("what", WHAT)
def test_grpc_calls_end_as_on_the_stock_channel(servers: Servers, what: str) -> None:
    """All kinds, without a policy; and nothing stays in flight, which `service_over` sees to."""
    address = servers[what]
    with service_over([address], Policy()) as service:
        for kind in KINDS:
            expected = found = None
            for _ in range(ROUNDS):
                with grpc.insecure_channel(address, STOCK_OPTIONS) as stock, service.grpc_channel() as mesh:
                    expected, found = (story(partial(call, probe(on), kind, time_for(what))) for on in (stock, mesh))
                if found == expected:
                    break
            assert found == expected, kind


@pytest.mark.parametrize("what", WHAT)
async def test_asyncio_calls_end_as_on_the_stock_channel(servers: Servers, what: str) -> None:
    """The same for the asyncio channel."""
    address = servers[what]
    with service_over([address], Policy()) as service:
        for kind in KINDS:
            expected = found = None
            for _ in range(ROUNDS):
                async with (
                    grpc.aio.insecure_channel(address, STOCK_OPTIONS) as stock,
                    service.grpc_aio_channel() as mesh,
                ):
                    expected, found = [await aio_story(probe(on), kind, time_for(what)) for on in (stock, mesh)]
                if found == expected:
                    break
            assert found == expected, kind


@pytest.mark.parametrize("what", WHAT)
def test_calls_under_the_standard_policy_end_in_time(servers: Servers, what: str) -> None:
    """Whatever is repeated or not: within the caller's time, with an error that tells, and nothing in flight."""
    policy = Policy.standard().replace(timeout=2 * LONG, per_try_timeout=None)
    with service_over([servers[what]], policy) as service, service.grpc_channel() as channel:
        began = time.monotonic()
        for kind in KINDS:
            ended = story(partial(call, probe(channel), kind, time_for(what)))
            assert not isinstance(ended, tuple) or ended[3] is not grpc.StatusCode.OK
        assert time.monotonic() - began < LONG


# -- HTTP --------------------------------------------------------------------------------------------------------------


def http_story(make: Callable[[], httpx.Response]) -> Any:
    """Return the status, or the class of the error and what it says."""
    try:
        return make().status_code
    except httpx.TransportError as error:
        broken = isinstance(error, httpx.NetworkError) or "disconnected" in str(error)  # which of these, chance decides
        return "broken" if broken else (type(error), str(error))


def reading_for(seconds: float) -> httpx.Timeout:
    """Return a client's timeout that holds for reading alone: connecting takes what it takes."""
    return httpx.Timeout(LONG, read=seconds)


def by_httpx(service: Service, timeout: float) -> Any:
    """POST through a blocking client of the service."""
    with service.http_client(timeout=reading_for(timeout)) as client:
        return http_story(lambda: client.post("/", content=b"once"))


def by_httpx_async(service: Service, timeout: float) -> Any:
    """POST through an asyncio client of the service."""

    async def post() -> httpx.Response:
        async with service.http_async_client(timeout=reading_for(timeout)) as client:
            return await client.post("/", content=b"once")

    return http_story(lambda: asyncio.run(post()))


@pytest.mark.parametrize("send", [by_httpx, by_httpx_async])
@pytest.mark.parametrize("what", OVER_HTTP)
def test_requests_end_as_on_the_stock_transport(
    servers: Servers, what: str, send: Callable[[Service, float], Any]
) -> None:
    """Also under the standard policy, since a POST that may have been sent is not repeated."""
    address = servers[what]
    with httpx.Client(timeout=reading_for(time_for(what))) as stock:
        expected = http_story(lambda: stock.post(f"http://{address}/", content=b"once"))
    for policy in (Policy(), Policy.standard()):
        with service_over([address], policy) as service:
            found = send(service, time_for(what))
        assert found == expected


def test_a_server_that_speaks_another_protocol_is_told_of_by_name(servers: Servers) -> None:
    """The error of a gRPC client that has reached a web server knows which endpoint that was."""
    address = servers["http1"]
    with service_over([address]) as service, service.grpc_channel() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            probe(channel).Unary(ping(), timeout=LONG)
        told = svcmesh.info(caught.value)
    assert told is not None
    assert {endpoint.address for endpoint in told.endpoints} == {address}
