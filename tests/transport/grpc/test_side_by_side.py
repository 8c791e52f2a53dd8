"""The stock channel and ours, asked the same: same result or class of error, code, details and metadata.

Both talk to one server, so that whatever differs is ours.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import pytest

from svcmesh.core.info import info
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import PATIENCE, in_flight, ping, service_over

Servers = tuple[GrpcServer, GrpcServer]
KINDS = ["unary", "with_call", "future", "server stream", "client stream", "client stream future", "bidi"]
ENDS: dict[str, dict[str, Any]] = {
    "ok": {},
    "error": {"metadata": [("x-fail", "NOT_FOUND:-1")]},
    "unavailable": {"metadata": [("x-fail", "UNAVAILABLE:-1")]},
    "deadline": {"timeout": 0.2, "metadata": [("x-hang", "1")]},
    "no time at all": {"timeout": -1},
    "bad metadata": {"metadata": [("Bad Key", "1")]},
}


@pytest.fixture
def service(grpc_servers: Servers) -> Iterator[Service]:
    with service_over([grpc_servers[0].address]) as found:
        yield found


@pytest.fixture
def stubs(grpc_servers: Servers, service: Service) -> Iterator[tuple[Any, Any]]:
    with grpc.insecure_channel(grpc_servers[0].address) as stock, service.grpc_channel() as mesh:
        yield pb_grpc.ProbeStub(stock), pb_grpc.ProbeStub(mesh)


def arguments_for(end: str) -> dict[str, Any]:
    """Return the arguments of a call that ends so; each has an id of its own, so that servers count from one."""
    arguments = dict(ENDS[end])
    if "x-fail" in str(arguments):
        arguments["metadata"] = [*arguments["metadata"], ("x-id", uuid.uuid4().hex), ("x-before", "0.03")]
    return arguments


def call(stub: Any, kind: str, **arguments: Any) -> Any:
    """Make a call of this kind and return its result."""
    if kind == "unary":
        return stub.Unary(ping("one"), **arguments)
    if kind == "with_call":
        return stub.Unary.with_call(ping("one"), **arguments)[0]
    if kind == "future":
        return stub.Unary.future(ping("one"), **arguments).result()
    if kind == "server stream":
        return list(stub.ServerStream(ping("one", 3), **arguments))
    if kind == "client stream":
        return stub.ClientStream(iter([ping("one"), ping("two")]), **arguments)
    if kind == "client stream with_call":
        return stub.ClientStream.with_call(iter([ping("one"), ping("two")]), **arguments)[0]
    if kind == "client stream future":
        return stub.ClientStream.future(iter([ping("one"), ping("two")]), **arguments).result()
    return list(stub.BidiStream(iter([ping("one"), ping("two")]), **arguments))


def story(make: Callable[[], Any]) -> tuple[Any, ...]:
    """Return all that a caller can see of a call's end."""
    try:
        return ("result", make())
    except grpc.RpcError as error:
        known: Any = error
        return (
            isinstance(error, grpc.Call),
            isinstance(error, grpc.Future),
            known.code(),
            str(known.details()).replace("Stream removed (Deadline Exceeded)", "Deadline Exceeded"),  # gRPC says either
            tuple(known.initial_metadata() or ()),
            tuple(known.trailing_metadata() or ()),
        )
    except Exception as error:  # noqa: BLE001 - the class is what is compared
        return (type(error), str(error))


def details_apart(told: tuple[Any, ...], end: str) -> tuple[Any, ...]:
    """Leave out the words where ours say more: a call without any time is refused before it is sent."""
    return told if end != "no time at all" else tuple(part for part in told if not isinstance(part, str))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ENDS)
def test_calls_end_alike(service: Service, stubs: tuple[Any, Any], kind: str, end: str) -> None:
    """Whatever kind of call, however it ends."""
    stock, mesh = (story(lambda stub=stub: call(stub, kind, **arguments_for(end))) for stub in stubs)

    assert details_apart(mesh, end) == details_apart(stock, end)
    if end in {"ok", "error", "unavailable"}:
        assert in_flight(service) == 0


