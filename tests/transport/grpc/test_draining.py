"""An endpoint that leaves takes nothing new and finishes what it has: no call is cut off, however long it takes."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from svcmesh import Endpoint, Policy, Snapshot
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import eventually, ping, service_over, soon

Servers = tuple[GrpcServer, GrpcServer]
AT_ONCE = 0.01


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often at those who have been draining for long."""
    monkeypatch.setattr("svcmesh.engine.draining.LONG_LOOK", AT_ONCE)


@pytest.fixture
def service(grpc_servers: Servers) -> Iterator[Service]:
    """A service whose endpoints have nearly no time to drain; the first server is all it has."""
    with service_over([grpc_servers[0].address], Policy()) as found:
        found.view.cluster._drain = AT_ONCE
        yield found


def leave(service: Service, other: GrpcServer) -> Any:
    """Put another server in the place of the only one; return what was kept for that."""
    cluster = service.view.cluster
    (member,) = cluster.members.values()
    cluster.apply(Snapshot((Endpoint(other.address),)))
    return member


def sent(messages: queue.Queue[str | None]) -> Iterator[Any]:
    while (text := messages.get()) is not None:
        yield ping(text)


def test_a_stream_goes_on_after_the_time_to_drain(service: Service, grpc_servers: Servers) -> None:
    """New calls go elsewhere; the connection is closed when the stream has ended."""
    messages: queue.Queue[str | None] = queue.Queue()
    with service.grpc_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        stream = stub.BidiStream(sent(messages))
        messages.put("one")
        assert next(stream).server == "a"
        member = leave(service, grpc_servers[1])
        eventually(lambda: member._gone, "its idle connections are kept")

        assert stub.Unary(ping()).server == "b"
        for text in ("two", "three"):
            messages.put(text)
            assert next(stream).text == text
        messages.put(None)
        assert list(stream) == []
        assert stream.code() is grpc.StatusCode.OK
        eventually(lambda: not service.view.cluster.draining and not member._attachments, "it is still kept")


async def test_a_stream_goes_on_after_the_time_to_drain_on_asyncio(service: Service, grpc_servers: Servers) -> None:
    """Nobody is cancelled who has not asked for it."""
    async with service.grpc_aio_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        stream = stub.BidiStream()
        await stream.write(ping("one"))
        assert (await stream.read()).server == "a"
        member = leave(service, grpc_servers[1])
        await soon(lambda: member._gone, "its idle connections are kept")

        assert (await stub.Unary(ping())).server == "b"
        for text in ("two", "three"):
            await stream.write(ping(text))
            assert (await stream.read()).text == text
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK
        await soon(lambda: not service.view.cluster.draining and not member._attachments, "it is still kept")


@pytest.mark.parametrize("end", ["channel", "mesh"])
def test_who_closes_ends_what_is_draining(service: Service, grpc_servers: Servers, end: str) -> None:
    """Streams of endpoints that left long ago are within reach."""
    channel = service.grpc_channel()
    stream = pb_grpc.ProbeStub(channel).ServerStream(ping(count=10**6))
    next(stream)
    member = leave(service, grpc_servers[1])
    eventually(lambda: member._gone, "its idle connections are kept")

    channel.close() if end == "channel" else service.view.cluster.close()
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    channel.close()


@pytest.mark.parametrize("end", ["channel", "mesh"])
async def test_who_closes_ends_what_is_draining_on_asyncio(service: Service, grpc_servers: Servers, end: str) -> None:
    """As the stock channel does, by cancelling who reads."""
    channel = service.grpc_aio_channel()
    stream = pb_grpc.ProbeStub(channel).ServerStream(ping(count=10**6))
    await stream.read()
    member = leave(service, grpc_servers[1])
    await soon(lambda: member._gone, "its idle connections are kept")

    if end == "channel":
        await channel.close()
    else:
        service.view.cluster.close()
    assert await asyncio.wait_for(stream.code(), 30) is grpc.StatusCode.CANCELLED
    await channel.close()
