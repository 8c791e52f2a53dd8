"""The asyncio channel against real servers: all kinds of calls, what is repeated, and what cancelling does."""

from __future__ import annotations

import asyncio
import gc
import threading
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

import svcmesh
from svcmesh.core.deadline import deadline
from svcmesh.policy.policy import Policy
from svcmesh.policy.retry import Retry
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer, blackhole_port, refused_port
from tests.transport.grpc.kit import PATIENCE, in_flight, ping, service_over, soon, started

Servers = tuple[GrpcServer, GrpcServer]


@pytest.fixture
async def service(grpc_servers: Servers) -> AsyncIterator[Service]:
    with service_over([server.address for server in grpc_servers]) as found:
        yield found


@pytest.fixture
async def stub(service: Service) -> AsyncIterator[pb_grpc.ProbeStub]:
    async with service.grpc_aio_channel() as channel:
        yield pb_grpc.ProbeStub(channel)


def fails(code: str, times: int) -> list[tuple[str, str]]:
    return [("x-fail", f"{code}:{times}"), ("x-id", uuid.uuid4().hex)]


def arrived(servers: Servers, what: str) -> int:
    return sum(server.count(what) for server in servers)


async def requests(*texts: str) -> AsyncIterator[Any]:
    for text in texts:
        await asyncio.sleep(0)
        yield ping(text)


# -- all kinds ---------------------------------------------------------------------------------------------------------


