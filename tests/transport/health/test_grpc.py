"""A health check by gRPC asks gRPC's own service, on a channel of its own, and reads what it says."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.policy import GrpcHealthCheck, HealthCheck
from svcmesh.policy.health.finding import Unwell
from svcmesh.transport.health.grpc import METHOD, GrpcAsker, decoded, encoded

TLS = Path(__file__).parents[2] / "servers" / "tls"


@contextmanager
def serving(*handlers: Any, credentials: grpc.ServerCredentials | None = None) -> Iterator[tuple[Any, Endpoint]]:
    """Serve gRPC's own health service, or other handlers, on threads."""
    servicer = health.HealthServicer()
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, handlers=handlers)
        if not handlers:
            health_pb2_grpc.add_HealthServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        port = (
            server.add_insecure_port("127.0.0.1:0")
            if credentials is None
            else server.add_secure_port("127.0.0.1:0", credentials)
        )
        server.start()
        yield servicer, Endpoint(f"127.0.0.1:{port}")
        server.stop(0).wait()


class Answering(grpc.GenericRpcHandler):
    """Answers every health check by a function of the request and its context."""

    def __init__(self, answer: Callable[[bytes, Any], bytes]) -> None:
        self.answer = answer

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self.answer) if details.method == METHOD else None


def made(check: GrpcHealthCheck, service: str = "orders", **fields: Any) -> GrpcAsker:
    return GrpcAsker(HealthCheck(grpc_health_check=check, **fields), check, service)


async def found(asker: GrpcAsker, endpoint: Endpoint) -> str:
    try:
        await asyncio.wait_for(asker.ask(endpoint), 30)
    except Unwell as error:
        return error.reason + "!" * error.answered
    return "well"


async def test_only_serving_is_well_and_anything_else_is_believed_at_once() -> None:
    with serving() as (servicer, endpoint):
        asker, named = made(GrpcHealthCheck()), made(GrpcHealthCheck("orders"))
        assert await found(asker, endpoint) == "well"
        assert await found(named, endpoint) == "NOT_FOUND!", "and no more, where the server gives no details"
        servicer.set("orders", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert await found(named, endpoint) == "NOT_SERVING!"
        servicer.set("orders", health_pb2.HealthCheckResponse.UNKNOWN)
        assert await found(named, endpoint) == "UNKNOWN!"
        servicer.set("orders", health_pb2.HealthCheckResponse.SERVING)
        assert await found(named, endpoint) == "well"
        for each in (asker, named):
            each.close()


async def test_a_server_without_that_service_cannot_be_well() -> None:
    """As in Envoy: it said that it does not know."""
    with serving(Answering(lambda request, context: b"")) as (_, endpoint):
        asker = made(GrpcHealthCheck())
        assert await found(asker, endpoint) == "UNKNOWN!"

    class Nothing(grpc.GenericRpcHandler):
        def service(self, details: Any) -> None:
            return None

    with serving(Nothing()) as (_, endpoint):
        assert (await found(asker, endpoint)).startswith("UNIMPLEMENTED: ")
    asker.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(b"\x08\x09", "status 9!"), (b"not protobuf", "the answer is no HealthCheckResponse (b'not protobuf')!")],
)
async def test_answers_that_are_none(answer: bytes, reason: str) -> None:
    with serving(Answering(lambda request, context: answer)) as (_, endpoint):
        asker = made(GrpcHealthCheck())
        assert await found(asker, endpoint) == reason
        asker.close()


async def test_nobody_there_and_no_answer_may_be_the_networks_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asker = made(GrpcHealthCheck(), timeout=0.1)
        assert await found(asker, Endpoint(f"127.0.0.1:{silent.getsockname()[1]}")) == "no answer within 0.1 s"
        gone = silent.getsockname()[1]
    patient = made(GrpcHealthCheck(), timeout=5.0)
    assert await found(patient, Endpoint(f"127.0.0.1:{gone}")) == "connection refused"
    assert asker._kept == patient._kept == {}


async def test_its_channel_is_its_own_and_kept_while_all_is_well() -> None:
    peers: list[str] = []

    def answer(request: bytes, context: Any) -> bytes:
        peers.append(context.peer())
        return b"\x08\x01"

    with serving(Answering(answer)) as (_, endpoint):
        keeping, other, fresh = (made(GrpcHealthCheck(), reuse_connection=reuse) for reuse in (True, True, False))
        for asker in (keeping, keeping, other, fresh, fresh):
            await asker.ask(endpoint)
        assert peers[0] == peers[1]
        assert len(set(peers)) == 4
        keeping.forget(endpoint)
        assert keeping._kept == {}
        keeping.forget(endpoint)
        other.close()


async def test_a_check_that_is_cut_off_is_cancelled_there_too() -> None:
    came, left = threading.Event(), threading.Event()

    def answer(request: bytes, context: Any) -> bytes:
        context.add_callback(left.set)
        came.set()
        assert left.wait(30)
        return b""

    with serving(Answering(answer)) as (_, endpoint):
        asker = made(GrpcHealthCheck(), timeout=60)
        asking = asyncio.ensure_future(asker.ask(endpoint))
        assert await asyncio.to_thread(came.wait, 30)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await asyncio.to_thread(left.wait, 30)


async def test_it_says_whom_it_asks_and_what_it_was_told_to_add() -> None:
    seen: list[Any] = []

    def answer(request: bytes, context: Any) -> bytes:
        seen.append((request, dict(context.invocation_metadata()).get("x-team")))
        return b"\x08\x01"

    with serving(Answering(answer)) as (_, endpoint):
        check = GrpcHealthCheck("shop.Orders", authority="health.local", initial_metadata={"X-Team": "a"})
        asker = made(check, alt_port=endpoint.port)
        await asker.ask(Endpoint("127.0.0.1:1"))
        asker.close()
    assert seen == [(health_pb2.HealthCheckRequest(service="shop.Orders").SerializeToString(), "a")]


async def test_it_asks_by_tls_with_the_name_of_the_service() -> None:
    pem = (TLS / "orders.pem").read_bytes()
    trusting = grpc.ssl_channel_credentials((TLS / "ca.pem").read_bytes())
    with serving(credentials=grpc.ssl_server_credentials([(pem, pem)])) as (_, endpoint):
        for check, service, well in (
            (GrpcHealthCheck(credentials=trusting), "orders", True),
            (GrpcHealthCheck(credentials=trusting), "billing", False),
            (GrpcHealthCheck(credentials=trusting, authority="orders:443"), "billing", True),
        ):
            asker = made(check, service, timeout=5.0)
            assert (await found(asker, endpoint) == "well") is well
            asker.close()


def test_credentials_of_another_kind_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be grpc\.ChannelCredentials, not 'secret'"):
        made(GrpcHealthCheck(credentials="secret"))


@given(st.text(max_size=400))
def test_the_request_is_the_one_that_protobuf_makes(service: str) -> None:
    try:
        text = service.encode()
    except UnicodeEncodeError:
        return
    assert encoded(service) == health_pb2.HealthCheckRequest(service=text.decode()).SerializeToString()


@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_the_answer_is_read_as_protobuf_writes_it(status: int) -> None:
    assert decoded(health_pb2.HealthCheckResponse(status=status).SerializeToString()) == status  # type: ignore[arg-type]


def test_what_a_later_protocol_may_add_to_the_answer_is_passed_over() -> None:
    assert decoded(b"\x08\x01\x12\x02ok") == 1
