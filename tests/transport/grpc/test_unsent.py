"""What proves that a call never left, and that no server can have a call executed twice by what it says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator, Iterator
from concurrent import futures
from contextlib import closing, contextmanager
from typing import Any

import grpc
import pytest
import tenacity

from svcmesh import Policy, Retry
from svcmesh.service import Service
from svcmesh.transport.grpc.aio.interceptors import aio_client_interceptors
from svcmesh.transport.grpc.interceptors import client_interceptors
from svcmesh.transport.grpc.unsent import never_connected, sounds_so
from tests.transport.grpc.kit import service_over

FAILED, READY = grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.READY
CONNECT = "failed to connect to all addresses; last error: UNKNOWN: {}: Failed to connect to remote host: refused"
PATH = "/a.B/C"
RETRIES = Policy(retry=Retry(wait=tenacity.wait_none()), timeout=10)


# -- the proof ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("details", "address"),
    [
        (CONNECT.format("ipv4:10.0.0.1:80"), "10.0.0.1:80"),
        (CONNECT.format("ipv6:%5B::1%5D:80"), "[::1]:80"),
        (CONNECT.format("ipv6:%5Bfe80::1%252%5D:80"), "[fe80::1%eth0]:80"),
        (CONNECT.format("ipv4:10.0.0.1:80"), "host.example:80"),
        (CONNECT.format("unix:/run/a.sock"), "unix:/run/a.sock"),
        ("errors resolving host.example:80: [field:hostname lookup error]", "host.example:80"),
        ("DNS resolution failed for host.example:80: C-ares status is not ARES_SUCCESS", "host.example:80"),
    ],
)
def test_grpc_says_that_this_endpoint_cannot_be_connected_to(details: str, address: str) -> None:
    """In the words of grpcio 1.60 to 1.85; and only while the channel says so, too."""
    assert sounds_so(details)
    assert never_connected(details, address, FAILED)
    for state in set(grpc.ChannelConnectivity) - {FAILED}:
        assert not never_connected(details, address, state)


@pytest.mark.parametrize(
    ("details", "address"),
    [
        (CONNECT.format("ipv4:10.0.0.2:80"), "10.0.0.1:80"),
        (CONNECT.format("ipv4:10.0.0.1:81"), "10.0.0.1:80"),
        (CONNECT.format("ipv4:10.0.0.1:81"), "host.example:80"),
        (CONNECT.format("ipv4:nonsense:80"), "10.0.0.1:80"),
        (CONNECT.format("unix:/run/b.sock"), "unix:/run/a.sock"),
        ("errors resolving other.example:80: ", "host.example:80"),
        ("errors resolving host.example:80: ", "10.0.0.1:80"),
        ("failed to connect to all addresses", "10.0.0.1:80"),
        ("no such thing", "10.0.0.1:80"),
    ],
)
def test_words_about_somebody_else_prove_nothing(details: str, address: str) -> None:
    """A gateway hands on the errors of its own upstream."""
    assert not never_connected(details, address, FAILED)


# -- servers that lie --------------------------------------------------------------------------------------------------


class Liar(grpc.GenericRpcHandler):
    """Executes each call, and then ends it UNAVAILABLE with the details that it was told; ``count``: how often."""

    def __init__(self) -> None:
        self.count = 0
        self.details = ""

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method == PATH:
            return grpc.unary_unary_rpc_method_handler(lambda _, context: self._end(context))
        if handler_call_details.method == PATH + "/stream-unary":
            return grpc.stream_unary_rpc_method_handler(lambda _, context: self._end(context))
        return grpc.unary_stream_rpc_method_handler(lambda _, context: self._end(context))

    def _end(self, context: Any) -> bytes:
        self.count += 1
        context.abort(grpc.StatusCode.UNAVAILABLE, self.details)
        return b""


@pytest.fixture(scope="module")
def liar() -> Iterator[tuple[Liar, list[str]]]:
    """One handler behind two endpoints, so that "elsewhere" is a place."""
    handler = Liar()
    with futures.ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # its thread is there before the first test
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((handler,))
        ports = [server.add_insecure_port("127.0.0.1:0") for _ in range(2)]
        server.start()
        yield handler, [f"127.0.0.1:{port}" for port in ports]
        server.stop(None).wait()


async def _aio(channel: Any, call: Callable[[Any], Any]) -> None:
    async with channel:
        await call(channel)


def _sync(service: Service, call: Callable[[Any], Any]) -> None:
    with service.grpc_channel() as channel:
        call(channel)


WAYS: dict[str, Callable[[Service], Any]] = {
    "blocking": lambda s: _sync(s, lambda c: c.unary_unary(PATH)(b"")),
    "future": lambda s: _sync(s, lambda c: c.unary_unary(PATH).future(b"").result()),
    "client stream": lambda s: _sync(s, lambda c: c.stream_unary(PATH + "/stream-unary")(iter([b""]))),
    "stream": lambda s: _sync(s, lambda c: next(c.unary_stream(PATH + "/stream")(b""))),
    "aio": lambda s: asyncio.run(_aio(s.grpc_aio_channel(), lambda c: c.unary_unary(PATH)(b""))),
    "aio stream": lambda s: asyncio.run(_aio(s.grpc_aio_channel(), lambda c: c.unary_stream(PATH + "/s")(b"").read())),
}
LIES = {
    "a connect of its own": CONNECT.format("ipv4:127.0.0.1:1"),
    "its own address": CONNECT.format("ipv4:{own}"),
    "a refused stream": "Stream removed (RST_STREAM (Received RST_STREAM with error code 7))",
    "a goaway": "Stream removed (GOAWAY received; Error code: 0; Debug Text: )",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lie", LIES)
def test_a_server_cannot_have_a_call_executed_twice_by_what_it_says(
    liar: tuple[Liar, list[str]], way: str, lie: str
) -> None:
    """The words are gRPC's, but the channel is connected."""
    handler, addresses = liar
    handler.count = 0
    handler.details = LIES[lie].replace("{own}", addresses[0])
    with service_over(addresses, Policy.standard()) as service, pytest.raises(grpc.RpcError) as caught:
        WAYS[way](service)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    assert handler.count == 1