async def test_unary_calls_are_answered_and_counted(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """Many at once; each is counted in and out, by the time its caller goes on."""
    answers = await asyncio.gather(*(stub.Unary(ping(str(number))) for number in range(30)))

    assert [answer.text for answer in answers] == [str(number) for number in range(30)]
    assert {answer.server for answer in answers} == {"a", "b"}
    assert (started(service), in_flight(service)) == (30, 0)


async def test_a_call_is_of_the_class_that_interceptors_look_for(stub: pb_grpc.ProbeStub) -> None:
    """An object of another class would be taken for a bare response."""
    kinds = {
        grpc.aio.UnaryUnaryCall: stub.Unary(ping()),
        grpc.aio.UnaryStreamCall: stub.ServerStream(ping()),
        grpc.aio.StreamUnaryCall: stub.ClientStream(iter([])),
        grpc.aio.StreamStreamCall: stub.BidiStream(iter([])),
    }
    for kind, call in kinds.items():
        assert isinstance(call, kind)
        assert await call.code() is grpc.StatusCode.OK


async def test_a_call_starts_without_being_awaited(grpc_servers: Servers, stub: pb_grpc.ProbeStub) -> None:
    """It is sent when it is made; awaiting it twice gives the same response."""
    before = arrived(grpc_servers, "Unary.ended")
    call = stub.Unary(ping("eager"))
    assert not call.done()
    await soon(call.done, "it never ended")

    assert arrived(grpc_servers, "Unary.ended") == before + 1
    assert (await call) is (await call)
    assert await call.code() is grpc.StatusCode.OK
    assert dict([*await call.trailing_metadata()])["x-server"] in {"a", "b"}
    assert call.time_remaining() is not None


async def test_no_task_of_ours_runs_on_the_success_path(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """A call makes as many tasks as the stock call does: one."""
    await stub.Unary(ping())
    before = len(asyncio.all_tasks())
    call = stub.Unary(ping())

    assert len(asyncio.all_tasks()) == before + 1
    await call


@pytest.mark.parametrize("style", ["async iterator", "iterator", "write"])
async def test_client_streaming(stub: pb_grpc.ProbeStub, style: str) -> None:
    """Requests come from an iterator of either kind, or are written."""
    if style == "write":
        call = stub.ClientStream()
        for text in "abc":
            await call.write(ping(text))
        await call.done_writing()
        await call.done_writing()
    else:
        call = stub.ClientStream(requests(*"abc") if style == "async iterator" else iter([ping(t) for t in "abc"]))

    assert (await call).text == "a,b,c"


@pytest.mark.parametrize("style", ["iterate", "read"])
async def test_server_streaming(service: Service, stub: pb_grpc.ProbeStub, style: str) -> None:
    """Messages are iterated over or read; the stream is in flight until its end."""
    call = stub.ServerStream(ping(count=3))
    if style == "iterate":
        numbers = [message.number async for message in call]
    else:
        numbers = [(await call.read()).number for _ in range(3)]
        assert await call.read() is grpc.aio.EOF

    assert numbers == [0, 1, 2]
    await soon(lambda: in_flight(service) == 0, "still in flight")
    endless = stub.ServerStream(ping(count=100_000), metadata=[("x-delay", "0.02")])
    await anext(aiter(endless)) if style == "iterate" else await endless.read()
    assert in_flight(service) == 1
    endless.cancel()
    await soon(lambda: in_flight(service) == 0, "still in flight")


async def test_styles_may_not_be_mixed(stub: pb_grpc.ProbeStub) -> None:
    """UsageError, as on the stock channel."""
    call = stub.BidiStream(requests("a"))
    with pytest.raises(grpc.aio.UsageError):
        await call.write(ping("b"))
    async for _ in call:
        with pytest.raises(grpc.aio.UsageError):
            await call.read()


async def test_messages_go_both_ways(stub: pb_grpc.ProbeStub) -> None:
    """A request, its answer, the next request."""
    call = stub.BidiStream()
    for text in "abc":
        await call.write(ping(text))
        assert (await call.read()).text == text
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(ping("late"))


@pytest.mark.parametrize("method", ["ClientStream", "BidiStream"])
async def test_who_writes_first_is_told_why_a_call_was_refused(method: str) -> None:
    """By the error that reading, awaiting and asking for the status have, too."""
    async with svcmesh.Mesh({"nobody": []}) as mesh, mesh.service("nobody").grpc_aio_channel() as channel:
        call = getattr(pb_grpc.ProbeStub(channel), method)()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.write(ping("a"))
        assert isinstance(caught.value, svcmesh.NoEndpoints)
        assert await call.code() is grpc.StatusCode.UNAVAILABLE


# -- what is repeated --------------------------------------------------------------------------------------------------


async def test_an_idempotent_call_is_repeated_although_nobody_awaits_it(
    service: Service, stub: pb_grpc.ProbeStub
) -> None:
    """The done callback comes once, with our call, after the attempt that succeeded."""
    seen: list[Any] = []
    call = stub.Read(ping("again"), metadata=fails("UNAVAILABLE", 1))
    call.add_done_callback(seen.append)
    await soon(lambda: bool(seen), "the callback was not called")

    assert seen == [call]
    assert (await call).text == "again"
    assert started(service) in {2, 3}  # each server counts its own failures
    told = svcmesh.info(call)
    assert told is not None
    assert told.attempts == started(service)


async def test_another_call_is_not_repeated(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """The error has all that the server sent, and our account of the call."""
    call = stub.Unary(ping(), metadata=fails("UNAVAILABLE", -1))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == await call.details() == "asked to fail: 1"
    assert dict([*caught.value.trailing_metadata()])["x-server"] in {"a", "b"}
    assert started(service) == 1
    for failed in (caught.value, call):
        told = svcmesh.info(failed)
        assert told is not None
        assert (told.attempts, told.reason) == (1, "UNAVAILABLE; not-idempotent")


@pytest.mark.parametrize("kind", ["unary", "stream", "client", "bidi", "written"])
async def test_unsent_calls_of_every_kind_go_elsewhere(grpc_servers: Servers, kind: str) -> None:
    """One of two endpoints refuses connections: nobody notices, whatever was read of the requests."""

    async def call(stub: pb_grpc.ProbeStub) -> Any:
        if kind == "unary":
            return (await stub.Unary(ping("a"))).text
        if kind == "client":
            return (await stub.ClientStream(requests(*"abc"))).text
        if kind == "written":
            written = stub.ClientStream()
            await written.write(ping("a"))
            await written.write(ping("b"))
            await written.done_writing()
            return (await written).text
        messages = stub.ServerStream(ping("a", 2)) if kind == "stream" else stub.BidiStream(requests(*"aa"))
        return [message.text async for message in messages]

    expected = {"unary": "a", "client": "a,b,c", "written": "a,b", "stream": ["a", "a"], "bidi": ["a", "a"]}[kind]
    with refused_port() as dead, service_over([grpc_servers[0].address, f"127.0.0.1:{dead}"]) as service:
        async with service.grpc_aio_channel() as channel:
            for _ in range(8):
                assert await call(pb_grpc.ProbeStub(channel)) == expected
            assert service.view.cluster.members[f"127.0.0.1:{dead}"].started >= 1


@pytest.mark.parametrize("style", ["read", "iterate"])
async def test_a_stream_is_not_repeated_after_its_first_message(grpc_servers: Servers, style: str) -> None:
    """What was handed out cannot be taken back, and that is what the error tells."""
    policy = Policy.standard().replace(idempotent=True)
    with service_over([s.address for s in grpc_servers], policy) as service:
        async with service.grpc_aio_channel() as channel:
            call = pb_grpc.ProbeStub(channel).ServerStream(ping(count=5), metadata=[("x-fail-at", "UNAVAILABLE:2")])
            take = call.read if style == "read" else aiter(call).__anext__
            assert [(await take()).number, (await take()).number] == [0, 1]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await take()
            assert caught.value.details() == "asked to fail at 2"
            assert started(service) == 1
            for broken in (caught.value, call):
                told = svcmesh.info(broken)
                assert told is not None
                assert (told.attempts, told.reason) == (1, "UNAVAILABLE; answer-begun")


async def test_sigkill_during_calls_fails_no_idempotent_one(grpc_servers: Servers) -> None:
    """The connection breaks under running calls; they are repeated at the other server."""
    with GrpcServer("victim") as victim, service_over([victim.address, grpc_servers[0].address]) as service:
        async with service.grpc_aio_channel() as channel:
            stub, answers = pb_grpc.ProbeStub(channel), []

            async def calls() -> None:
                for _ in range(15):
                    answer = await stub.Read(ping(), metadata=[("x-delay", "0.02")])
                    answers.append(answer.server)

            tasks = [asyncio.create_task(calls()) for _ in range(6)]
            await soon(lambda: "victim" in answers, "the victim was never asked")
            victim.kill()
            await asyncio.gather(*tasks)
            victim.start()  # the context manager ends it

            assert len(answers) == 90
            assert set(answers) == {"victim", "a"}


async def test_a_blackholed_endpoint_costs_no_more_than_the_connect_timeout(grpc_servers: Servers) -> None:
    """Connecting to it is given up, and the call goes elsewhere, surely unsent: after its time it would not."""
    policy = Policy.standard().replace(per_try_timeout=None)
    addresses = [grpc_servers[0].address]
    with blackhole_port() as hole, service_over([*addresses, f"127.0.0.1:{hole}"], policy) as service:
        async with service.grpc_aio_channel() as channel:
            await asyncio.gather(*(pb_grpc.ProbeStub(channel).Unary(ping()) for _ in range(8)))
            assert service.view.cluster.members[f"127.0.0.1:{hole}"].started >= 1


async def test_a_stream_without_sign_of_life_is_cut_off_and_goes_elsewhere(grpc_servers: Servers) -> None:
    """The policy's time per try holds until the first message, and then no longer."""
    policy = Policy.standard().replace(per_try_timeout=1.0, idempotent=True)
    with GrpcServer("frozen") as frozen, service_over([frozen.address, grpc_servers[0].address], policy) as service:
        async with service.grpc_aio_channel() as channel:
            stub = pb_grpc.ProbeStub(channel)
            for _ in range(4):
                assert [m.number async for m in stub.ServerStream(ping(count=1))] == [0]
            member = service.view.cluster.members[frozen.address]
            before = member.started
            frozen.freeze()
            try:
                while member.started == before:
                    assert {m.server async for m in stub.ServerStream(ping(count=2))} == {"a"}
            finally:
                frozen.thaw()

            async def slow() -> AsyncIterator[Any]:
                yield ping("at once")
                await asyncio.sleep(1.1)
                yield ping("after the time of a try")

            assert [message.text async for message in stub.BidiStream(slow())] == ["at once", "after the time of a try"]


async def test_wait_for_ready_waits_for_a_server_to_come_up() -> None:
    """The call is held until somebody listens, then answered."""
    with GrpcServer("late") as late:
        late.kill()
        with service_over([late.address]) as service:
            async with service.grpc_aio_channel() as channel:
                call = pb_grpc.ProbeStub(channel).Unary(ping(), wait_for_ready=True, timeout=2 * PATIENCE)
                await asyncio.sleep(0.4)
                assert not call.done()
                await asyncio.to_thread(late.start)
                assert (await call).server == "late"


# -- time and cancelling -----------------------------------------------------------------------------------------------


async def test_the_deadline_of_the_context_ends_a_call(stub: pb_grpc.ProbeStub) -> None:
    """An ambient deadline shortens any timeout."""
    with deadline(0.3):
        call = stub.Unary(ping(), timeout=30, metadata=[("x-hang", "1")])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_spent_deadline_sends_nothing(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """The refusal is ours and gRPC's at once; the call itself is made without raising."""
    with deadline(0.0):
        call = stub.Unary(ping())
    with pytest.raises(svcmesh.DeadlineExceeded) as caught:
        await call

    assert isinstance(caught.value, grpc.aio.AioRpcError)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert started(service) == 0


async def test_cancelling_a_call(grpc_servers: Servers, service: Service, stub: pb_grpc.ProbeStub) -> None:
    """Awaiting raises CancelledError, the code is CANCELLED, the server sees it."""
    before, came = arrived(grpc_servers, "Unary.ended"), arrived(grpc_servers, "Unary")
    call = stub.Unary(ping(), metadata=[("x-hang", "1")])
    await soon(lambda: arrived(grpc_servers, "Unary") > came, "it did not arrive")

    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert call.cancelled()
    assert call.done()
    assert await call.code() is grpc.StatusCode.CANCELLED
    assert await call.details() == "Locally cancelled by application!"
    assert not call.cancel()
    await soon(lambda: arrived(grpc_servers, "Unary.ended") > before, "the server goes on")
    assert in_flight(service) == 0


@pytest.mark.parametrize("after", [0.0, 0.001, 0.05])
async def test_cancelling_the_task_that_awaits_cancels_the_call(service: Service, after: float) -> None:
    """At any moment; it is not repeated, and nothing stays in flight."""
    async with service.grpc_aio_channel() as channel:
        call = pb_grpc.ProbeStub(channel).Read(ping(), metadata=[("x-hang", "1")])

        async def wait() -> None:
            await call

        task = asyncio.create_task(wait())
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await call.code() is grpc.StatusCode.CANCELLED
        await soon(lambda: in_flight(service) == 0, "still in flight")
        assert started(service) == 1


async def test_cancelling_between_attempts_stops_the_next_one(grpc_servers: Servers) -> None:
    """A call that waits to be repeated is over at once."""
    with service_over([grpc_servers[0].address]) as service:
        async with service.grpc_aio_channel() as channel:
            asked = [*fails("UNAVAILABLE", -1), ("x-pushback", "5000")]
            call = pb_grpc.ProbeStub(channel).Read(ping(), metadata=asked)
            await soon(lambda: started(service) == 1 and in_flight(service) == 0, "the first attempt did not end")

            assert call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await call.code() is grpc.StatusCode.CANCELLED
            assert started(service) == 1


async def test_a_dropped_stream_is_cancelled(grpc_servers: Servers, service: Service, stub: pb_grpc.ProbeStub) -> None:
    """The server sees it, though gRPC itself would let it run."""
    before = arrived(grpc_servers, "ServerStream.ended")
    call = stub.ServerStream(ping(count=100_000), metadata=[("x-delay", "0.02")])
    await call.read()
    assert in_flight(service) == 1
    del call
    gc.collect()

    await soon(lambda: in_flight(service) == 0, "still in flight")
    await soon(lambda: arrived(grpc_servers, "ServerStream.ended") > before, "the server goes on")


async def one_at_first() -> AsyncIterator[Any]:
    """Yield a request, and wait for ever."""
    yield ping()
    await asyncio.Event().wait()


@pytest.mark.parametrize("requests", [None, one_at_first])
@pytest.mark.parametrize("reads", [False, True])
async def test_so_is_one_in_both_directions(
    service: Service, stub: pb_grpc.ProbeStub, requests: Any, reads: bool
) -> None:
    """Nothing of ours keeps it, and nothing goes on to wait for its requests."""
    call = stub.BidiStream(requests and requests())
    if requests is None:
        await call.write(ping())
    await soon(lambda: in_flight(service) == 1, "it has not begun")
    if reads:
        await call.read()
    del call
    gc.collect()

    await soon(lambda: in_flight(service) == 0, "still in flight")
    await soon(lambda: len(asyncio.all_tasks()) == 1, "somebody waits for its requests")


# -- the channel -------------------------------------------------------------------------------------------------------


async def test_closing_cancels_running_calls_and_refuses_new_ones(service: Service) -> None:
    """CancelledError for the one, UsageError for the others; twice is fine."""
    channel = service.grpc_aio_channel()
    stub = pb_grpc.ProbeStub(channel)
    call = stub.Unary(ping(), metadata=[("x-hang", "1")])
    await asyncio.sleep(0.05)
    await channel.close()

    with pytest.raises(asyncio.CancelledError):
        await call
    for start in (stub.Unary, stub.ServerStream):
        with pytest.raises(grpc.aio.UsageError, match="Channel is closed"):
            start(ping())
    await channel.close()
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_closing_with_grace_lets_running_calls_end(service: Service) -> None:
    """What ends in time ends well."""
    channel = service.grpc_aio_channel()
    call = pb_grpc.ProbeStub(channel).Unary(ping("done"), metadata=[("x-delay", "0.2")])
    await channel.close(grace=PATIENCE)

    assert (await call).text == "done"
    with pytest.raises(ValueError, match="non-negative"):
        await channel.close(grace=-1)


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_closing_with_grace_lets_them_be_repeated(grpc_servers: Servers, kind: str) -> None:
    """A call runs from its beginning to its end, and between two attempts, too."""
    again = Policy(idempotent=True, retry=Retry(wait=lambda _: 0.2, budget=None))
    with svcmesh.Mesh({"probe": [grpc_servers[0].address]}, policy=again) as mesh:
        service, waits = mesh.service("probe"), asyncio.Event()
        mesh.events.subscribe(lambda _: waits.set(), "retry.scheduled")
        channel = service.grpc_aio_channel()
        stub = pb_grpc.ProbeStub(channel)
        if kind == "unary":
            call: Any = stub.Unary(ping("done"), metadata=fails("UNAVAILABLE", 1))
        else:
            call = stub.ServerStream(ping("done", count=1), metadata=fails("UNAVAILABLE", 1))
        texts = asyncio.ensure_future(text_of(call) if kind == "unary" else texts_of(call))
        await asyncio.wait_for(waits.wait(), PATIENCE)
        await channel.close(grace=PATIENCE)

        assert (await texts)[0].startswith("done")
        assert in_flight(service) == 0


async def text_of(call: Any) -> list[str]:
    return [(await call).text]


async def texts_of(call: Any) -> list[str]:
    return [message.text async for message in call]


async def test_channel_ready_and_state_changes(service: Service) -> None:
    """Idle until somebody asks for a connection, then ready, then shut down."""
    channel = service.grpc_aio_channel()
    assert channel.get_state() is grpc.ChannelConnectivity.IDLE
    await asyncio.wait_for(channel.channel_ready(), PATIENCE)
    assert channel.get_state() is grpc.ChannelConnectivity.READY
    waiting = asyncio.create_task(channel.wait_for_state_change(grpc.ChannelConnectivity.READY))
    await asyncio.sleep(0)
    await channel.close()
    await asyncio.wait_for(waiting, PATIENCE)
    with pytest.raises(grpc.aio.UsageError):
        await channel.wait_for_state_change(grpc.ChannelConnectivity.SHUTDOWN)


def test_one_channel_serves_several_loops(grpc_servers: Servers) -> None:
    """Loops in threads at once, and one after the other; each gets connections of its own."""
    with service_over([server.address for server in grpc_servers]) as service:
        channel = service.grpc_aio_channel()
        stub = pb_grpc.ProbeStub(channel)
        answers: list[str] = []

        async def calls() -> None:
            answers.extend([(await stub.Unary(ping())).server for _ in range(10)])

        threads = [threading.Thread(target=lambda: asyncio.run(calls())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asyncio.run(calls())
        asyncio.run(channel.close())
        assert len(answers) == 30
