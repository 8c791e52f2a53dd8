"""The policy on blocking channels that are not ours: every kind of call, waited for or not, against real servers."""

from __future__ import annotations

import gc
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
import tenacity

from svcmesh import Abort, CircuitBreaker, CircuitOpen, ConfigError, Delay, Fault, Policy, Retry, deadline, info
from svcmesh.grpc import client_interceptors
from svcmesh.transport.grpc.interceptors import returns_at_once
from tests.servers import svcmesh_test_pb2 as pb
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer, refused_port
from tests.transport.grpc.kit import PATIENCE, eventually, ping

Servers = tuple[GrpcServer, GrpcServer]
RETRYING = Policy(idempotent=True, timeout=10, retry=Retry(wait=tenacity.wait_fixed(0.01)))

KINDS: dict[str, Callable[..., Any]] = {
    "unary": lambda stub, **kw: stub.Unary(ping("a"), **kw).text,
    "with_call": lambda stub, **kw: stub.Unary.with_call(ping("a"), **kw)[0].text,
    "future": lambda stub, **kw: stub.Unary.future(ping("a"), **kw).result().text,
    "server stream": lambda stub, **kw: "".join(pong.text for pong in stub.ServerStream(ping("a", 1), **kw)),
    "client stream": lambda stub, **kw: stub.ClientStream(iter([ping("a")]), **kw).text,
    "client stream future": lambda stub, **kw: stub.ClientStream.future(iter([ping("a")]), **kw).result().text,
    "bidi": lambda stub, **kw: "".join(pong.text for pong in stub.BidiStream(iter([ping("a")]), **kw)),
}


@pytest.fixture
def stub_with(grpc_servers: Servers) -> Iterator[Callable[..., Any]]:
    """Return what makes stubs of an intercepted stock channel to one server; the channel is closed at the end."""
    channels: list[grpc.Channel] = []

    def make(policy: Policy, *others: Any, address: str = grpc_servers[0].address) -> Any:
        channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        channels.append(channel)
        return pb_grpc.ProbeStub(grpc.intercept_channel(channel, *client_interceptors(policy), *others))

    yield make
    for channel in channels:
        channel.close()
    gc.collect()


def fails(times: int, code: str = "UNAVAILABLE", **more: str) -> list[tuple[str, str]]:
    extra = [(f"x-{key}", value) for key, value in more.items()]
    return [("x-fail", f"{code}:{times}"), ("x-id", uuid.uuid4().hex), *extra]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_call_is_repeated(stub_with: Any, kind: str) -> None:
    """Although what the interceptor goes on with never raises, and blocks in some cases and not in others."""
    stub = stub_with(RETRYING)

    assert KINDS[kind](stub) == "a"
    assert KINDS[kind](stub, metadata=fails(2, before="0.03")) == "a"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_call_ends_with_the_last_error_as_it_came(stub_with: Any, kind: str) -> None:
    """The stock error, that says how many attempts there were."""
    with pytest.raises(grpc.RpcError) as caught:
        KINDS[kind](stub_with(RETRYING), metadata=fails(-1, before="0.03"))

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not isinstance(caught.value, ConfigError)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_may_not_be_repeated_is_made_once(stub_with: Any, grpc_servers: Servers, kind: str) -> None:
    """Nothing says that it is idempotent."""
    name = {"server": "ServerStream", "client": "ClientStream", "bidi": "BidiStream"}.get(
        kind.partition(" ")[0], "Unary"
    )
    before = grpc_servers[0].count(name)
    with pytest.raises(grpc.RpcError):
        KINDS[kind](stub_with(RETRYING.replace(idempotent=False)), metadata=fails(1, before="0.03"))

    assert grpc_servers[0].count(name) == before + 1


def test_how_often_is_known_afterwards(stub_with: Any) -> None:
    """On errors, and on call objects."""
    stub = stub_with(RETRYING)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Unary(ping(), metadata=fails(-1))
    _, call = stub.Unary.with_call(ping(), metadata=fails(1))

    assert info(caught.value).attempts == 3
    assert info(call).attempts == 2
    assert call.code() is grpc.StatusCode.OK


