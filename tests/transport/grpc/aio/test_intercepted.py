"""Asyncio interceptors of the user's: around whole calls, of every kind, and cancelled as the stock channel's are."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2 as pb
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import PATIENCE, in_flight, ping, service_over, started

Servers = tuple[GrpcServer, GrpcServer]
READ = "/svcmesh.test.Probe/Read"


@pytest.fixture
async def service(grpc_servers: Servers) -> AsyncIterator[Service]:
    with service_over([server.address for server in grpc_servers]) as found:
        yield found


class Notes:
    """What four interceptors saw, one of each class."""

    def __init__(self) -> None:
        seen = self.seen = []

        class Unary(grpc.aio.UnaryUnaryClientInterceptor):
            async def intercept_unary_unary(self, continuation, client_call_details, request):
                seen.append(client_call_details.method)
                return await continuation(client_call_details, request)

        class Down(grpc.aio.UnaryStreamClientInterceptor):
            async def intercept_unary_stream(self, continuation, client_call_details, request):
                seen.append(client_call_details.method)
                return await continuation(client_call_details, request)

        class Up(grpc.aio.StreamUnaryClientInterceptor):
            async def intercept_stream_unary(self, continuation, client_call_details, request_iterator):
                seen.append(client_call_details.method)
                return await continuation(client_call_details, request_iterator)

        class Both(grpc.aio.StreamStreamClientInterceptor):
            async def intercept_stream_stream(self, continuation, client_call_details, request_iterator):
                seen.append(client_call_details.method)
                return await continuation(client_call_details, request_iterator)

        self.interceptors = [Unary(), Down(), Up(), Both()]


async def messages(*texts: str) -> AsyncIterator[Any]:
    for text in texts:
        yield ping(text)


async def test_each_kind_goes_through_its_interceptor_once(service: Service) -> None:
    """Whether messages are iterated over, or written and read; and nothing stays in flight."""
    notes = Notes()
    async with service.grpc_aio_channel(interceptors=notes.interceptors) as channel:
        stub = pb_grpc.ProbeStub(channel)
        assert (await stub.Unary(ping("one"))).text == "one"
        assert [pong.number async for pong in stub.ServerStream(ping("two", 3))] == [0, 1, 2]
        assert (await stub.ClientStream(messages("a", "b"))).text == "a,b"
        assert [pong.text async for pong in stub.BidiStream(messages("c", "d"))] == ["c", "d"]

        writing = stub.ClientStream()
        await writing.write(ping("e"))
        await writing.done_writing()
        assert (await writing).text == "e"
        talking = stub.BidiStream()
        await talking.write(ping("f"))
        assert (await talking.read()).text == "f"
        await talking.done_writing()
        assert await talking.read() is grpc.aio.EOF
        assert in_flight(service) == 0

    names = [method.decode().rpartition("/")[2] for method in notes.seen]
    assert names == ["Unary", "ServerStream", "ClientStream", "BidiStream", "ClientStream", "BidiStream"]


async def test_an_interceptor_sees_one_call_however_many_attempts_there_are(service: Service) -> None:
    """Retries happen below it."""
    notes = Notes()
    async with service.grpc_aio_channel(interceptors=notes.interceptors) as channel:
        metadata = [("x-fail", "UNAVAILABLE:1"), ("x-id", uuid.uuid4().hex)]
        answer = await pb_grpc.ProbeStub(channel).Read(ping("again"), metadata=metadata)

    assert answer.text == "again"
    assert len(notes.seen) == 1
    assert started(service) in {2, 3}  # each server counts its own failures


async def test_what_an_interceptor_changes_is_what_is_sent(service: Service, grpc_servers: Servers) -> None:
    """Method, metadata and timeout are taken from what it passes on; one that answers itself makes no call."""

    class Change(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            metadata = grpc.aio.Metadata(*client_call_details.metadata, ("x-hang", "1"))
            return await continuation(client_call_details._replace(metadata=metadata, timeout=0.2), request)

    class Reroute(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            return await continuation(client_call_details._replace(method=READ.encode()), request)

    class Answer(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            return pb.Pong(text="mine")

    async with service.grpc_aio_channel(interceptors=[Change()]) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await pb_grpc.ProbeStub(channel).Put(ping())
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    reads = sum(server.count("Read") for server in grpc_servers)
    async with service.grpc_aio_channel(interceptors=[Reroute()]) as channel:
        assert (await pb_grpc.ProbeStub(channel).Unary(ping("elsewhere"))).text == "elsewhere"
    assert sum(server.count("Read") for server in grpc_servers) == reads + 1
    before = started(service)
    async with service.grpc_aio_channel(interceptors=[Answer()]) as channel:
        assert (await pb_grpc.ProbeStub(channel).Unary(ping())).text == "mine"
    assert started(service) == before


@pytest.mark.parametrize("when", ["before", "after"])
async def test_cancelling_while_an_interceptor_holds_the_call(service: Service, when: str) -> None:
    """The call ends as a cancelled one, writing says that it is over, and nothing stays in flight."""
    reached = asyncio.Event()

    class Hold(grpc.aio.StreamUnaryClientInterceptor):
        async def intercept_stream_unary(self, continuation, client_call_details, request_iterator):
            call = await continuation(client_call_details, request_iterator) if when == "after" else None
            reached.set()
            await asyncio.get_running_loop().create_future()
            return call

    async with service.grpc_aio_channel(interceptors=[Hold()]) as channel:
        call = pb_grpc.ProbeStub(channel).ClientStream()
        await reached.wait()
        assert call.cancel()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(ping())
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()
        assert await call.code() is grpc.StatusCode.CANCELLED


async def test_an_interceptor_may_cancel_the_call(service: Service) -> None:
    """What the caller awaits is cancelled then, and says so."""

    class Cancel(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            call = await continuation(client_call_details, request)
            call.cancel()
            return call

    async with service.grpc_aio_channel(interceptors=[Cancel()]) as channel:
        call = pb_grpc.ProbeStub(channel).Unary(ping())
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()
        assert call.done()
        assert await call.details() == "Locally cancelled by application!"


async def test_closing_the_channel_ends_what_interceptors_still_hold(service: Service) -> None:
    """A call that never got through to the mesh is cancelled with the others; a new one is refused."""

    class Hold(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            if not client_call_details.timeout:
                await asyncio.get_running_loop().create_future()
            return await continuation(client_call_details, request)

    channel = service.grpc_aio_channel(interceptors=[Hold()])
    stub = pb_grpc.ProbeStub(channel)
    held = stub.Unary(ping())
    await asyncio.sleep(0)
    await channel.close()

    with pytest.raises(asyncio.CancelledError):
        await held
    with pytest.raises(grpc.aio.UsageError):
        await stub.Unary(ping(), timeout=PATIENCE)


def test_one_intercepted_stub_serves_loops_one_after_the_other(grpc_servers: Servers) -> None:
    """Each loop gets a chain of its own, and those of loops that have ended are let go."""
    notes = Notes()
    with service_over([grpc_servers[0].address]) as service:
        stub = pb_grpc.ProbeStub(service.grpc_aio_channel(interceptors=notes.interceptors))

        async def call() -> str:
            return (await stub.Unary(ping("hello"))).text

        assert [asyncio.run(call()) for _ in range(3)] == ["hello"] * 3
        assert len(stub.Unary._by_loop) == 1
    assert len(notes.seen) == 3


def test_an_object_of_no_known_class_is_refused_in_grpc_s_words(service: Service) -> None:
    """When the channel is made."""
    with pytest.raises(ValueError, match=r"Interceptor <object .* must be UnaryUnaryClientInterceptor or "):
        service.grpc_aio_channel(interceptors=[object()])


def test_instrumentation_before_the_first_import_sees_no_call_twice() -> None:
    """What runs the user's interceptors is no channel that a tracer should add its own to."""
    program = """
import grpc.aio
stock = grpc.aio.insecure_channel
grpc.aio.insecure_channel = lambda *args, **kwargs: 1 / 0
from svcmesh.transport.grpc.aio import intercepted as grpc_aio_intercepted
assert grpc_aio_intercepted.insecure_channel is stock
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
