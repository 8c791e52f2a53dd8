"""Callers that give gRPC what it cannot use: they are told so as by the stock channels, and nothing stays in flight."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import grpc.aio
import grpc.experimental
import pytest

from svcmesh.discovery import poll
from svcmesh.mesh import Mesh
from svcmesh.policy.policy import Policy
from svcmesh.service import Service
from tests.servers import svcmesh_test_pb2 as pb
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import ping, service_over

Servers = tuple[GrpcServer, GrpcServer]
KINDS = {
    "unary_unary": "Unary",
    "unary_stream": "ServerStream",
    "stream_unary": "ClientStream",
    "stream_stream": "BidiStream",
}
SMALL = 1000
OPTIONS: list[tuple[str, Any]] = [("grpc.max_send_message_length", SMALL), ("grpc.max_receive_message_length", SMALL)]


ROUNDS = 20
"""Some ends have several forms on asyncio, between which chance decides, on the stock channel too."""
LET_GO = threading.Event()
"""Ends the iterator that blocks, and so the thread of gRPC's that waits for it."""


def broken(_: Any) -> Any:
    """Be a serializer, or the opposite, that raises."""
    raise KeyError("not this one")


def raising() -> Iterator[Any]:
    """Raise where the second request should be."""
    yield ping("one")
    raise KeyError("no more")


def one_too_many() -> Iterator[Any]:
    """Have something among the requests that is none."""
    yield ping("one")
    yield 5