@pytest.mark.parametrize("kind", [*KINDS, "client stream with_call"])
@pytest.mark.parametrize("end", ["error", "unavailable", "deadline"])
def test_errors_are_of_the_stock_classes(stubs: tuple[Any, Any], kind: str, end: str) -> None:
    """Even those that are private to gRPC; and ours know the story of the call besides."""
    classes: list[type] = []
    for stub in stubs:
        with pytest.raises(grpc.RpcError) as caught:
            call(stub, kind, **arguments_for(end))
        classes.append(type(caught.value))

    assert classes[0] is classes[1]
    assert info(caught.value) is not None
    if kind.startswith("client stream"):
        assert caught.value.__context__ is None  # one error has one form


@pytest.mark.parametrize("ask", [str, repr])
def test_a_call_that_is_over_reads_as_the_stock_one(stubs: tuple[Any, Any], ask: Callable[[Any], str]) -> None:
    """Tests and logs look for the words; what follows them is different for each connection."""
    told = []
    for stub in stubs:
        for ends in ({}, arguments_for("error")):
            running = stub.ServerStream(ping("one", 1), **ends)
            with suppress(grpc.RpcError):
                list(running)
            told.append(ask(running).partition("debug_error_string")[0])

    assert told[2:] == told[:2]
    assert "of RPC that terminated with:\n\tstatus = StatusCode.NOT_FOUND" in told[3]


@pytest.mark.parametrize("kind", ["future", "server stream", "client stream future", "bidi"])
def test_cancelled_calls_end_alike(stubs: tuple[Any, Any], kind: str) -> None:
    """Code, details, what `result` raises, and what cancelling again says."""

    def cancelled(stub: Any) -> Any:
        hang = [("x-hang", "1")]
        if kind == "future":
            running = stub.Unary.future(ping(), metadata=hang)
        elif kind == "server stream":
            running = stub.ServerStream(ping(), metadata=hang)
        elif kind == "client stream future":
            running = stub.ClientStream.future(iter([]), metadata=hang)
        else:
            running = stub.BidiStream(iter([]), metadata=hang)
        time.sleep(0.05)
        running.cancel()
        told = [running.code(), running.details(), running.cancelled(), running.done(), running.running()]
        for ask in (running.result, running.exception, running.traceback):
            with pytest.raises(grpc.FutureCancelledError):
                ask()
        return told

    assert cancelled(stubs[1]) == cancelled(stubs[0])


@pytest.mark.parametrize("kind", ["future", "server stream", "client stream future", "bidi"])
def test_finished_calls_answer_alike(stubs: tuple[Any, Any], kind: str) -> None:
    """Every question that a call object can be asked."""

    def answers(stub: Any) -> Any:
        asked: list[Any] = []
        if kind == "future":
            done = stub.Unary.future(ping("x"), metadata=[("x-early", "1")])
        elif kind == "server stream":
            done = stub.ServerStream(ping("x", 2), metadata=[("x-early", "1")])
        elif kind == "client stream future":
            done = stub.ClientStream.future(iter([ping("x")]), metadata=[("x-early", "1")])
        else:
            done = stub.BidiStream(iter([ping("x")]), metadata=[("x-early", "1")])
        if ("stream" in kind and "client" not in kind) or kind == "bidi":
            asked.extend(done)
        asked += [done.initial_metadata(), done.trailing_metadata(), done.code(), done.details()]
        asked += [done.exception(), done.traceback(), done.cancelled(), done.cancel(), done.is_active()]
        asked += [done.add_callback(lambda: None), done.debug_error_string(), done.done()]
        called: list[bool] = []
        done.add_done_callback(lambda it: called.append(it is done))
        return [*asked, called]

    assert answers(stubs[1]) == answers(stubs[0])


@pytest.mark.parametrize(
    "arguments",
    [
        {"options": 5},
        {"options": [("one",)]},
        {"options": [(5, 1)]},
        {"compression": "x"},
        {"credentials": 5},
        {"options": [("grpc.max_receive_message_length", 5)], "compression": grpc.Compression.Gzip},
    ],
)
def test_channels_are_refused_alike(service: Service, arguments: dict[str, Any]) -> None:
    """What the stock channel refuses is refused when ours is made, in the same words."""

    def stock() -> None:
        credentials = arguments.get("credentials")
        rest = {key: value for key, value in arguments.items() if key != "credentials"}
        make = grpc.insecure_channel if credentials is None else grpc.secure_channel
        make("ipv4:127.0.0.1:1", *([] if credentials is None else [credentials]), **rest).close()

    assert story(lambda: service.grpc_channel(**arguments).close()) == story(stock)


