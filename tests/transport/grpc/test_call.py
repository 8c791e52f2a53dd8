"""Futures and streams of the sync channel, against real servers."""

from __future__ import annotations

import gc
import queue
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.experimental
import pytest

import svcmesh
from svcmesh import Delay, Fault
from svcmesh.policy.policy import Policy
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer, refused_port
from tests.transport.grpc.kit import PATIENCE, eventually, in_flight, ping, service_over, started

Servers = tuple[GrpcServer, GrpcServer]


@pytest.fixture
def service(grpc_servers: Servers) -> Iterator[Service]:
    with service_over([server.address for server in grpc_servers]) as found:
        yield found


@pytest.fixture
def stub(service: Service) -> Iterator[pb_grpc.ProbeStub]:
    with service.grpc_channel() as channel:
        yield pb_grpc.ProbeStub(channel)


def fails(code: str, times: int) -> list[tuple[str, str]]:
    return [("x-fail", f"{code}:{times}"), ("x-id", uuid.uuid4().hex)]


def ended(servers: Servers, method: str) -> int:
    return sum(server.count(f"{method}.ended") for server in servers)


# -- futures -----------------------------------------------------------------------------------------------------------


def test_a_future_returns_at_once_and_has_the_response_later(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """Nothing is waited for before `result`; afterwards every question has its answer."""
    hanging = stub.Unary.future(ping(), metadata=[("x-hang", "1")])
    assert hanging.running()
    assert not hanging.done()
    with pytest.raises(grpc.FutureTimeoutError):
        hanging.result(timeout=0.01)
    hanging.cancel()

    call = stub.Unary.future(ping("later"), metadata=[("x-delay", "0.1")])
    assert call.result(timeout=PATIENCE).text == "later"
    assert call.done()
    assert call.exception() is None
    assert call.traceback() is None
    assert call.code() is grpc.StatusCode.OK
    assert dict(call.trailing_metadata())["x-server"] in {"a", "b"}
    assert svcmesh.info(call) is None  # a success at once has no story
    assert in_flight(service) == 0


def test_a_future_is_repeated_by_callback(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """Nobody waits, and yet a second attempt is made; done callbacks get our call, once."""
    seen: list[Any] = []
    call = stub.Read.future(ping("again"), metadata=fails("UNAVAILABLE", 1))
    call.add_done_callback(seen.append)

    eventually(lambda: bool(seen), "the callback was not called")
    assert seen == [call]
    assert call.result().text == "again"
    assert started(service) in {2, 3}  # each server counts its own failures
    told = svcmesh.info(call)
    assert told is not None
    assert (told.attempts, told.reason) == (started(service), "")


def test_done_callbacks_keep_a_dropped_future_going(stub: pb_grpc.ProbeStub) -> None:
    """Whoever leaves a callback wants the answer, through retries too."""
    codes: list[Any] = []
    stub.Read.future(ping(), metadata=[*fails("UNAVAILABLE", 1), ("x-delay", "0.1")]).add_done_callback(
        lambda call: codes.append(call.code())
    )
    gc.collect()

    eventually(lambda: bool(codes), "the callback was not called")
    assert codes == [grpc.StatusCode.OK]


def test_a_callback_that_raises_is_logged_and_keeps_no_other_from_being_called(
    stub: pb_grpc.ProbeStub, caplog: pytest.LogCaptureFixture
) -> None:
    """As on the stock channel."""
    seen: list[Any] = []
    call = stub.Unary.future(ping(), metadata=[("x-hang", "1")])
    call.add_done_callback(lambda _: 1 // 0)
    call.add_done_callback(seen.append)
    call.cancel()

    eventually(lambda: bool(seen), "the second callback was not called")
    assert "ZeroDivisionError" in caplog.text


def test_the_error_of_a_future_is_the_stock_one(stub: pb_grpc.ProbeStub) -> None:
    """It is raised by `result`, returned by `exception`, and is a call itself."""
    call = stub.Unary.future(ping(), metadata=fails("UNAVAILABLE", -1))

    with pytest.raises(grpc.RpcError) as caught:
        call.result()
    assert caught.value is call.exception()
    assert caught.value.code() is call.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == call.details() == "asked to fail: 1"
    assert not call.cancelled()


def test_cancelling_a_future_reaches_the_server(
    grpc_servers: Servers, service: Service, stub: pb_grpc.ProbeStub
) -> None:
    """`result` raises FutureCancelledError, the code is CANCELLED, the server sees it, nothing stays in flight."""
    before = ended(grpc_servers, "Unary")
    call = stub.Unary.future(ping(), metadata=[("x-hang", "1")])
    eventually(lambda: sum(server.count("Unary") for server in grpc_servers) > before, "it did not arrive")

    assert call.cancel()
    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    assert call.cancelled()
    assert call.code() is grpc.StatusCode.CANCELLED
    assert call.details() == "Locally cancelled by application!"
    assert not call.cancel()
    eventually(lambda: ended(grpc_servers, "Unary") > before, "the server goes on")
    eventually(lambda: in_flight(service) == 0, "still in flight")


def test_cancelling_between_attempts_stops_the_next_one(grpc_servers: Servers) -> None:
    """A call that waits to be repeated is over at once."""
    with service_over([grpc_servers[0].address]) as service, service.grpc_channel() as channel:
        call = pb_grpc.ProbeStub(channel).Read.future(
            ping(), metadata=[*fails("UNAVAILABLE", -1), ("x-pushback", "5000")]
        )
        eventually(lambda: started(service) == 1 and in_flight(service) == 0, "the first attempt did not end")

        assert call.cancel()
        with pytest.raises(grpc.FutureCancelledError):
            call.result(timeout=PATIENCE)
        assert call.code() is grpc.StatusCode.CANCELLED
        assert started(service) == 1


@pytest.mark.parametrize("delayed", [True, False])
@pytest.mark.parametrize("kind", ["future", "stream"])
def test_who_cancels_is_told_at_once_how_far_the_call_had_come(grpc_servers: Servers, kind: str, delayed: bool) -> None:
    """Before its first attempt, which a fault delays here, and while it is under way."""
    fault = Fault(delay=Delay(PATIENCE), percent=100.0 if delayed else 0.0)
    with (
        service_over([grpc_servers[0].address], Policy(faults=[fault])) as service,
        service.grpc_channel() as channel,
    ):
        stub = pb_grpc.ProbeStub(channel)
        make = stub.Unary.future if kind == "future" else stub.ServerStream
        call = make(ping(), metadata=[("x-hang", "1")])
        call.cancel()
        told = svcmesh.info(call)
        assert told is not None
        assert (told.attempts, told.reason) == (0 if delayed else 1, "cancelled")


def test_a_dropped_future_is_cancelled(grpc_servers: Servers) -> None:
    """As on the stock channel, a call that nobody refers to ends; nothing else would end this one within a minute."""
    with service_over([s.address for s in grpc_servers], Policy()) as service, service.grpc_channel() as channel:
        before = sum(server.count("Unary") for server in grpc_servers)
        call = pb_grpc.ProbeStub(channel).Unary.future(ping(), metadata=[("x-hang", "1")])
        eventually(lambda: sum(server.count("Unary") for server in grpc_servers) > before, "it did not arrive")
        del call

        eventually(lambda: in_flight(service) == 0, "still in flight")


def test_a_future_without_endpoint_fails_as_an_rpc_does() -> None:
    """Our own refusal answers like a call."""
    with refused_port() as dead, service_over([f"127.0.0.1:{dead}"]) as service, service.grpc_channel() as channel:
        call = pb_grpc.ProbeStub(channel).Unary.future(ping())
        assert call.exception(timeout=PATIENCE).code() is grpc.StatusCode.UNAVAILABLE
        assert call.code() is grpc.StatusCode.UNAVAILABLE


# -- streamed responses ------------------------------------------------------------------------------------------------


def test_a_stream_stays_in_flight_until_it_ends(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """Its load counts as long as the server works on it."""
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    requests.put(ping())
    call = stub.BidiStream(iter(requests.get, None))
    assert next(call).number == 0
    assert in_flight(service) == 1
    for request in (ping(), ping(), None):
        requests.put(request)
    assert [message.number for message in call] == [1, 2]
    assert in_flight(service) == 0
    assert call.code() is grpc.StatusCode.OK
    with pytest.raises(StopIteration):
        next(call)


def test_a_stream_is_repeated_before_its_first_message(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """Unsent goes elsewhere; nothing was handed out yet, so nobody notices."""
    with (
        refused_port() as dead,
        service_over([f"127.0.0.1:{dead}", *service.view.cluster.members]) as three,
        three.grpc_channel() as channel,
    ):
        other = pb_grpc.ProbeStub(channel)
        for _ in range(12):
            assert [m.number for m in other.ServerStream(ping(count=2))] == [0, 1]
        assert three.view.cluster.members[f"127.0.0.1:{dead}"].started >= 1


def test_an_idempotent_stream_is_repeated_after_a_status(grpc_servers: Servers) -> None:
    """UNAVAILABLE before the first message leads to another attempt."""
    policy = Policy.standard().replace(idempotent=True)
    with service_over([s.address for s in grpc_servers], policy) as service, service.grpc_channel() as channel:
        messages = pb_grpc.ProbeStub(channel).ServerStream(ping(count=2), metadata=fails("UNAVAILABLE", 1))
        assert [message.number for message in messages] == [0, 1]
        assert started(service) in {2, 3}  # each server counts its own failures


def test_a_stream_is_not_repeated_after_its_first_message(grpc_servers: Servers) -> None:
    """What was handed out cannot be taken back: the error comes through, and the endpoint is blamed for it."""
    policy = Policy.standard().replace(idempotent=True)
    with service_over([s.address for s in grpc_servers], policy) as service, service.grpc_channel() as channel:
        call = pb_grpc.ProbeStub(channel).ServerStream(ping(count=5), metadata=[("x-fail-at", "UNAVAILABLE:2")])
        assert [next(call).number, next(call).number] == [0, 1]
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.details() == "asked to fail at 2"
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        assert (started(service), in_flight(service)) == (1, 0)
        assert sum(member.unsuccessful for member in service.view.cluster.members.values()) == 1
        for broken in (caught.value, call):
            told = svcmesh.info(broken)
            assert told is not None
            assert (told.attempts, told.reason) == (1, "UNAVAILABLE; answer-begun")
            assert told.elapsed > 0


def test_handing_out_the_initial_metadata_commits_a_stream(grpc_servers: Servers) -> None:
    """Their owner may have acted on them: no second attempt, though no message had come."""
    policy = Policy.standard().replace(idempotent=True)
    with service_over([s.address for s in grpc_servers], policy) as service, service.grpc_channel() as channel:
        asked = [("x-early", "1"), ("x-delay", "0.3"), ("x-fail-at", "UNAVAILABLE:1")]
        call = pb_grpc.ProbeStub(channel).ServerStream(ping(count=3), metadata=asked)
        assert dict(call.initial_metadata())["x-server"] in {"a", "b"}
        with pytest.raises(grpc.RpcError):
            list(call)
        assert started(service) == 1


def test_a_half_read_stream_that_is_dropped_ends_at_the_server(
    grpc_servers: Servers, service: Service, stub: pb_grpc.ProbeStub
) -> None:
    """The server sees the cancellation, and nothing is in flight."""
    before = ended(grpc_servers, "ServerStream")
    call = stub.ServerStream(ping(count=100_000), metadata=[("x-delay", "0.02")])
    next(call)
    assert in_flight(service) == 1
    del call

    eventually(lambda: in_flight(service) == 0, "still in flight")
    eventually(lambda: ended(grpc_servers, "ServerStream") > before, "the server goes on")


def test_cancelling_a_stream_ends_it(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """The iterator raises CANCELLED, also for who is waiting in it."""
    call = stub.ServerStream(ping(count=100_000), metadata=[("x-delay", "0.02")])
    next(call)
    timer = threading.Timer(0.1, call.cancel)
    timer.start()
    with pytest.raises(grpc.RpcError) as caught:
        for _ in call:
            pass
    timer.join()

    assert caught.value.code() is grpc.StatusCode.CANCELLED
    assert call.cancelled()


def test_a_stream_without_sign_of_life_is_cut_off_and_goes_elsewhere(grpc_servers: Servers) -> None:
    """The policy's time per try holds until the first message, then no longer."""
    policy = Policy.standard().replace(per_try_timeout=1.0, idempotent=True)
    with (
        GrpcServer("frozen") as frozen,
        service_over([frozen.address, grpc_servers[0].address], policy) as service,
        service.grpc_channel() as channel,
    ):
        stub = pb_grpc.ProbeStub(channel)
        for _ in range(4):
            list(stub.ServerStream(ping(count=1)))
        member = service.view.cluster.members[frozen.address]
        before = member.started
        frozen.freeze()
        try:
            while member.started == before:
                assert {m.server for m in stub.ServerStream(ping(count=2))} == {"a"}
        finally:
            frozen.thaw()

        def requests() -> Iterator[Any]:
            yield ping("at once")
            threading.Event().wait(1.1)
            yield ping("after the time of a try")

        assert [message.text for message in stub.BidiStream(requests())] == ["at once", "after the time of a try"]


def test_a_timeout_of_the_caller_ends_a_stream_to_its_last_message(stub: pb_grpc.ProbeStub) -> None:
    """An explicit timeout is the stream's own, as on the stock channel."""
    call = stub.ServerStream(ping(count=1000), timeout=0.5, metadata=[("x-delay", "0.05")])
    with pytest.raises(grpc.RpcError) as caught:
        list(call)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_single_threaded_option_reaches_the_endpoint(grpc_servers: Servers) -> None:
    """Streams run on the thread that reads them; what would block for ever says so."""
    option = grpc.experimental.ChannelOptions.SingleThreadedUnaryStream
    with service_over([grpc_servers[0].address]) as service, service.grpc_channel(options=[(option, 1)]) as channel:
        call = pb_grpc.ProbeStub(channel).ServerStream(ping(count=3))
        with pytest.raises(grpc.experimental.UsageError):
            call.code()
        assert [message.number for message in call] == [0, 1, 2]
        assert call.code() is grpc.StatusCode.OK


@pytest.mark.allow_leaks("a stock channel, too, keeps the connection of such a stream that nobody read to its end")
@pytest.mark.parametrize("cancels", [False, True])
def test_a_single_threaded_stream_is_in_flight_until_it_is_dropped(grpc_servers: Servers, cancels: bool) -> None:
    """Only who iterates is told of its end by gRPC."""
    option = grpc.experimental.ChannelOptions.SingleThreadedUnaryStream
    with service_over([grpc_servers[0].address]) as service, service.grpc_channel(options=[(option, 1)]) as channel:
        call = pb_grpc.ProbeStub(channel).ServerStream(ping(count=1000))
        assert next(call).number == 0
        if cancels:
            call.cancel()
        assert in_flight(service) == 1
        del call
        assert in_flight(service) == 0


# -- streams both ways -------------------------------------------------------------------------------------------------


def test_messages_go_both_ways(service: Service, stub: pb_grpc.ProbeStub) -> None:
    """Each answer comes before the next request is made."""
    answered = threading.Semaphore(1)

    def requests() -> Iterator[Any]:
        for number in range(5):
            assert answered.acquire(timeout=PATIENCE)
            yield ping(str(number))

    texts = []
    for message in stub.BidiStream(requests()):
        texts.append(message.text)
        answered.release()

    assert texts == list("01234")
    assert in_flight(service) == 0


def test_a_bidirectional_stream_goes_elsewhere_when_unsent(grpc_servers: Servers) -> None:
    """The requests read meanwhile are sent again."""
    with (
        refused_port() as dead,
        service_over([grpc_servers[0].address, f"127.0.0.1:{dead}"]) as service,
        service.grpc_channel() as channel,
    ):
        stub = pb_grpc.ProbeStub(channel)
        for _ in range(10):
            assert [m.text for m in stub.BidiStream(iter([ping("a"), ping("b")]))] == ["a", "b"]


def test_a_killed_server_ends_its_streams(grpc_servers: Servers) -> None:
    """Committed streams fail with UNAVAILABLE; nothing stays in flight."""
    with GrpcServer("victim") as victim, service_over([victim.address]) as service, service.grpc_channel() as channel:
        call = pb_grpc.ProbeStub(channel).ServerStream(ping(count=1000), metadata=[("x-delay", "0.02")])
        next(call)
        victim.kill()
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        victim.start()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert in_flight(service) == 0
