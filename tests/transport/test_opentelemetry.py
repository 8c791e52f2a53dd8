"""Which spans OpenTelemetry's own instrumentation of gRPC and httpx makes of calls through our channels and clients."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
import tenacity
from opentelemetry import trace
from opentelemetry.instrumentation.grpc import (
    GrpcAioInstrumentorClient,
    GrpcInstrumentorClient,
    aio_client_interceptors,
    client_interceptor,
)
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor, SyncOpenTelemetryTransport
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import svcmesh
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.servers.http_process import HttpServer
from tests.transport.grpc.kit import PATIENCE, ping, service_over

Servers = tuple[GrpcServer, GrpcServer]
POLICY = svcmesh.Policy(idempotent=True, timeout=10, retry=svcmesh.Retry(wait=tenacity.wait_none()))
PATIENT = [("grpc.min_reconnect_backoff_ms", 20000)]  # a busy machine is no attempt that failed
FAILED, WELL = "ERROR", "UNSET"
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "Unary": lambda stub, metadata: stub.Unary(ping("x"), metadata=metadata),
    "Unary.future": lambda stub, metadata: stub.Unary.future(ping("x"), metadata=metadata).result(),
    "ServerStream": lambda stub, metadata: list(stub.ServerStream(ping("x", 2), metadata=metadata)),
    "ClientStream": lambda stub, metadata: stub.ClientStream(iter([ping("x")]), metadata=metadata),
    "BidiStream": lambda stub, metadata: list(stub.BidiStream(iter([ping("x")]), metadata=metadata)),
}


class Spans:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    async def come(self, number: int) -> None:
        """Wait until there are so many: on asyncio they end in callbacks, after the call."""
        async with asyncio.timeout(PATIENCE):
            while len(self.exporter.get_finished_spans()) < number:  # noqa: ASYNC110 - an exporter tells nobody
                await asyncio.sleep(0.01)

    def taken(self) -> list[ReadableSpan]:
        """Return the spans since the last time, in the order of their ends."""
        found = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return found


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    found = Spans()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: found.provider)  # what gRPC's instrumentation asks alone
    yield found
    found.provider.shutdown()


@pytest.fixture
def service(grpc_servers: Servers) -> Iterator[Service]:
    with service_over([grpc_servers[0].address], POLICY) as found:
        yield found


@pytest.fixture
def instrumented(spans: Spans) -> Iterator[Callable[[Any], None]]:
    """Instruments until the end of the test."""
    running: list[Any] = []

    def instrument(instrumentor: Any) -> None:
        instrumentor.instrument()
        running.append(instrumentor)

    yield instrument
    for instrumentor in running:
        instrumentor.uninstrument()


def fails(times: int) -> list[tuple[str, str]]:
    """Return the metadata of a call that fails so often."""
    return [("x-fail", f"UNAVAILABLE:{times}"), ("x-id", uuid.uuid4().hex), ("x-before", "0.03")]


def number(span: ReadableSpan) -> int:
    """Return what children and headers know it by."""
    assert span.context is not None
    return span.context.span_id


def told(found: list[ReadableSpan]) -> list[tuple[str, str]]:
    """Return the last part of each span's name, and its status."""
    return [(span.name.rpartition("/")[2], span.status.status_code.name) for span in found]


@pytest.mark.parametrize("kind", CALLS)
def test_instrumented_grpc_sees_attempts(
    service: Service, spans: Spans, instrumented: Callable[[Any], None], kind: str
) -> None:
    """It patches the functions that make channels, and so sits between ours and the endpoints'."""
    instrumented(GrpcInstrumentorClient())
    with service.grpc_channel(options=PATIENT) as channel:
        CALLS[kind](pb_grpc.ProbeStub(channel), fails(1))  # type: ignore[no-untyped-call]
    name = kind.partition(".")[0]
    assert told(spans.taken()) == [(name, FAILED), (name, WELL)]


@pytest.mark.parametrize("kind", CALLS)
def test_interceptors_of_ours_see_calls(service: Service, spans: Spans, kind: str) -> None:
    """OpenTelemetry's interceptor around our channel: one span, whatever attempts are inside."""
    with service.grpc_channel(options=PATIENT) as channel:
        traced = intercept_channel(channel, client_interceptor(tracer_provider=spans.provider))
        stub = pb_grpc.ProbeStub(traced)
        CALLS[kind](stub, fails(1))
        assert told(spans.taken()) == [(kind.partition(".")[0], WELL)]
        with pytest.raises(grpc.RpcError):
            CALLS[kind](stub, fails(-1))
    assert told(spans.taken()) == [(kind.partition(".")[0], FAILED)]