Case = dict[str, Any]
CASES: dict[str, Case] = {
    "a serializer that raises": {"serializer": broken},
    "a deserializer that raises": {"deserializer": broken},
    "a request beyond the limit": {"text": "x" * 2 * SMALL},
    "an answer beyond the limit": {"deserializer": pb.Pong.FromString, "text": "y" * (SMALL - 4)},
    "a key with a space": {"metadata": [("Bad Key", "1")]},
    "an empty key": {"metadata": [("", "1")]},
    "a key in capitals": {"metadata": [("KEY", "1")]},
    "a value with a line feed": {"metadata": [("key", "a\nb")]},
    "a value that is no text": {"metadata": [("key", 5)]},
    "no pairs": {"metadata": ["key"]},
    "a reserved key": {"metadata": [("grpc-status", "0")]},
    "an iterator that raises": {"requests": raising},
    "an iterator of something else": {"requests": one_too_many},
    "an iterator that is none": {"requests": lambda: 5},
    "an iterator that is text": {"requests": lambda: "requests"},
    "an iterator that is empty": {"requests": lambda: iter(())},
    "an iterator that never ends": {
        "requests": lambda: (ping(str(number)) for number in itertools.count()),
        "metadata": [("x-fail", "INVALID_ARGUMENT:-1"), ("x-id", "endless")],
    },
    "an iterator that blocks": {
        "requests": lambda: iter(LET_GO.wait, True),
        "timeout": 0.3,
    },
}
STREAMED = tuple(name for name in CASES if "iterator" in name)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What gRPC logs of these mistakes has tracebacks, which would keep calls alive."""
    LET_GO.clear()
    for logger in ("grpc", "grpc._common", "grpc._channel", "grpc.aio._call", "svcmesh.grpc", "asyncio"):
        caplog.set_level(logging.CRITICAL + 1, logger)
    yield
    LET_GO.set()


@pytest.fixture
def service(grpc_servers: Servers) -> Iterator[Service]:
    with service_over([grpc_servers[0].address], Policy()) as found:
        yield found


def prepared(channel: Any, kind: str, case: Case) -> Callable[[], Any]:
    """Return what makes the call of this case."""
    method = getattr(channel, kind)(
        f"/svcmesh.test.Probe/{KINDS[kind]}",
        case.get("serializer", pb.Ping.SerializeToString),
        case.get("deserializer", pb.Pong.FromString),
    )
    text = case.get("text", "x")
    requests = case.get("requests", lambda: iter([ping(text)])) if kind.startswith("stream") else lambda: ping(text, 1)
    arguments = {"timeout": case.get("timeout", 20), "metadata": case.get("metadata")}
    return lambda: method(requests(), **arguments)


def told_by(error: BaseException) -> tuple[Any, ...]:
    """Return what a caller sees of an error."""
    if not isinstance(error, grpc.RpcError):
        return type(error), str(error).partition("<")[0]  # what follows is the address of an object
    known: Any = error
    return (
        isinstance(error, grpc.Call),
        isinstance(error, grpc.Future),
        known.code(),
        known.details().rstrip("0123456789"),
    )


def story(make: Callable[[], Any], *, streams: bool) -> Any:
    """Return what a blocking call brought."""
    try:
        return list(make()) if streams else make()
    except Exception as error:  # noqa: BLE001 - the class is what is compared
        return told_by(error)


async def aio_story(make: Callable[[], Any], *, streams: bool) -> Any:
    """Return what an asyncio call brought."""
    try:
        running = make()
        return [message async for message in running] if streams else await running
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the class is what is compared
        return told_by(error)


def cases() -> list[tuple[str, str]]:
    """Return the kinds of calls with the mistakes that can be made in them."""
    return [(kind, name) for kind in KINDS for name in CASES if kind.startswith("stream") or name not in STREAMED]


NOT_ON_ASYNCIO = {
    *((kind, "an iterator that blocks") for kind in KINDS),  # it would block the loop
    ("stream_stream", "a request beyond the limit"),
}


@pytest.mark.parametrize(("kind", "name"), cases())
def test_mistakes_are_told_as_by_the_stock_channel(
    grpc_servers: Servers, service: Service, kind: str, name: str
) -> None:
    """By what the call returns or raises; `service_over` sees that nothing stays in flight."""
    streams = kind.endswith("stream")
    with (
        grpc.insecure_channel(grpc_servers[0].address, OPTIONS) as stock,
        service.grpc_channel(options=OPTIONS) as mesh,
    ):
        expected, found = (story(partial(prepared(on, kind, CASES[name])), streams=streams) for on in (stock, mesh))
    assert found == expected


def one_and_then_none() -> Iterator[Any]:
    """Yield a request, and keep the stream open."""
    yield ping("one")
    LET_GO.wait()


@pytest.mark.parametrize("answered", [0, 1])
def test_an_answer_that_cannot_be_read_ends_a_stream_whose_requests_go_on(service: Service, answered: int) -> None:
    """The server, which waits for more of them, does not end it; gRPC says so on this side, and only once."""
    answers = itertools.count()

    def deserializer(data: bytes) -> Any:
        return data if next(answers) < answered else broken(data)

    def requests() -> Iterator[Any]:
        yield from (ping("more") for _ in range(answered))
        yield from one_and_then_none()

    with service.grpc_channel() as channel:
        call = channel.stream_stream("/svcmesh.test.Probe/BidiStream", pb.Ping.SerializeToString, deserializer)(
            requests(), timeout=60
        )
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        LET_GO.set()
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert time.monotonic() - began < 30, "it waited for its timeout"


@pytest.mark.allow_leaks("a stock channel, too, keeps the connection of such a stream that nobody read to its end")
def test_so_does_one_on_the_thread_that_reads_it(service: Service) -> None:
    """GRPC's single-threaded streams; it counts until it is dropped."""
    option = grpc.experimental.ChannelOptions.SingleThreadedUnaryStream
    with service.grpc_channel(options=[(option, 1)]) as channel:
        call = channel.unary_stream("/svcmesh.test.Probe/ServerStream", pb.Ping.SerializeToString, broken)
        with pytest.raises(grpc.RpcError) as caught:
            list(call(ping(count=1000), timeout=60))
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        caught.value.__traceback__ = None
        del caught


@pytest.mark.parametrize(("kind", "name"), [case for case in cases() if case not in NOT_ON_ASYNCIO])
async def test_mistakes_are_told_as_by_the_stock_channel_on_asyncio(
    grpc_servers: Servers, service: Service, kind: str, name: str
) -> None:
    """The same for the asyncio channel; or the server's own status, where the stock one could not write."""
    streams = kind.endswith("stream")
    ours: set[str] = set()
    forms: set[str] = {"INVALID_ARGUMENT"} if name == "an iterator that never ends" else set()
    for _ in range(ROUNDS):
        async with (
            grpc.aio.insecure_channel(grpc_servers[0].address, OPTIONS) as stock,
            service.grpc_aio_channel(options=OPTIONS) as mesh,
        ):
            calls = [prepared(on, kind, CASES[name]) for on in (stock, mesh)]
            expected, found = [await aio_story(make, streams=streams) for make in calls]
        forms.add(repr(expected))
        ours |= {repr(found), found[2].name if isinstance(found, tuple) and len(found) > 2 else ""}
        if ours & forms:
            break
    assert ours & forms