def test_interceptors_wrap_ours_as_they_wrap_the_stock_channel(stubs: tuple[Any, Any], service: Service) -> None:
    """`grpc.intercept_channel` asks for a multicallable at every call; each is the same object."""
    seen: list[str] = []

    class Note(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            seen.append(client_call_details.method)
            return continuation(client_call_details, request)

        def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
            seen.append(client_call_details.method)
            return continuation(client_call_details, request_iterator)

    with service.grpc_channel() as channel:
        stub = pb_grpc.ProbeStub(grpc.intercept_channel(channel, Note()))
        assert stub.Unary(ping("x")).text == "x"
        assert stub.Unary.future(ping("y")).result().text == "y"
        assert [m.text for m in stub.BidiStream(iter([ping("z")]))] == ["z"]
        first, second = (channel.unary_unary("/a/b", None, None, True) for _ in range(2))
        assert first is second
    assert seen == ["/svcmesh.test.Probe/Unary"] * 2 + ["/svcmesh.test.Probe/BidiStream"]


def test_the_generic_api_needs_no_stub(stubs: tuple[Any, Any], service: Service) -> None:
    """Bytes in, bytes out, without serializers."""
    with service.grpc_channel() as channel:
        raw = channel.unary_unary("/svcmesh.test.Probe/Unary")(ping("raw").SerializeToString())
    assert b"raw" in raw


def test_subscribers_learn_of_the_connection(service: Service) -> None:
    """Idle, then ready when asked to connect; unsubscribed ones hear nothing more."""
    states: list[Any] = []
    with service.grpc_channel() as channel:
        channel.subscribe(states.append, try_to_connect=True)
        grpc.channel_ready_future(channel).result(timeout=PATIENCE)
        until = time.monotonic() + PATIENCE
        while grpc.ChannelConnectivity.READY not in states and time.monotonic() < until:
            time.sleep(0.01)
        channel.unsubscribe(states.append)
        channel.unsubscribe(states.append)
    assert states[-1] is grpc.ChannelConnectivity.READY


# -- asyncio -----------------------------------------------------------------------------------------------------------


def aio_call(stub: Any, kind: str, **arguments: Any) -> Any:
    """Start a call of this kind."""
    if kind == "unary":
        return stub.Unary(ping("one"), **arguments)
    if kind == "server stream":
        return stub.ServerStream(ping("one", 3), **arguments)
    if kind == "client stream":
        return stub.ClientStream(iter([ping("one"), ping("two")]), **arguments)
    return stub.BidiStream(iter([ping("one"), ping("two")]), **arguments)


async def aio_story(make: Callable[[], Any]) -> tuple[Any, ...]:
    """Return all that a caller can see of a call's end."""
    running = make()
    try:
        told: Any = [message async for message in running] if hasattr(running, "__aiter__") else await running
    except grpc.aio.AioRpcError as error:
        told = (type(error), error.code(), error.details(), error.initial_metadata(), error.trailing_metadata())
    return (
        told,
        await running.code(),
        await running.details(),
        await running.initial_metadata(),
        await running.trailing_metadata(),
        running.done(),
        running.cancelled(),
        running.cancel(),
    )


@pytest.mark.parametrize("kind", ["unary", "server stream", "client stream", "bidi"])
@pytest.mark.parametrize("end", ["ok", "error", "unavailable", "deadline"])
async def test_asyncio_calls_end_alike(grpc_servers: Servers, service: Service, kind: str, end: str) -> None:
    """Whatever kind of call, however it ends."""
    told = []
    for make in (lambda: grpc.aio.insecure_channel(grpc_servers[0].address), service.grpc_aio_channel):
        async with make() as channel:
            stub = pb_grpc.ProbeStub(channel)
            told.append(await aio_story(lambda stub=stub: aio_call(stub, kind, **arguments_for(end))))

    assert told[1] == told[0]
