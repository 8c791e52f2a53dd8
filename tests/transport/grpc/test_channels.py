"""Endpoint channels: made when needed, kept while needed, given back in every way a channel can end."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

import svcmesh
from svcmesh.service import Service
from svcmesh.transport.grpc.channels import MOST_METHODS, EndpointChannel
from svcmesh.transport.grpc.method import Method
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import PATIENCE, eventually, ping, service_over

Servers = tuple[GrpcServer, GrpcServer]


@pytest.fixture
def service(grpc_servers: Servers) -> Iterator[Service]:
    with service_over([server.address for server in grpc_servers]) as found:
        yield found


def kept(service: Service) -> int:
    """Return how many endpoint channels the members hold."""
    return sum(len(member._attachments) for member in service.view.cluster.members.values())


def test_nothing_is_made_before_the_first_call(service: Service) -> None:
    """Then one channel for each endpoint that is called."""
    with service.grpc_channel() as channel:
        assert kept(service) == 0
        stub = pb_grpc.ProbeStub(channel)
        for _ in range(20):
            stub.Unary(ping())
        assert kept(service) == 2
    assert kept(service) == 0


def test_a_channel_that_is_dropped_gives_everything_back(service: Service) -> None:
    """Without a close, once its stubs are gone too; a stub alone keeps it working."""
    stub = pb_grpc.ProbeStub(service.grpc_channel())
    gc.collect()
    assert stub.Unary(ping("alive")).text == "alive"
    del stub
    gc.collect()

    assert kept(service) == 0


def test_a_channel_keeps_its_mesh_alive(grpc_servers: Servers) -> None:
    """Nobody has to hold the mesh or the service."""
    mesh = svcmesh.Mesh(discovery={"probe": [grpc_servers[0].address]})
    mesh.service("probe").wait_ready(PATIENCE)
    channel = mesh.service("probe").grpc_channel()
    alive = weakref.ref(mesh)
    del mesh
    gc.collect()

    assert pb_grpc.ProbeStub(channel).Unary(ping("alive")).text == "alive"
    channel.close()
    del channel
    gc.collect()
    eventually(lambda: alive() is None, "the mesh is still there")


def test_an_endpoint_closes_what_is_kept_for_it(service: Service) -> None:
    """A member that has left discovery takes its connections along; calls that still hold it go elsewhere."""
    with service.grpc_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        for _ in range(10):
            stub.Unary(ping())
        first = next(iter(service.view.cluster.members.values()))
        stock = next(iter(first._attachments.values())).channel
        first.close()
        with pytest.raises(ValueError, match="closed channel"):
            stock.unary_unary("/a/b")(b"")
        for _ in range(10):
            stub.Unary(ping())


@pytest.mark.parametrize(
    "call",
    [
        lambda stub: stub.Unary(ping("x")).text,
        lambda stub: stub.Unary.future(ping("x")).result().text,
        lambda stub: next(stub.ServerStream(ping("x", 1))).text,
        lambda stub: stub.ClientStream(iter([ping("x")])).text,
        lambda stub: next(stub.BidiStream(iter([ping("x")]))).text,
    ],
)
def test_a_channel_that_closes_between_pick_and_call_means_another_pick(service: Service, call: Any) -> None:
    """For every kind of call; gRPC has different words for it."""
    with service.grpc_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        for _ in range(10):
            call(stub)
        first = next(iter(service.view.cluster.members.values()))
        for attachment in list(first._attachments.values()):
            attachment.channel.close()
        assert {call(stub) for _ in range(10)} == {"x"}


def test_multicallables_are_kept_but_not_without_bound() -> None:
    """Callers may pass fresh lambdas as serializers each time."""
    with grpc.insecure_channel("ipv4:127.0.0.1:1") as stock:
        endpoint = EndpointChannel(stock)
        method = Method("unary_unary", "/a.B/C", None, None, False)
        assert endpoint.bound(method) is endpoint.bound(method)
        for _ in range(2 * MOST_METHODS):
            endpoint.bound(Method("unary_unary", "/a.B/C", None, None, False))
        assert len(endpoint._bound) <= MOST_METHODS


def test_a_closed_channel_is_asked_for_nothing_more() -> None:
    """A call may hold the channel of an endpoint that leaves; grpcio 1.85 would crash over a registered method."""
    endpoint = EndpointChannel(grpc.insecure_channel("ipv4:127.0.0.1:1"))
    endpoint.close()

    with pytest.raises(ValueError, match="closed channel"):
        endpoint.bound(Method("unary_unary", "/a.B/C", None, None, registered=True))


def numbers(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    number = 0
    while context.is_active():
        yield b"%d" % number
        number += 1
        time.sleep(0.01)


@pytest.fixture
def leaving() -> Iterator[tuple[grpc.Server, str]]:
    """Yield a server that streams for as long as its caller wants, and where it listens."""
    with futures.ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        handlers = {"Stream": grpc.unary_stream_rpc_method_handler(numbers)}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("x.Y", handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield server, f"127.0.0.1:{port}"
        finally:
            server.stop(0).wait()


def test_closing_ends_streams_on_connections_that_were_replaced(leaving: tuple[grpc.Server, str]) -> None:
    """The server leaves and lets its streams end; others find it gone, and the channel is made anew once it is back."""
    server, address = leaving
    with service_over([address]) as service:
        channel: Any = service.grpc_channel()
        call = channel.unary_stream("/x.Y/Stream")
        running = call(b"")
        next(running)
        stopped = server.stop(30)
        member = service.view.cluster.members[address]

        def fails_to_connect() -> bool:
            with pytest.raises(grpc.RpcError):
                next(call(b""))
            found: Any = member.attached(channel._dialer._key)
            return found is not None and found.state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE

        eventually(fails_to_connect, "the endpoint can still be connected to")
        member.renew()
        assert kept(service) == 0
        next(running)
        channel.close()

        eventually(lambda: not running.is_active(), "the stream goes on")
        assert running.code() is grpc.StatusCode.CANCELLED
        assert stopped.wait(PATIENCE)
