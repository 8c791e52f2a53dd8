"""Calls that nobody refers to any more end at once, with no help of the cyclic garbage collector."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from svcmesh.balance import PickFirst
from svcmesh.policy.backoff import FullJitter
from svcmesh.policy.policy import Policy
from svcmesh.policy.retry import Retry
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer, refused_port
from tests.transport.grpc.kit import eventually, in_flight, ping, service_over, started

Servers = tuple[GrpcServer, GrpcServer]
Start = Callable[[Any, Any], Any]

DROPS = 100
POLICY = Policy.standard().replace(
    load_balancer=PickFirst(),
    retry=Retry(budget=None, wait=FullJitter(base=0.001, cap=0.001)),
    outlier_detection=None,
    circuit_breaker=None,
    idempotent=True,
)
STREAMS: list[tuple[str, Start]] = [
    ("unary_stream", lambda stub, asked: stub.ServerStream(ping(count=100_000), metadata=asked)),
    ("stream_stream", lambda stub, asked: stub.BidiStream(iter([ping()] * 3), metadata=asked)),
]
FUTURES: list[tuple[str, Start]] = [
    ("unary_unary", lambda stub, asked: stub.Unary.future(ping(), metadata=asked)),
    ("stream_unary", lambda stub, asked: stub.ClientStream.future(iter([ping()]), metadata=asked)),
]


def names(value: object) -> str | None:
    return value if isinstance(value, str) else ""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Whatever ends here ends because its last reference is gone."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def failing_first() -> list[tuple[str, str]]:
    """Return metadata by which the first attempt fails while somebody waits for it."""
    return [("x-fail", "UNAVAILABLE:1"), ("x-id", uuid.uuid4().hex), ("x-before", "0.003")]


def idle(service: Service) -> None:
    eventually(lambda: in_flight(service) == 0, "dropped calls are still in flight")


@pytest.mark.parametrize(("kind", "start"), STREAMS, ids=names)
def test_streams_that_were_repeated_end_when_they_are_dropped(grpc_servers: Servers, kind: str, start: Start) -> None:
    """The first attempt's error was raised inside `next`, whose frame knows the call: nothing may keep that error."""
    with service_over([grpc_servers[0].address], POLICY) as service, service.grpc_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        for _ in range(DROPS):
            call = start(stub, failing_first())
            next(call)
            del call
        idle(service)
        assert started(service) == 2 * DROPS, kind
        eventually(lambda: server_is_idle(grpc_servers[0], kind), "the server goes on")


def server_is_idle(server: GrpcServer, kind: str) -> bool:
    method = {"unary_stream": "ServerStream", "stream_stream": "BidiStream"}[kind]
    return server.count(method) == server.count(f"{method}.ended")


@pytest.mark.parametrize(("kind", "start"), [*STREAMS, *FUTURES], ids=names)
def test_calls_whose_first_endpoint_refuses_end_when_they_are_dropped(
    grpc_servers: Servers, kind: str, start: Start
) -> None:
    """Wherever between the two attempts they are at that moment."""
    asked = [("x-hang", "1")] if kind.endswith("_unary") else []
    with refused_port() as dead:
        addresses = [f"127.0.0.1:{dead}", grpc_servers[0].address]
        with service_over(addresses, POLICY) as service, service.grpc_channel() as channel:
            stub = pb_grpc.ProbeStub(channel)
            for _ in range(DROPS):
                call = start(stub, asked)
                if kind.endswith("_stream"):
                    next(call)
                del call
            idle(service)


@pytest.mark.parametrize(("kind", "start"), STREAMS, ids=names)
def test_calls_that_are_dropped_after_the_channel_was_closed_have_ended(
    grpc_servers: Servers, kind: str, start: Start
) -> None:
    """Closing ends all, held or not; dropping adds nothing."""
    with service_over([grpc_servers[0].address], POLICY) as service:
        channel = service.grpc_channel()
        stub = pb_grpc.ProbeStub(channel)
        calls = [start(stub, failing_first()) for _ in range(10)]
        assert all(next(call) for call in calls)
        channel.close()
        idle(service)
        assert kind == "stream_stream" or {call.code() for call in calls} == {grpc.StatusCode.CANCELLED}
        del calls
