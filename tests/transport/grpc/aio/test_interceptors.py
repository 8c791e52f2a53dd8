"""The policy on asyncio channels that are not ours: every kind of call, in both styles, against real servers."""

from __future__ import annotations

import asyncio
import gc
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
import tenacity

from svcmesh import Abort, CircuitBreaker, CircuitOpen, ConfigError, Delay, Fault, Policy, Retry, deadline, info
from svcmesh.grpc import aio_client_interceptors
from tests.servers import svcmesh_test_pb2 as pb
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import PATIENCE, eventually, ping, soon

Servers = tuple[GrpcServer, GrpcServer]
RETRYING = Policy(idempotent=True, timeout=10, retry=Retry(wait=tenacity.wait_fixed(0.01)))
Kind = Callable[..., Awaitable[str]]


async def unary(stub: Any, **kw: Any) -> str:
    return (await stub.Unary(ping("a"), **kw)).text


async def server_stream(stub: Any, **kw: Any) -> str:
    return "".join([pong.text async for pong in stub.ServerStream(ping("a", 1), **kw)])


async def server_stream_read(stub: Any, **kw: Any) -> str:
    call = stub.ServerStream(ping("a", 1), **kw)
    first = await call.read()
    assert await call.read() is grpc.aio.EOF
    return first.text


async def client_stream(stub: Any, **kw: Any) -> str:
    return (await stub.ClientStream(_one(), **kw)).text


async def client_stream_write(stub: Any, **kw: Any) -> str:
    call = stub.ClientStream(**kw)
    await call.write(ping("a"))
    await call.done_writing()
    return (await call).text


async def bidi(stub: Any, **kw: Any) -> str:
    return "".join([pong.text async for pong in stub.BidiStream(_one(), **kw)])


async def bidi_write(stub: Any, **kw: Any) -> str:
    call = stub.BidiStream(**kw)
    await call.write(ping("a"))
    answer = await call.read()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    return answer.text


async def _one() -> AsyncIterator[Any]:
    yield ping("a")


KINDS = [unary, server_stream, server_stream_read, client_stream, client_stream_write, bidi, bidi_write]
METHODS = {"unary": "Unary", "server": "ServerStream", "client": "ClientStream", "bidi": "BidiStream"}


@pytest.fixture
async def stub_with(grpc_servers: Servers) -> AsyncIterator[Callable[..., Any]]:
    """Return what makes stubs of intercepted stock channels to one server; they are closed at the end."""
    channels: list[grpc.aio.Channel] = []

    def make(policy: Policy, *others: Any) -> Any:
        ours = aio_client_interceptors(policy)
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.insecure_channel(grpc_servers[0].address, options, interceptors=[*ours, *others])
        channels.append(channel)
        return pb_grpc.ProbeStub(channel)

    yield make
    for channel in channels:
        await channel.close()
    channels.clear()  # pytest holds the function, and so them, and so the interceptors with their worker


def fails(times: int, code: str = "UNAVAILABLE") -> list[tuple[str, str]]:
    return [("x-fail", f"{code}:{times}"), ("x-id", uuid.uuid4().hex), ("x-before", "0.03")]


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_is_repeated(stub_with: Any, kind: Kind) -> None:
    """Although gRPC returns call objects for good and bad ends, and writers wait for the interceptor."""
    stub = stub_with(RETRYING)

    assert await kind(stub) == "a"
    assert await kind(stub, metadata=fails(2)) == "a"


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_ends_with_the_last_status(stub_with: Any, kind: Kind) -> None:
    """As an ``AioRpcError``, where the call does not end while its caller still writes."""
    with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)) as caught:
        await kind(stub_with(RETRYING), metadata=fails(-1))

    if isinstance(caught.value, grpc.aio.AioRpcError):
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_may_not_be_repeated_is_made_once(stub_with: Any, grpc_servers: Servers, kind: Any) -> None:
    """Nothing says that it is idempotent."""
    name = METHODS[kind.__name__.partition("_")[0]]
    before = grpc_servers[0].count(name)
    with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
        await kind(stub_with(RETRYING.replace(idempotent=False)), metadata=fails(1))

    assert grpc_servers[0].count(name) == before + 1


async def test_how_often_is_known_afterwards(stub_with: Any) -> None:
    """From the error."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub_with(RETRYING).Unary(ping(), metadata=fails(-1))

    assert info(caught.value).attempts == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_the_policy_s_timeout_and_the_ambient_deadline_end_calls(stub_with: Any, kind: Kind) -> None:
    """Whichever comes first, the caller's own included."""
    stub = stub_with(Policy(timeout=0.3))
    hang = [("x-hang", "1")]
    async with asyncio.timeout(PATIENCE):
        for seconds in (PATIENCE, 0.2):
            with deadline(seconds), pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
                await kind(stub, metadata=hang)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await kind(stub_with(Policy()), timeout=0.2, metadata=hang)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("kind", [unary, server_stream, client_stream, bidi])
