"""Ctrl-C in a call that blocks: it comes out at once, nothing stays in flight, no connection is reused half read."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from svcmesh import Mesh, Policy
from svcmesh.balance import PeakEwma
from svcmesh.engine.view import View
from svcmesh.transport.grpc import unary
from svcmesh.transport.http.exchange import HttpExchange
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.servers.http_process import HttpServer
from tests.transport.grpc.kit import in_flight, ping, service_over

SOON = 0.1
LONG = 60.0
"""Seconds that a call takes which is not interrupted."""
HANG = (("x-hang", "1"),)
KEPT = "grpcio itself keeps the connection of a blocking call that was interrupted, on its own channels as on ours"


@pytest.fixture(scope="module")
def web() -> Iterator[HttpServer]:
    with HttpServer("web") as server:
        yield server


def interrupt(call: Callable[[], object]) -> None:
    """Press Ctrl-C while ``call`` blocks; it must end there and then."""
    main, ready = threading.main_thread().ident or 0, threading.Event()

    def press() -> None:
        ready.wait()
        time.sleep(SOON)
        signal.pthread_kill(main, signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    began = time.monotonic()
    ended: list[Exception | None] = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - outside, Ctrl-C would be the end of the test run
        ready.set()
        try:
            call()
        except Exception as error:  # noqa: BLE001 - shown below
            ended.append(error)
        else:
            ended.append(None)
        pressing.join()
    assert not ended, "it ended by itself"
    pressing.join()
    assert time.monotonic() - began < LONG / 3


BLOCKING: dict[str, Callable[[Any], Any]] = {
    "plain": lambda stub: stub.Unary(ping(), metadata=HANG),
    "with_call": lambda stub: stub.Unary.with_call(ping(), metadata=HANG, timeout=LONG),
}
ATTENDED: dict[str, Callable[[Any], Any]] = {
    "future": lambda stub: stub.Unary.future(ping(), metadata=HANG).result(),
    "first message": lambda stub: next(stub.ServerStream(ping(count=3), metadata=HANG)),
    "later message": lambda stub: list(stub.ServerStream(ping(count=100_000), metadata=(("x-delay", "0.02"),))),
    "requests": lambda stub: stub.ClientStream(iter([ping()]), metadata=HANG),
    "both": lambda stub: next(stub.BidiStream(iter([ping()]), metadata=HANG)),
    "pause": lambda stub: stub.Read(ping(), metadata=(("x-fail", "UNAVAILABLE:-1"), ("x-pushback", "50000"))),
}


@pytest.mark.allow_leaks(KEPT)
@pytest.mark.parametrize("call", BLOCKING.values(), ids=BLOCKING)
def test_a_blocking_grpc_call(grpc_servers: tuple[GrpcServer, GrpcServer], call: Callable[[Any], Any]) -> None:
    interrupt_grpc(grpc_servers[0], call)


@pytest.mark.parametrize("call", ATTENDED.values(), ids=ATTENDED)
def test_a_future_a_stream_and_a_pause_between_attempts(
    grpc_servers: tuple[GrpcServer, GrpcServer], call: Callable[[Any], Any]
) -> None:
    interrupt_grpc(grpc_servers[0], call)


def interrupt_grpc(server: GrpcServer, call: Callable[[Any], Any]) -> None:
    policy = Policy.standard().replace(idempotent=True, timeout=LONG, per_try_timeout=None)
    with service_over([server.address], policy) as service, service.grpc_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)  # type: ignore[no-untyped-call]
        interrupt(lambda: call(stub))
        assert stub.Unary(ping("next")).text == "next"


REQUESTS: dict[str, Callable[[Any], Any]] = {
    "headers": lambda client: client.post("/slow/60"),
    "a body read by the caller": lambda client: client.post("/drip"),
    "a body read inside the attempt": lambda client: client.get("/drip"),
}


@pytest.mark.parametrize("request_it", REQUESTS.values(), ids=REQUESTS)
def test_an_http_request(web: HttpServer, request_it: Callable[[Any], Any]) -> None:
    """Its connection is closed: the rest of that answer would be taken for the next one."""
    policy = Policy.standard().replace(timeout=LONG, per_try_timeout=None)
    with service_over([web.address], policy) as service, service.http_client(timeout=LONG) as client:
        first = client.get("/echo").json()["connection"]
        interrupt(lambda: request_it(client))
        assert in_flight(service) == 0
        later = [client.get("/echo").json() for _ in range(2)]
        assert {answer["target"] for answer in later} == {"/echo"}
        assert {answer["connection"] for answer in later} - {first} == {later[0]["connection"]}


def test_a_function_and_a_block_and_a_wait() -> None:
    with Mesh({"service": ["127.0.0.1:1"], "empty": []}) as mesh:
        service = mesh.service("service")

        def block() -> None:
            with service.attempt():
                time.sleep(LONG)

        for call in (service.guard(lambda: time.sleep(LONG)), block, lambda: mesh.service("empty").wait_ready(LONG)):
            interrupt(call)
            assert in_flight(service) == 0


LEARNING = Policy.standard().replace(load_balancer=PeakEwma(), timeout=LONG)


def signalled(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: Callable[[], object]) -> None:
    """Have a signal come, whose handler raises, the first time that ``name`` is called."""

    def interrupted(*_: Any, **__: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        call()


@pytest.mark.parametrize(
    ("owner", "name", "timeout"),
    [(View, "learn", None), (unary, "wire_timeout", LONG), (View, "learn", LONG)],
    ids=["ends", "with a timeout begins", "with a timeout ends"],
)
def test_the_moments_at_which_a_grpc_call_begins_and_ends(
    grpc_servers: tuple[GrpcServer, GrpcServer], monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, timeout: Any
) -> None:
    """Python runs handlers of signals after whatever is called, between the steps of our own bookkeeping, too."""
    with service_over([grpc_servers[0].address], LEARNING) as service, service.grpc_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)  # type: ignore[no-untyped-call]
        stub.Unary(ping())
        signalled(monkeypatch, owner, name, lambda: stub.Unary(ping(), timeout=timeout))
        assert in_flight(service) == 0


@pytest.mark.parametrize(
    ("owner", "name"),
    [(HttpExchange, "trip"), (httpx.Response, "__init__"), (View, "learn")],
    ids=["begins", "has its answer", "ends"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_moments_at_which_an_http_request_begins_and_ends(
    web: HttpServer, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, method: str
) -> None:
    """The answer to a POST is still in flight when it is returned, and is given back when nobody gets it."""
    with service_over([web.address], LEARNING) as service, service.http_client() as client:
        client.get("/echo")
        signalled(monkeypatch, owner, name, lambda: client.request(method, "/echo"))
        gc.collect()
        assert in_flight(service) == 0
        (connections,) = client._transport._connections.values()  # type: ignore[attr-defined]
        assert connections.pool.opened == connections.pool.idle
        assert client.request(method, "/echo").json()["method"] == method