def _foreign(address: str, call: Callable[[Any], Any]) -> None:
    with grpc.insecure_channel(address) as stock:
        call(grpc.intercept_channel(stock, *client_interceptors(RETRIES)).unary_unary(PATH))


async def _foreign_aio(address: str) -> None:
    async with grpc.aio.insecure_channel(address, interceptors=aio_client_interceptors(RETRIES)) as channel:
        await channel.unary_unary(PATH)(b"")


FOREIGN: dict[str, Callable[[str], None]] = {
    "blocking": lambda address: _foreign(address, lambda call: call(b"")),
    "future": lambda address: _foreign(address, lambda call: call.future(b"").result()),
    "aio": lambda address: asyncio.run(_foreign_aio(address)),
}


@pytest.mark.parametrize("colour", FOREIGN)
def test_around_a_foreign_channel_words_prove_nothing(liar: tuple[Liar, list[str]], colour: str) -> None:
    """It cannot be asked for its state."""
    handler, addresses = liar
    handler.count, handler.details = 0, CONNECT.format(f"ipv4:{addresses[0]}")
    with pytest.raises(grpc.RpcError):
        FOREIGN[colour](addresses[0])

    assert handler.count == 1


# -- and what is true --------------------------------------------------------------------------------------------------


@contextmanager
def dead_address(kind: str) -> Generator[str]:
    """Yield an address where nobody can be connected to."""
    if kind == "unix":
        yield "unix:/nonexistent/socket"
    elif kind == "name":
        with closing(socket.socket()) as holder:
            holder.bind(("127.0.0.1", 0))
            yield f"localhost:{holder.getsockname()[1]}"
    elif kind == "unknown name":
        yield "nonexistent.invalid:1"
    else:
        with closing(socket.socket(socket.AF_INET6 if kind == "v6" else socket.AF_INET)) as holder:
            holder.bind(("::1" if kind == "v6" else "127.0.0.1", 0))
            host, port = holder.getsockname()[:2]
            yield f"[{host}]:{port}" if kind == "v6" else f"{host}:{port}"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["v4", "v6", "unix", "name", "unknown name"])
def test_a_connection_that_cannot_be_made_still_means_elsewhere(
    liar: tuple[Liar, list[str]], way: str, kind: str
) -> None:
    """At once, for calls that may not be repeated: the other endpoint gets each of them once."""
    handler, addresses = liar
    handler.details = "executed"
    with dead_address(kind) as dead, service_over([dead, addresses[0]], Policy.standard()) as service:
        member = service.view.cluster.members[dead]
        handler.count = calls = 0
        while member.started == 0 and calls < 50:
            calls += 1
            with pytest.raises(grpc.RpcError, match="executed"):
                WAYS[way](service)
    assert handler.count == calls