async def test_a_streamed_request_beyond_the_limit_ends_with_the_status(service: Service) -> None:
    """The stock asyncio channel mostly says "Internal error from Core", which is how it was told and not what."""
    async with service.grpc_aio_channel(options=OPTIONS) as mesh:
        case = CASES["a request beyond the limit"]
        told = await aio_story(prepared(mesh, "stream_stream", case), streams=True)
    assert told[2] in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL}


UNUSABLE: dict[str, Any] = {"metadata": (("x-number", 5),)}
STARTS: dict[str, Callable[..., Any]] = {
    "future": lambda stub, **what: stub.Unary.future(ping(), **what),
    "stream": lambda stub, **what: stub.ServerStream(ping(), **what),
    "client stream": lambda stub, **what: stub.ClientStream(iter([ping()]), **what),
    "both": lambda stub, **what: stub.BidiStream(iter([ping()]), **what),
}


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize("heard", [False, True])
def test_arguments_that_grpc_refuses_raise_at_the_call_as_there(grpc_servers: Servers, kind: str, heard: bool) -> None:
    """Also where every call takes the machine, since somebody listens."""
    address = grpc_servers[0].address
    with grpc.insecure_channel(address) as channel, pytest.raises(TypeError) as stock:
        STARTS[kind](pb_grpc.ProbeStub(channel), **UNUSABLE)
    with service_over([address]) as service:
        mesh: Any = service._mesh
        with (
            mesh.events.subscribe(print, "call.*" if heard else "config.*"),
            service.grpc_channel() as channel,
            pytest.raises(TypeError) as ours,
        ):
            STARTS[kind](pb_grpc.ProbeStub(channel), **UNUSABLE)
    assert str(ours.value) == str(stock.value)


ARGUMENTS: list[dict[str, Any]] = [
    *(
        {"metadata": ((key, value),)}
        for key in ("k", b"k", "k-bin", b"k-bin", 5, None)
        for value in ("v", b"v", 5, None)
    ),
    *({"metadata": (pair,)} for pair in (["k", "v"], ("k", "v", "w"), ("k",), "kv", "key", 5, ())),
    *({"metadata": nothing} for nothing in (0, False, "", {}, [])),
    *({"credentials": credentials} for credentials in (5, "x", object())),
    *({"compression": compression} for compression in (*grpc.Compression, 1, True, 5, -1, "gzip")),
]


def at_the_call(channel: grpc.Channel, arguments: dict[str, Any]) -> type[Exception] | None:
    """Return what a call with these raises at once."""
    try:
        STARTS["future"](pb_grpc.ProbeStub(channel), **arguments).cancel()
    except Exception as error:  # noqa: BLE001 - that is what is looked at
        return type(error)
    return None


def test_they_do_so_before_there_is_an_endpoint() -> None:
    """A call that waits for the first one has been handed out when gRPC sees it; so each is looked at beforehand."""
    with (
        Mesh({"probe": []}) as mesh,
        mesh.service("probe").grpc_channel() as channel,
        grpc.insecure_channel("127.0.0.1:1") as stock,
    ):
        ours, theirs = ([at_the_call(on, arguments) for arguments in ARGUMENTS] for on in (channel, stock))
    assert list(zip(ARGUMENTS, ours, strict=True)) == list(zip(ARGUMENTS, theirs, strict=True))


def test_a_first_call_that_is_away_by_then_says_what_grpc_refused() -> None:
    """Nobody knows an endpoint yet, and only gRPC, which sees it later, knows what these credentials are not for."""
    called = threading.Event()
    with (
        GrpcServer() as server,
        Mesh(poll(lambda _: [server.address] if called.wait(30) else [], 60)) as mesh,
        mesh.service("probe").grpc_channel() as channel,
    ):
        call = STARTS["future"](pb_grpc.ProbeStub(channel), credentials=grpc.ssl_channel_credentials())
        called.set()
        with pytest.raises(grpc.RpcError) as caught:
            call.result(30)
    assert (call.code(), call.details()) == (grpc.StatusCode.UNKNOWN, str(caught.value.__cause__))
    assert isinstance(caught.value.__cause__, TypeError)