def test_attempts_of_a_waiting_caller_are_children_of_the_call(
    service: Service, spans: Spans, instrumented: Callable[[Any], None]
) -> None:
    """Both levels at once make a tree."""
    instrumented(GrpcInstrumentorClient())
    with service.grpc_channel(options=PATIENT) as channel:
        traced = intercept_channel(channel, client_interceptor(tracer_provider=spans.provider))
        CALLS["Unary"](pb_grpc.ProbeStub(traced), fails(1))
    first, second, call = spans.taken()
    assert told([first, second, call]) == [("Unary", FAILED), ("Unary", WELL), ("Unary", WELL)]
    assert [span.parent and span.parent.span_id for span in (first, second)] == [number(call)] * 2


async def aio_calls(stub: Any, metadata: Any) -> None:
    """Make one call of each kind, each with an id of its own."""
    await stub.Unary(ping("x"), metadata=metadata())
    assert [pong.number async for pong in stub.ServerStream(ping("x", 2), metadata=metadata())] == [0, 1]
    await stub.ClientStream(iter([ping("x")]), metadata=metadata())
    assert [pong.text async for pong in stub.BidiStream(iter([ping("x")]), metadata=metadata())] == ["x"]


async def test_instrumented_asyncio_sees_attempts(
    service: Service, spans: Spans, instrumented: Callable[[Any], None]
) -> None:
    """As above, for all kinds."""
    instrumented(GrpcAioInstrumentorClient())
    async with service.grpc_aio_channel(options=PATIENT) as channel:
        await aio_calls(pb_grpc.ProbeStub(channel), lambda: fails(1))  # type: ignore[no-untyped-call]
        await spans.come(8)
    found = told(spans.taken())
    kinds = ["Unary", "ServerStream", "ClientStream", "BidiStream"]
    assert sorted(found) == sorted([(kind, FAILED) for kind in kinds] + [(kind, WELL) for kind in kinds])


async def test_interceptors_of_the_asyncio_channel_see_calls(service: Service, spans: Spans) -> None:
    """One span for a call of any kind."""
    interceptors = aio_client_interceptors(tracer_provider=spans.provider)
    async with service.grpc_aio_channel(options=PATIENT, interceptors=interceptors) as channel:
        await aio_calls(pb_grpc.ProbeStub(channel), lambda: fails(1))  # type: ignore[no-untyped-call]
        await spans.come(4)
    assert told(spans.taken()) == [(kind, WELL) for kind in ("Unary", "ServerStream", "ClientStream", "BidiStream")]


# -- HTTP --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def orders() -> Iterator[Service]:
    with HttpServer("one") as one, svcmesh.Mesh({"orders": [one.address]}, policy=POLICY) as mesh:
        yield mesh.service("orders")


def urls(found: list[ReadableSpan]) -> list[str]:
    """Return what the spans say was asked for."""
    return [str((span.attributes or {})["http.url"]) for span in found]


def test_instrumented_httpx_sees_calls(orders: Service, spans: Spans, instrumented: Callable[[Any], None]) -> None:
    """One span with the logical URL for a request that took two attempts, both of which carry its trace."""
    instrumented(HTTPXClientInstrumentor())
    with orders.http_client() as client:
        answer = client.get(f"/first/drop/{uuid.uuid4().hex}")
    (span,) = found = spans.taken()
    info = svcmesh.info(answer)
    assert info is not None
    assert info.attempts == 2
    assert urls(found) == [str(answer.request.url)]
    sent = {name.lower(): value for name, value in answer.json()["headers"]}
    assert f"{number(span):016x}" in sent["traceparent"]


async def test_instrumented_httpx_sees_asyncio_calls(
    orders: Service, spans: Spans, instrumented: Callable[[Any], None]
) -> None:
    """As above; a single client can be instrumented, too."""
    instrumented(HTTPXClientInstrumentor())
    async with orders.http_async_client() as client:
        answer = await client.get(f"/first/drop/{uuid.uuid4().hex}")
    assert urls(spans.taken()) == [str(answer.request.url)]


def test_a_single_client_can_be_instrumented(orders: Service, spans: Spans) -> None:
    """Its transport is ours; the span is around the call."""
    with orders.http_client() as client:
        HTTPXClientInstrumentor.instrument_client(client, tracer_provider=spans.provider)
        answer = client.get(f"/first/drop/{uuid.uuid4().hex}")
    assert urls(spans.taken()) == [str(answer.request.url)]


def test_a_traced_inner_transport_sees_attempts(spans: Spans) -> None:
    """What is put below ours is asked once for each attempt, with the logical URL."""
    busy = httpx.MockTransport(lambda _: httpx.Response(503))
    inner = SyncOpenTelemetryTransport(busy, tracer_provider=spans.provider)
    with (
        svcmesh.Mesh({"orders": ["127.0.0.1:1", "127.0.0.1:2"]}, policy=POLICY) as mesh,
        httpx.Client(transport=mesh.http_transport(inner=inner)) as client,
    ):
        assert client.get("http://orders/").status_code == 503
    assert told(spans.taken()) == [("GET", FAILED)] * 3