async def test_the_breaker_opens_and_is_an_rpc_error(stub_with: Any, kind: Kind) -> None:
    """It counts statuses of all four kinds, which one object of all classes would not see."""
    stub = stub_with(Policy(circuit_breaker=CircuitBreaker(consecutive=2, failure_rate=None, open_for=60)))
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await kind(stub, metadata=fails(-1))
        assert not isinstance(caught.value, CircuitOpen)
    with pytest.raises(CircuitOpen) as refused:
        await kind(stub)

    assert isinstance(refused.value, grpc.aio.AioRpcError)
    assert refused.value.retry_after > 50


@pytest.mark.parametrize("kind", [unary, server_stream, client_stream, bidi])
async def test_faults_are_injected(stub_with: Any, kind: Kind) -> None:
    """As a status that no server sent, after a delay."""
    fault = Fault(abort=Abort("DATA_LOSS"), delay=Delay(0.05), percent=100)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await kind(stub_with(Policy(faults=(fault,))))

    assert caught.value.code() is grpc.StatusCode.DATA_LOSS


async def test_cancelling_reaches_the_call_below(stub_with: Any, grpc_servers: Servers) -> None:
    """By the call, or by the task that awaits it; during an attempt and between two."""
    stub = stub_with(RETRYING.replace(retry=Retry(wait=tenacity.wait_fixed(5))))
    hang = [("x-hang", "1")]
    for metadata in (hang, fails(-1)):
        what = "Unary" if metadata == hang else "Unary.ended"
        before = grpc_servers[0].count(what)
        call = stub.Unary(ping(), metadata=metadata)
        await soon(lambda what=what, before=before: grpc_servers[0].count(what) > before, "it did not arrive")
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()
        before = grpc_servers[0].count(what)
        task = asyncio.create_task(unary(stub, metadata=metadata))
        await soon(lambda what=what, before=before: grpc_servers[0].count(what) > before, "it did not arrive")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_other_interceptors_below_run_once_per_attempt(stub_with: Any) -> None:
    """They may answer in place of the server, or raise what is no error of gRPC's: neither is repeated."""
    seen: list[Any] = []

    class Inner(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            seen.append(client_call_details.timeout)
            if request.text == "answer":
                return pb.Pong(text="mine")
            if request.text == "raise":
                raise LookupError("mine")
            return await continuation(client_call_details, request)

    stub = stub_with(RETRYING, Inner())
    assert (await stub.Unary(ping("a"), metadata=fails(2))).text == "a"
    assert len(seen) == 3
    assert all(timeout <= 10 for timeout in seen)
    assert (await stub.Unary(ping("answer"))).text == "mine"
    with pytest.raises(LookupError):
        await stub.Unary(ping("raise"))
    assert len(seen) == 5


async def test_details_of_another_class_keep_what_they_have(stub_with: Any, grpc_servers: Servers) -> None:
    """An interceptor further out may pass on what it likes."""
    seen: list[Any] = []

    class Strange(grpc.ClientCallDetails):
        def __init__(self, details: Any) -> None:
            self.method, self.timeout, self.metadata = details.method, details.timeout, details.metadata
            self.credentials, self.wait_for_ready, self.tenant = None, None, "blue"

    class Outer(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            return await continuation(Strange(client_call_details), request)

    class Inner(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            seen.append((client_call_details.tenant, client_call_details.timeout <= 10))
            return await continuation(client_call_details, request)

    interceptors = [Outer(), *aio_client_interceptors(RETRYING), Inner()]
    async with grpc.aio.insecure_channel(grpc_servers[0].address, interceptors=interceptors) as channel:
        assert await unary(pb_grpc.ProbeStub(channel)) == "a"
    assert seen == [("blue", True)]


@pytest.mark.parametrize("kind", [unary, server_stream, client_stream, bidi])
async def test_a_closed_channel_is_the_caller_s_own_error(grpc_servers: Servers, kind: Kind) -> None:
    """At once, without a second attempt."""
    interceptors = aio_client_interceptors(RETRYING.replace(timeout=None, retry=Retry(wait=tenacity.wait_fixed(60))))
    channel = grpc.aio.insecure_channel(grpc_servers[0].address, interceptors=interceptors)
    stub = pb_grpc.ProbeStub(channel)
    await channel.close()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(grpc.aio.UsageError):
            await kind(stub)


async def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="policy"):
        aio_client_interceptors("often")  # type: ignore[arg-type]


def test_they_serve_loops_one_after_the_other_and_leave_nothing(grpc_servers: Servers) -> None:
    """One set of interceptors, channels of several loops."""
    interceptors = aio_client_interceptors(RETRYING)
    before = set(threading.enumerate())

    async def call() -> str:
        async with grpc.aio.insecure_channel(grpc_servers[0].address, interceptors=interceptors) as channel:
            return await unary(pb_grpc.ProbeStub(channel), metadata=fails(1))

    def left() -> list[threading.Thread]:
        return [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("svcmesh")]

    assert [asyncio.run(call()) for _ in range(2)] == ["a", "a"]
    interceptors.clear()
    gc.collect()
    eventually(lambda: not left(), "the worker is still there")