def test_who_waits_gets_all_attempts_on_the_own_thread(stub_with: Any) -> None:
    """Interceptors further in see the caller's thread each time; futures return before their first attempt ends."""
    threads: list[threading.Thread] = []

    class Note(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation, client_call_details, request):
            threads.append(threading.current_thread())
            return continuation(client_call_details, request)

    stub = stub_with(RETRYING, Note())
    stub.Unary(ping(), metadata=fails(2))
    assert threads == [threading.current_thread()] * 3

    hanging = stub.Unary.future(ping(), metadata=[("x-hang", "1")])
    assert not hanging.done()
    hanging.cancel()
    assert stub.Unary.future(ping("later"), metadata=[("x-delay", "0.1")]).result().text == "later"


def test_the_name_that_tells_futures_from_waiting_callers(stub_with: Any) -> None:
    """It is gRPC's own; when another version has another one, this fails, and futures return late."""
    seen: list[bool] = []

    class Look(grpc.UnaryUnaryClientInterceptor, grpc.StreamUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation, client_call_details, request):
            seen.append(returns_at_once(continuation))
            return continuation(client_call_details, request)

        intercept_stream_unary = intercept_unary_unary

    stub = stub_with(Policy(), Look())
    stub.Unary(ping())
    stub.Unary.with_call(ping())
    stub.Unary.future(ping()).result()
    stub.ClientStream(iter([ping()]))
    stub.ClientStream.future(iter([ping()])).result()
    assert seen == [False, False, True, False, True]
    assert not returns_at_once(print)


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_s_timeout_and_the_ambient_deadline_end_calls(stub_with: Any, kind: str) -> None:
    """Whichever comes first, the caller's own included."""
    stub = stub_with(Policy(timeout=0.3))
    for shorter in (deadline(PATIENCE), deadline(0.2)):  # the server would hold them for longer than that
        with shorter, pytest.raises(grpc.RpcError) as caught:
            KINDS[kind](stub, metadata=[("x-hang", "1")])
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(grpc.RpcError):
        KINDS[kind](stub_with(Policy()), timeout=0.2, metadata=[("x-hang", "1")])


@pytest.mark.parametrize("kind", KINDS)
def test_the_breaker_opens_and_is_an_rpc_error(stub_with: Any, kind: str) -> None:
    """It counts statuses, which a breaker that trusted to exceptions of the continuation would call successes."""
    stub = stub_with(Policy(circuit_breaker=CircuitBreaker(consecutive=2, failure_rate=None, open_for=60)))
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as caught:
            KINDS[kind](stub, metadata=fails(-1, before="0.03"))
        assert not isinstance(caught.value, CircuitOpen)
    with pytest.raises(CircuitOpen) as refused:
        KINDS[kind](stub)

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refused.value.retry_after > 50


@pytest.mark.parametrize("kind", KINDS)
def test_faults_are_injected(stub_with: Any, kind: str) -> None:
    """As a status that no server sent, after a delay."""
    fault = Fault(abort=Abort("DATA_LOSS"), delay=Delay(0.05), percent=100)
    with pytest.raises(grpc.RpcError) as caught:
        KINDS[kind](stub_with(Policy(faults=(fault,))))

    assert caught.value.code() is grpc.StatusCode.DATA_LOSS


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_connection_ends_what_is_not_idempotent(stub_with: Any, kind: str) -> None:
    """With gRPC's own error: a server might say the same, and a channel that is not ours cannot be asked."""
    with refused_port() as port, pytest.raises(grpc.RpcError) as caught:
        KINDS[kind](stub_with(RETRYING.replace(idempotent=False), address=f"127.0.0.1:{port}"))

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert info(caught.value).reason == "UNAVAILABLE; not-idempotent"


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_channel_is_the_caller_s_own_error(grpc_servers: Servers, kind: str) -> None:
    """In gRPC's words, at once, and without a second attempt."""
    tries: list[object] = []
    channel = grpc.insecure_channel(grpc_servers[0].address)
    intercepted = grpc.intercept_channel(channel, *client_interceptors(RETRYING), _counting(tries))
    channel.close()
    with pytest.raises(ValueError, match="Cannot invoke RPC"):
        KINDS[kind](Generic(intercepted))

    assert len(tries) == 1


