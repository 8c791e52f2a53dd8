"""Who reads a caller's asyncio iterator: one task, which outlives attempts, beside what the stock channel does."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import grpc
import grpc.aio
import pytest

from svcmesh.policy.policy import Policy
from svcmesh.transport.grpc.aio.request import AioStreamedRequest
from svcmesh.transport.grpc.request import BUFFER
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import ping, service_over, soon

Servers = tuple[GrpcServer, GrpcServer]
WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


class Attempt:
    """A call of gRPC's as far as it is written to; it takes messages while ``takes`` is set."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.takes = asyncio.Event()
        self.cancelled = self.over = False
        self._callbacks: list[Callable[[Any], object]] = []

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._callbacks.append(callback)

    def end(self) -> None:
        self.over = True
        for callback in self._callbacks:
            callback(self)

    def cancel(self) -> None:
        self.cancelled = True
        self.end()

    async def write(self, message: Any) -> None:
        if self.over:
            raise asyncio.InvalidStateError
        await self.takes.wait()
        if self.over:
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())
        self.written.append(message)

    async def done_writing(self) -> None:
        self.written.append(None)


class Source:
    """Three messages; each but the first comes when it is told to ``go``. Notes the tasks that have read it."""

    def __init__(self) -> None:
        self.go = asyncio.Semaphore(0)
        self.tasks: list[Any] = []
        self.ends: list[str] = []

    def release(self, number: int) -> None:
        for _ in range(number):
            self.go.release()

    async def messages(self) -> AsyncIterator[bytes]:
        self.tasks.append(asyncio.current_task())
        try:
            for message in (b"a", b"b", b"c"):
                yield message
                await self.go.acquire()
                self.tasks.append(asyncio.current_task())
        finally:
            self.ends.append("begun")
            await asyncio.sleep(0)
            self.ends.append("done")


async def everything(messages: AsyncIterator[Any]) -> list[Any]:
    return [message async for message in messages]


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def written_to(source: Any) -> tuple[AioStreamedRequest, Attempt]:
    request, attempt = AioStreamedRequest(source, None), Attempt()
    assert request.writes
    request.write_to(attempt)
    attempt.takes.set()
    return request, attempt


async def test_the_first_attempt_is_written_to_in_the_task_that_reads() -> None:
    """With as many tasks as gRPC itself has for that: one."""
    source = Source()
    source.release(3)
    request, attempt = written_to(source.messages())
    await turns(20)

    assert attempt.written == [b"a", b"b", b"c", None]
    assert len(set(source.tasks)) == 1
    assert source.ends == ["begun", "done"]
    assert request.exhausted
    assert not request.writes
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("waits", [False, True], ids=["it takes no message yet", "it has taken one"])
async def test_an_attempt_that_takes_its_place_gets_all_from_the_same_task(waits: bool) -> None:
    """Whether the one before ends while the caller is waited for, or before it could be written to at all."""
    source = Source()
    request, attempt = written_to(source.messages())
    if not waits:
        attempt.takes.clear()
    await turns()
    attempt.end()
    second = asyncio.create_task(everything(request.again()))
    await turns()
    source.release(3)

    assert await second == [b"a", b"b", b"c"]
    assert attempt.written == ([b"a"] if waits else [])
    assert len(set(source.tasks)) == 1
    assert source.ends == ["begun", "done"]


async def test_nothing_is_read_ahead_while_there_is_no_attempt() -> None:
    """A caller may put off making a message until it can be sent; one that was asked for is kept for who comes."""
    source = Source()
    request, attempt = written_to(source.messages())
    await turns()
    attempt.end()
    source.release(2)
    await turns(20)
    assert len(source.tasks) == 2
    request.close()
    await turns()


async def test_the_end_of_the_call_ends_the_iterator_once_wherever_it_is() -> None:
    """While it is waited for it is cancelled; while it waits to be asked, it is let go."""
    waited_for, waiting = Source(), Source()
    first, _ = written_to(waited_for.messages())
    second, stuck = written_to(waiting.messages())
    stuck.takes.clear()
    await turns()
    first.close()
    second.close()
    await turns(20)
    del first, second
    gc.collect()
    await turns(20)

    assert waited_for.ends == ["begun", "done"]
    assert waiting.ends == ["begun", "done"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_task_that_is_cancelled_by_the_caller_s_own_timeout_ends() -> None:
    """A stock call's does, too, and cancels the call."""
    raised: list[BaseException] = []

    async def messages() -> AsyncIterator[bytes]:
        try:
            async with asyncio.timeout(0.01):
                yield b"a"
                yield b"b"
                await asyncio.Event().wait()
        except TimeoutError as error:
            raised.append(error)
            raise

    request, attempt = written_to(messages())
    await soon(lambda: attempt.cancelled, "the attempt goes on")

    assert len(raised) == 1
    assert attempt.written == [b"a", b"b"]
    with pytest.raises(TimeoutError):
        await everything(request.again())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, asyncio.CancelledError])
