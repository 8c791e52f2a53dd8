"""An attempt that has ended lets go of whoever waits for it, also where gRPC tells of its end and of nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, Self

import grpc
import grpc.experimental
import h2.config
import h2.connection
import h2.events
import pytest
from hyperframe.frame import GoAwayFrame

from svcmesh.balance import PickFirst
from svcmesh.policy.policy import Policy
from svcmesh.policy.retry import Retry
from svcmesh.transport.grpc.interceptors import client_interceptors
from svcmesh.transport.grpc.leg import Leg
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import PATIENCE, ping, service_over

Servers = tuple[GrpcServer, GrpcServer]
Start = Callable[[Any], Any]
Ask = Callable[[Any], Any]

POLICY = Policy(retry=Retry(budget=None), load_balancer=PickFirst())
SINGLE_THREADED = [(grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)]
STREAMS: dict[str, Start] = {
    "unary_stream": lambda stub: stub.ServerStream(ping("a", 1)),
    "stream_stream": lambda stub: stub.BidiStream(iter([ping("a")])),
}
QUESTIONS: dict[str, Ask] = {"next": next, "initial_metadata": lambda call: call.initial_metadata()}


class Leaver:
    """A server that takes one request, stops listening, and then says that it has not looked at the request.

    gRPC repeats such a request by itself. Its channel has seen by then that nobody listens any more, so the repetition
    fails before it has begun. That is when grpcio 1.85 tells of the call's status and of none of its reads.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._left, self._disown = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._disown.set()
        self._thread.join(PATIENCE)

    def wait_left(self) -> None:
        """Wait until nobody listens any more; the request goes on."""
        assert self._left.wait(PATIENCE)

    def disown(self) -> None:
        """Tell the client that the request was not looked at."""
        self._disown.set()

    def _run(self) -> None:
        with self._listener:
            client, _ = self._listener.accept()
        with client, contextlib.suppress(OSError):
            stream = self._request(client)
            client.sendall(GoAwayFrame(last_stream_id=stream).serialize())
            self._left.set()
            self._disown.wait(PATIENCE)
            client.sendall(GoAwayFrame(last_stream_id=0).serialize())
            while client.recv(65536):
                pass

    def _request(self, client: socket.socket) -> int:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        while True:
            client.sendall(connection.data_to_send())
            for event in connection.receive_data(client.recv(65536)):
                if isinstance(event, h2.events.RequestReceived) and event.stream_id is not None:
                    return event.stream_id


class Below:
    """What has a `cancel` of its own."""

    def cancel(self) -> bool:
        """Take no arguments, unlike gRPC's."""
        raise AssertionError


@pytest.fixture
def leaver() -> Iterator[Leaver]:
    with Leaver() as found:
        yield found


@pytest.fixture
def waiter() -> Iterator[ThreadPoolExecutor]:
    """A thread for whoever is to wait; it ends when the channel is closed, if not before."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def probe(channel: Any) -> Any:
    """Return a stub."""
    return pb_grpc.ProbeStub(channel)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("options", [None, SINGLE_THREADED], ids=["many threads", "single-threaded"])
@pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize("start", STREAMS.values(), ids=STREAMS)
def test_whoever_waits_for_an_attempt_goes_on_with_the_next(
    grpc_servers: Servers, leaver: Leaver, waiter: ThreadPoolExecutor, start: Start, ask: Ask, options: Any
) -> None:
    """The second attempt goes to a server that answers, and its answer reaches who waited for the first one's."""
    addresses = [leaver.address, grpc_servers[0].address]
    with service_over(addresses, POLICY) as service, service.grpc_channel(options=options) as channel:
        call = start(probe(channel))
        waiting = waiter.submit(ask, call)
        leaver.wait_left()
        probe(channel).Unary(ping())  # finds nobody at the first endpoint, and is answered by the second
        leaver.disown()
        waiting.result(PATIENCE)
        assert [message.text for message in call] == ([] if ask is next else ["a"])
        assert call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize("start", STREAMS.values(), ids=STREAMS)
def test_whoever_waits_on_a_channel_of_somebody_elses_sees_the_error(
    leaver: Leaver, waiter: ThreadPoolExecutor, start: Start, ask: Ask
) -> None:
    """Our interceptors know the stock call as well; there is nobody else to ask, so that the call ends."""
    with grpc.insecure_channel(leaver.address) as stock:
        call = start(probe(grpc.intercept_channel(stock, *client_interceptors(Policy()))))
        waiting = waiter.submit(ask, call)
        leaver.wait_left()
        with pytest.raises(grpc.RpcError):
            probe(stock).Unary(ping())
        leaver.disown()
        with contextlib.suppress(grpc.RpcError):  # a question for metadata has an answer even so
            waiting.result(PATIENCE)
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        assert call.initial_metadata() == ()


@pytest.mark.parametrize("start", STREAMS.values(), ids=STREAMS)
async def test_asyncio_calls_go_on_with_the_next(grpc_servers: Servers, leaver: Leaver, start: Start) -> None:
    """There gRPC tells of everything; if that changes, this is where it is seen."""
    with service_over([leaver.address, grpc_servers[0].address], POLICY) as service:
        async with service.grpc_aio_channel() as channel:
            call = start(probe(channel))
            waiting = asyncio.ensure_future(call.read())
            await asyncio.to_thread(leaver.wait_left)
            await probe(channel).Unary(ping())
            leaver.disown()
            assert (await asyncio.wait_for(waiting, PATIENCE)).text == "a"


@pytest.mark.parametrize("below", [Below(), object(), None], ids=["other arguments", "no cancel", "nothing"])
def test_a_call_that_is_no_stock_one_is_left_alone(below: object) -> None:
    """What wraps a stock call, or a later grpcio, may have anything under the name that we look at."""
    account: Any = None
    stock = SimpleNamespace(_call=below)
    Leg(stock, account).release()
    assert stock._call is below


class Odd(grpc.RpcError):
    """A call object of somebody's interceptor that cannot be asked how it ended."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self._stock = call

    def __next__(self) -> Any:
        """Go on to the stock call."""
        return next(self._stock)

    def details(self) -> str:
        """Fail."""
        raise RuntimeError("no details here")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stock, name)


class Wrapping(grpc.UnaryStreamClientInterceptor):
    """Somebody's interceptor, below ours."""

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Return what wraps the stock call."""
        return Odd(continuation(client_call_details, request))


def test_a_call_that_cannot_be_asked_how_it_ended_ends(grpc_servers: Servers, waiter: ThreadPoolExecutor) -> None:
    """What an attempt raises when it is asked is the end of the call, instead of a wait for one."""
    with grpc.insecure_channel(grpc_servers[0].address) as stock:
        channel = grpc.intercept_channel(stock, *client_interceptors(Policy()), Wrapping())
        call = probe(channel).ServerStream(ping(), metadata=[("x-fail", "NOT_FOUND:-1")])
        try:
            with pytest.raises(grpc.RpcError, match="no details here"):
                waiter.submit(next, call).result(PATIENCE)
        finally:
            call.cancel()