class Generic:
    """A stub without registered methods: grpcio 1.85 crashes when it is asked for those of a closed channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        serializer, deserializer = pb.Ping.SerializeToString, pb.Pong.FromString
        self.Unary = channel.unary_unary("/svcmesh.test.Probe/Unary", serializer, deserializer)
        self.ServerStream = channel.unary_stream("/svcmesh.test.Probe/ServerStream", serializer, deserializer)
        self.ClientStream = channel.stream_unary("/svcmesh.test.Probe/ClientStream", serializer, deserializer)
        self.BidiStream = channel.stream_stream("/svcmesh.test.Probe/BidiStream", serializer, deserializer)


def _counting(tries: list[object]) -> Any:
    class Count(
        grpc.UnaryUnaryClientInterceptor,
        grpc.UnaryStreamClientInterceptor,
        grpc.StreamUnaryClientInterceptor,
        grpc.StreamStreamClientInterceptor,
    ):
        def intercept_unary_unary(self, continuation, client_call_details, request):
            tries.append(client_call_details)
            return continuation(client_call_details, request)

        intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = intercept_unary_unary

    return Count()


def test_a_stream_is_not_repeated_once_it_began(stub_with: Any) -> None:
    """What was handed out stays true; and a dropped stream ends at the server."""
    stub = stub_with(RETRYING)
    numbers: list[int] = []
    with pytest.raises(grpc.RpcError):
        numbers.extend(
            pong.number for pong in stub.ServerStream(ping("a", 5), metadata=[("x-fail-at", "UNAVAILABLE:2")])
        )
    assert numbers in ([], [0, 1])

    dropped = stub.ServerStream(ping("a", 100_000), metadata=[("x-delay", "0.01")])
    next(dropped)
    assert dropped.is_active()
    assert dropped.cancel()


def test_messages_that_change_under_the_hand_are_sent_as_they_were(stub_with: Any) -> None:
    """Callers like to yield one object many times over; a repeated call sends it as it was each time."""

    def same() -> Iterator[Any]:
        message = ping()
        for text in ("one", "two", "three"):
            message.text = text
            yield message

    assert stub_with(RETRYING).ClientStream(same(), metadata=fails(1, before="0.05")).text == "one,two,three"


def test_they_stack_with_other_interceptors_and_pass_everything_on(grpc_servers: Servers) -> None:
    """What one further out changes arrives further in, with the time that is left; what it lacks, gRPC fills in."""
    seen: list[Any] = []

    class Strange(grpc.ClientCallDetails):
        def __init__(self, details: Any) -> None:
            self.method, self.metadata = details.method, (("x-tenant", "blue"),)

    class Outer(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation, client_call_details, request):
            return continuation(Strange(client_call_details), request)

    class Inner(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation, client_call_details, request):
            seen.append((client_call_details.metadata, 0 < client_call_details.timeout <= 10))
            return continuation(client_call_details, request)

    ours = client_interceptors(RETRYING)
    with grpc.insecure_channel(grpc_servers[0].address) as channel:
        stub = pb_grpc.ProbeStub(grpc.intercept_channel(channel, Outer(), *ours, Inner()))
        assert stub.Unary(ping("through")).text == "through"
        assert stub.Unary.future(ping("through")).result().text == "through"
    assert seen == [((("x-tenant", "blue"),), True)] * 2


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="policy"):
        client_interceptors(None)  # type: ignore[arg-type]


def test_their_worker_ends_with_them(grpc_servers: Servers) -> None:
    """It starts at the first pause of a call that nobody waits for."""

    def workers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "svcmesh-worker"}

    before = workers()
    with grpc.insecure_channel(grpc_servers[0].address) as channel:
        stub = pb_grpc.ProbeStub(grpc.intercept_channel(channel, *client_interceptors(RETRYING)))
        assert stub.Unary(ping("a"), metadata=fails(1)).text == "a"
        assert workers() == before
        assert stub.Unary.future(ping("a"), metadata=fails(1)).result().text == "a"
        assert len(workers() - before) == 1
    del stub, channel
    gc.collect()
    eventually(lambda: workers() == before, "the worker is still there")