async def test_whatever_is_raised_cancels_the_attempt_and_leaves_the_task_not(error: type[BaseException]) -> None:
    """A stock call takes even an exit for one."""

    async def messages() -> AsyncIterator[bytes]:
        yield b"a"
        raise error

    request, attempt = written_to(messages())
    await turns()

    assert attempt.written == [b"a"]
    assert attempt.cancelled
    assert request.exhausted


async def test_what_cannot_be_written_cancels_the_attempt() -> None:
    """As a message that is no bytes does there; the iterator is asked no more."""
    source = Source()
    request, attempt = written_to(source.messages())
    attempt.write = _refuses  # type: ignore[method-assign]
    source.release(1)
    await turns(20)

    assert attempt.cancelled
    assert len(source.tasks) == 1
    request.close()
    await turns()


async def _refuses(_: Any) -> None:
    raise TypeError


async def test_beyond_the_buffer_nothing_is_kept() -> None:
    """The attempt under way goes on, but there can be no other."""

    async def messages() -> AsyncIterator[bytes]:
        for message in (b"x" * BUFFER, b"one too many", b"last"):
            yield message

    request, attempt = written_to(messages())
    await turns(20)

    assert [len(message) for message in attempt.written[:-1]] == [BUFFER, 12, 4]
    assert not request.replayable
    assert await everything(request.again()) == []


async def test_messages_are_read_in_the_context_of_the_call_and_share_it() -> None:
    """Even where an attempt begins later, from elsewhere."""
    seen: list[str] = []

    async def messages() -> AsyncIterator[bytes]:
        seen.append(WHO.get())
        WHO.set("generator")
        yield b"a"
        seen.append(WHO.get())

    token = WHO.set("caller")
    request, attempt = AioStreamedRequest(messages(), None), Attempt()
    WHO.reset(token)
    request.write_to(attempt)
    attempt.takes.set()
    await turns(20)

    assert seen == ["caller", "generator"]
    assert WHO.get() == "nobody"


async def test_a_loop_may_make_its_tasks_itself() -> None:
    """By a factory of the kind that was there before contexts could be given."""
    loop = asyncio.get_running_loop()

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coroutine, loop=loop)

    loop.set_task_factory(factory)
    try:
        source = Source()
        request, attempt = written_to(source.messages())
        await turns()
        assert attempt.written == [b"a"]
        request.close()
        await turns()
    finally:
        loop.set_task_factory(None)


# -- beside the stock channel ------------------------------------------------------------------------------------------


async def one_task(notes: list[Any]) -> AsyncIterator[Any]:
    tasks = set()
    for _ in range(3):
        tasks.add(asyncio.current_task())
        yield ping()
        await asyncio.sleep(0)
    notes.append(len(tasks))


async def timeout_over_messages(notes: list[Any]) -> AsyncIterator[Any]:
    try:
        async with asyncio.timeout(0.1):
            yield ping()
            await asyncio.Event().wait()
    except TimeoutError:
        notes.append("in time")
    yield ping()


async def tasks_over_messages(notes: list[Any]) -> AsyncIterator[Any]:
    async with asyncio.TaskGroup() as group:
        made = group.create_task(asyncio.sleep(0, "made"))
        yield ping()
        notes.append(await made)
        yield ping()


async def own_context(notes: list[Any]) -> AsyncIterator[Any]:
    notes.append(WHO.get())
    WHO.set("generator")
    yield ping()
    await asyncio.sleep(0)
    notes.append(WHO.get())


@pytest.mark.parametrize("make", [one_task, timeout_over_messages, tasks_over_messages, own_context])
@pytest.mark.parametrize("kind", ["ClientStream", "BidiStream"])
@pytest.mark.parametrize("failures", [0, 1])
async def test_a_generator_finds_what_it_would_find_below_a_stock_channel(
    grpc_servers: Servers, kind: str, make: Callable[[list[Any]], Any], failures: int
) -> None:
    """The same task and context for all messages, also where a second attempt sends them."""

    async def story(channel: grpc.aio.Channel, name: str, failures: int) -> tuple[int, list[Any]]:
        notes: list[Any] = []
        stub = pb_grpc.ProbeStub(channel)
        metadata = (("x-id", f"{name} {kind} {make.__name__}"), ("x-fail", f"UNAVAILABLE:{failures}"))
        call = getattr(stub, kind)(make(notes), metadata=metadata)
        number = (await call).number if kind == "ClientStream" else len([message async for message in call])
        return number, notes

    token = WHO.set("caller")
    first, _ = grpc_servers
    with service_over([first.address], Policy.standard().replace(idempotent=True)) as service:
        async with grpc.aio.insecure_channel(first.address) as stock, service.grpc_aio_channel() as ours:
            assert await story(ours, "ours", failures) == await story(stock, "stock", 0)
    WHO.reset(token)
