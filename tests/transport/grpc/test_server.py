"""Server interceptors: a handler knows how long its caller waits, in every form that handlers have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from svcmesh import deadline, remaining
from svcmesh.grpc import aio_server_interceptors, server_interceptors
from svcmesh.transport.grpc.server import ServerInterceptor

UNARY, DOWN, UP, BOTH = "unary_unary", "unary_stream", "stream_unary", "stream_stream"
SLACK = 1.05
"""A deadline on the wire is a rounded number of units."""
CALLS = [UNARY, DOWN, UP, BOTH]


def left() -> bytes:
    """Return what the ambient deadline has left, as an answer."""
    return repr(remaining()).encode()


class Blocking:
    """Handlers of all kinds, as a blocking server has them."""

    def unary_unary(self, request: bytes, context: Any) -> bytes:
        return left()

    def unary_stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        for _ in range(3):
            yield left()

    def stream_unary(self, requests: Iterator[bytes], context: Any) -> bytes:
        list(requests)
        return left()

    def stream_stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for _ in requests:
            yield left()


class Awaiting:
    """Handlers of all kinds, as an asyncio server has them."""

    async def unary_unary(self, request: bytes, context: Any) -> bytes:
        return left()

    async def unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield left()

    async def stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        async for _ in requests:
            await asyncio.sleep(0)
        return left()

    async def stream_stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield left()


class Writing(Awaiting):
    """Streams that are written and not yielded."""

    async def unary_stream(self, request: bytes, context: Any) -> None:
        for _ in range(3):
            await context.write(left())

    async def stream_stream(self, requests: AsyncIterator[bytes], context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            await context.write(left())


def generic(handlers: Any) -> grpc.GenericRpcHandler:
    made = {kind: getattr(grpc, f"{kind}_rpc_method_handler")(getattr(handlers, kind)) for kind in CALLS}
    return grpc.method_handlers_generic_handler("test", made)


def ask(channel: grpc.Channel, kind: str, timeout: float | None) -> list[bytes]:
    """Make a call of this kind; return its answers."""
    request: Any = iter([b"a", b"b"]) if kind.startswith("stream") else b"a"
    answer = getattr(channel, kind)(f"/test/{kind}")(request, timeout=timeout)
    return list(answer) if kind.endswith("stream") else [answer]


class Hurrying(Blocking):
    """Streams that give themselves less time than they have, for all but the last message."""

    def unary_stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        with deadline(2):
            yield left()
            yield left()
        yield left()


class HurryingAwaiting(Awaiting):
    """The same on asyncio."""

    async def unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        with deadline(2):
            yield left()
            yield left()
        yield left()


@contextmanager
def blocking_server(handlers: Any, *interceptors: Any) -> Iterator[grpc.Channel]:
    """Yield a channel to a server of these handlers."""
    with futures.ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, [generic(handlers)], interceptors=interceptors)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
        server.stop(None).wait()


@pytest.fixture
def blocking_channel() -> Iterator[grpc.Channel]:
    with blocking_server(Blocking(), *server_interceptors()) as channel:
        yield channel


@pytest.mark.parametrize("kind", CALLS)
def test_a_blocking_handler_runs_under_its_caller_s_deadline(blocking_channel: grpc.Channel, kind: str) -> None:
    """Each message of a stream, too; and a call without a deadline has none."""
    answers = ask(blocking_channel, kind, 7)

    assert len(answers) == {UNARY: 1, DOWN: 3, UP: 1, BOTH: 2}[kind]
    assert all(0 < float(answer) <= SLACK * 7 for answer in answers)
    assert set(ask(blocking_channel, kind, None)) == {b"None"}


def test_the_thread_of_a_handler_is_left_as_it_was(blocking_channel: grpc.Channel) -> None:
    """Pools run one handler after the other on it: a stream that was dropped half-way leaves no deadline behind."""
    for _ in range(4):
        stream = blocking_channel.unary_stream("/test/unary_stream")(b"", timeout=60)
        next(stream)
        stream.cancel()
        assert ask(blocking_channel, UNARY, None) == [b"None"]


@pytest.mark.parametrize("handlers", [Awaiting(), Writing(), Blocking()], ids=lambda found: type(found).__name__)
@pytest.mark.parametrize("kind", CALLS)
async def test_an_asyncio_server_s_handler_runs_under_its_caller_s_deadline(handlers: Any, kind: str) -> None:
    """Whether it awaits, yields, writes, or is plain and runs on a thread."""
    pool = futures.ThreadPoolExecutor(2)
    server = grpc.aio.server(pool, [generic(handlers)], interceptors=aio_server_interceptors())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for timeout in (7, None):
                request: Any = iter([b"a", b"b"]) if kind.startswith("stream") else b"a"
                call = getattr(channel, kind)(f"/test/{kind}")(request, timeout=timeout)
                answers = [answer async for answer in call] if kind.endswith("stream") else [await call]
                assert len(answers) == {UNARY: 1, DOWN: 3, UP: 1, BOTH: 2}[kind]
                if timeout is None:
                    assert set(answers) == {b"None"}
                else:
                    assert all(0 < float(answer) <= SLACK * 7 for answer in answers)
    finally:
        await server.stop(None)
        pool.shutdown()


def test_a_shorter_deadline_of_a_handler_holds_from_one_message_to_the_next() -> None:
    """It is only ever shortened; when the block ends, what the caller gave is back."""
    with blocking_server(Hurrying(), *server_interceptors()) as channel:
        first, second, last = map(float, ask(channel, DOWN, 60))
        assert ask(channel, UNARY, None) == [b"None"]

    assert 0 <= second <= first <= 2
    assert 2 < last <= SLACK * 60


@pytest.mark.parametrize("handlers", [HurryingAwaiting(), Hurrying()], ids=lambda found: type(found).__name__)
async def test_a_shorter_deadline_holds_on_asyncio_servers_too(handlers: Any) -> None:
    """Also where a plain generator runs on threads."""
    pool = futures.ThreadPoolExecutor(2)
    server = grpc.aio.server(pool, [generic(handlers)], interceptors=aio_server_interceptors())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_stream("/test/unary_stream")(b"", timeout=60)
            first, second, last = [float(answer) async for answer in call]
    finally:
        await server.stop(None)
        pool.shutdown()

    assert 0 <= second <= first <= 2
    assert 2 < last <= SLACK * 60


class Context:
    """What a handler is given, as far as the interceptors look at it."""

    def time_remaining(self) -> float:
        return 60.0


def streamed(behavior: Callable[..., Any]) -> Any:
    """Return what a handler answers with the interceptor around it."""
    handler = grpc.unary_stream_rpc_method_handler(behavior)
    return ServerInterceptor().intercept_service(lambda _: handler, None).unary_stream(b"", Context())


def test_an_answer_dropped_half_way_is_closed_under_the_deadline() -> None:
    """What a generator does in its end may call others, too."""
    seen: list[float | None] = []

    def answers(request: bytes, context: Any) -> Iterator[bytes]:
        try:
            yield b""
            yield b""
        finally:
            seen.append(remaining())

    messages = streamed(answers)
    next(messages)
    del messages

    assert seen[0] is not None
    assert remaining() is None


def test_an_iterator_of_the_handlers_own_is_only_iterated() -> None:
    """As gRPC does: it may have a `close` that means something else."""

    class Answers:
        closed = False
        left = 2

        def __next__(self) -> bytes:
            if not self.left:
                raise StopIteration
            self.left -= 1
            return b"answer"

        def close(self) -> None:
            self.closed = True

    answers = Answers()

    assert list(streamed(lambda request, context: answers)) == [b"answer", b"answer"]
    assert not answers.closed


class Listing(Blocking):
    """An answer that is no iterator."""

    def unary_stream(self, request: bytes, context: Any) -> Any:
        return [b"a", b"b"]


@pytest.mark.parametrize("timeout", [60, None])
def test_what_is_no_iterator_is_refused_as_without_us(timeout: float | None) -> None:
    """In gRPC's words, whether there is a deadline or not."""
    said = []
    for interceptors in ([], server_interceptors()):
        with blocking_server(Listing(), *interceptors) as channel, pytest.raises(grpc.RpcError) as caught:
            ask(channel, DOWN, timeout)
        said.append((caught.value.code(), caught.value.details()))

    assert said[0] == said[1]
    assert said[0][0] is grpc.StatusCode.UNKNOWN


def test_a_method_that_nobody_serves_stays_unimplemented(blocking_channel: grpc.Channel) -> None:
    """There is no handler to put anything around."""
    with pytest.raises(grpc.RpcError) as caught:
        blocking_channel.unary_unary("/test/Other")(b"")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_what_grpc_marks_handlers_with_stays() -> None:
    """Attributes of the function, serializers, and the deadline that is already there, if it is shorter."""

    def behavior(request: Any, context: Any) -> float | None:
        return remaining()

    behavior.experimental_thread_pool = "pool"
    handler = grpc.unary_unary_rpc_method_handler(behavior, bytes.decode, str.encode)
    wrapped = ServerInterceptor().intercept_service(lambda _: handler, None)

    assert wrapped.unary_unary.experimental_thread_pool == "pool"
    assert (wrapped.request_deserializer, wrapped.response_serializer) == (bytes.decode, str.encode)
    with deadline(2):
        assert wrapped.unary_unary("", Context()) <= 2
    assert 30 < wrapped.unary_unary("", Context()) <= 60
