"""How handlers under the server interceptors end: by errors, by callers who go, and on the way to the next server."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import grpc.aio
import pytest

from svcmesh import Mesh, deadline, remaining
from svcmesh.grpc import aio_server_interceptors, server_interceptors
from tests.transport.grpc.kit import PATIENCE, eventually, soon

SECONDS = 25.0
KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


def generic(**behaviors: Callable[..., Any]) -> grpc.GenericRpcHandler:
    """Return handlers by kind of call."""
    made = {kind: getattr(grpc, f"{kind}_rpc_method_handler")(behavior) for kind, behavior in behaviors.items()}
    return grpc.method_handlers_generic_handler("test", made)


@contextlib.contextmanager
def blocking_server(**behaviors: Callable[..., Any]) -> Iterator[str]:
    """Serve on threads; yield the address."""
    with futures.ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, [generic(**behaviors)], interceptors=server_interceptors())
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


@contextlib.asynccontextmanager
async def aio_server(**behaviors: Callable[..., Any]) -> AsyncIterator[str]:
    """Serve on this loop; yield the address."""
    server = grpc.aio.server(handlers=[generic(**behaviors)], interceptors=aio_server_interceptors())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def call(channel: Any, kind: str, **options: Any) -> Any:
    request: Any = iter([b"a", b"b"]) if kind.startswith("stream") else b"a"
    return getattr(channel, kind)(f"/test/{kind}")(request, **options)


def drained(channel: grpc.Channel, kind: str, **options: Any) -> list[bytes]:
    answer = call(channel, kind, **options)
    return list(answer) if kind.endswith("stream") else [answer]


def aborting(request: Any, context: Any) -> Any:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now")


def breaking(request: Any, context: Any) -> Any:
    raise KeyError("bug")


def broken_later(request: Any, context: Any) -> Iterator[bytes]:
    yield b"one"
    raise KeyError("bug")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timeout", [60, None])
def test_errors_of_a_handler_arrive_as_ever(kind: str, timeout: float | None) -> None:
    """A status that it sets, an exception, and one in the middle of a stream."""
    for behavior, code in ((aborting, "FAILED_PRECONDITION"), (breaking, "UNKNOWN"), (broken_later, "UNKNOWN")):
        if behavior is broken_later and not kind.endswith("stream"):
            continue
        with blocking_server(**{kind: behavior}) as address, grpc.insecure_channel(address) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                drained(channel, kind, timeout=timeout)
            assert caught.value.code().name == code


@pytest.mark.parametrize("kind", KINDS)
async def test_errors_of_an_asyncio_handler_arrive_as_ever(kind: str) -> None:
    async def read(request: Any) -> None:
        if kind.startswith("stream"):  # a stock caller that still writes may see its write fail before the status
            [_ async for _ in request]

    async def aborts(request: Any, context: Any) -> None:
        await read(request)
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now")

    async def aborts_later(request: Any, context: Any) -> AsyncIterator[bytes]:
        await read(request)
        yield b"one"
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now")

    behaviors = [aborts, aborts_later] if kind.endswith("stream") else [aborts]
    for behavior in behaviors:
        async with aio_server(**{kind: behavior}) as address, grpc.aio.insecure_channel(address) as channel:
            started = call(channel, kind, timeout=PATIENCE)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                [_ async for _ in started] if kind.endswith("stream") else await started
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_generator_is_closed_when_its_caller_has_gone() -> None:
    """Its `finally` runs, under the deadline that it had."""
    ended: list[float | None] = []

    def endless(request: bytes, context: Any) -> Iterator[bytes]:
        try:
            while True:
                yield b"more"
        finally:
            ended.append(remaining())

    with blocking_server(unary_stream=endless) as address, grpc.insecure_channel(address) as channel:
        stream = call(channel, "unary_stream", timeout=60)
        next(stream)
        stream.cancel()
        eventually(lambda: len(ended) == 1, "the generator was not closed")


async def test_a_coroutine_and_a_generator_are_cancelled_with_their_call() -> None:
    """As without interceptors: CancelledError inside, and `finally` runs."""
    seen: list[str] = []
    begun = asyncio.Event()

    async def answer(request: bytes, context: Any) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("coroutine")
            raise
        return b""

    async def answers(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            seen.append("generator")

    async with (
        aio_server(unary_unary=answer, unary_stream=answers) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        waiting, stream = call(channel, "unary_unary", timeout=60), call(channel, "unary_stream", timeout=60)
        assert await stream.read() == b"one"
        await asyncio.wait_for(begun.wait(), PATIENCE)
        waiting.cancel()
        await soon(lambda: seen == ["coroutine"], "the coroutine goes on")
        stream.cancel()
        await soon(lambda: seen == ["coroutine", "generator"], "the generator goes on")


def test_over_two_hops_less_time_is_left_at_each() -> None:
    """Nobody names a time but the client, and the second server gets what the first one left."""
    pause = threading.Event()

    def last(request: bytes, context: Any) -> bytes:
        return repr(remaining()).encode()

    with (
        blocking_server(unary_unary=last) as second,
        Mesh({"second": [second]}) as mesh,
        mesh.service("second").grpc_channel() as onward,
    ):

        def first(request: bytes, context: Any) -> bytes:
            mine = remaining()
            pause.wait(0.3)
            return repr(mine).encode() + b" " + call(onward, "unary_unary")

        with (
            blocking_server(unary_unary=first) as address,
            Mesh({"first": [address]}) as outer,
            outer.service("first").grpc_channel() as channel,
            deadline(SECONDS),
        ):
            at_first, at_second = (float(text) for text in call(channel, "unary_unary").split())

    assert 0 < at_second <= at_first - 0.25
    assert at_first <= SECONDS * 1.05


async def test_over_two_hops_of_asyncio_less_time_is_left_at_each() -> None:
    """In streams, too; and a caller that gives up takes the second call along."""
    given_up = asyncio.Event()

    async def last(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            yield repr(remaining()).encode()
            await asyncio.Event().wait()
        finally:
            given_up.set()

    async with (
        aio_server(unary_stream=last) as second,
        Mesh({"second": [second]}) as mesh,
        mesh.service("second").grpc_aio_channel() as onward,
    ):

        async def first(request: bytes, context: Any) -> AsyncIterator[bytes]:
            yield repr(remaining()).encode()
            await asyncio.sleep(0.2)
            async for message in call(onward, "unary_stream"):
                yield message

        async with (
            aio_server(unary_stream=first) as address,
            Mesh({"first": [address]}) as outer,
            outer.service("first").grpc_aio_channel() as channel,
        ):
            with deadline(SECONDS):
                stream = call(channel, "unary_stream")
                at_first, at_second = float(await stream.read()), float(await stream.read())
            stream.cancel()
            await asyncio.wait_for(given_up.wait(), PATIENCE)

    assert 0 < at_second <= at_first - 0.15
