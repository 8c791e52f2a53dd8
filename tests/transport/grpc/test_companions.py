"""The clients that come with gRPC, through our channels: health, reflection and errors with details."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2 as pb
from tests.transport.grpc.kit import ping, service_over

NOT_FOUND = 5
RICH = "/rich.Errors/Fail"
PROBE = pb.DESCRIPTOR.services_by_name["Probe"].full_name


def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
    """End the call with a status that carries a message."""
    detail = any_pb2.Any()
    detail.Pack(ping("what was wrong"))
    context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=NOT_FOUND, message="rich", details=[detail])))
    raise AssertionError


@pytest.fixture
def address() -> Iterator[str]:
    pool = futures.ThreadPoolExecutor(8)
    server = grpc.server(pool)
    checks = health.HealthServicer()
    checks.set("probe", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection((PROBE, reflection.SERVICE_NAME), server)
    handlers = {"Fail": grpc.unary_unary_rpc_method_handler(fail)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("rich.Errors", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
    pool.shutdown()


@pytest.fixture
def service(address: str) -> Iterator[Service]:
    with service_over([address]) as found:
        yield found


def test_health_is_asked_and_watched(service: Service) -> None:
    """The generated health stub; watching is a stream that the caller ends."""
    asked = health_pb2.HealthCheckRequest(service="probe")
    with service.grpc_channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(asked).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watching = stub.Watch(asked)
        assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watching.cancel()
        with pytest.raises(grpc.RpcError) as unknown:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
    error: Any = unknown.value
    assert error.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_finds_services(service: Service) -> None:
    """grpcio-reflection's database of descriptors, which streams both ways."""
    with service.grpc_channel() as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert PROBE in database.get_services()
        assert "Probe" in [found.name for found in database.FindFileContainingSymbol(PROBE).service]


@pytest.mark.parametrize("style", ["__call__", "with_call", "future"])
def test_errors_with_details_are_read_from_ours(service: Service, style: str) -> None:
    """`grpc_status.rpc_status.from_call` finds the message that the server packed."""
    with service.grpc_channel() as channel:
        call: Any = getattr(channel.unary_unary(RICH), style)
        with pytest.raises(grpc.RpcError) as caught:
            call(b"").result()
    found = rpc_status.from_call(caught.value)
    unpacked = pb.Ping()
    assert found.details[0].Unpack(unpacked)
    assert (found.code, found.message, unpacked.text) == (NOT_FOUND, "rich", "what was wrong")


async def test_errors_with_details_are_read_from_ours_on_asyncio(service: Service) -> None:
    """By the asyncio half of it, from the call and from the error."""
    from grpc_status._async import from_call

    async with service.grpc_aio_channel() as channel:
        call = channel.unary_unary(RICH)(b"")
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        found = await from_call(call)
    assert found is not None
    assert found.message == "rich"


def test_errors_of_ours_carry_no_details() -> None:
    """No server wrote any."""
    with (
        service_over(["127.0.0.1:1"]) as service,
        service.grpc_channel() as channel,
        pytest.raises(grpc.RpcError) as error,
    ):
        channel.unary_unary(RICH)(b"")
    assert rpc_status.from_call(error.value) is None
