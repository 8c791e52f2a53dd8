"""Stopping gRPC servers: in order, whatever goes wrong, and only after calls in flight are finished."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from concurrent import futures
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from svcmesh import ConfigError
from svcmesh.grpc import aio_serve_until_signal, aio_shutdown, serve_until_signal, shutdown
from tests.transport.grpc.kit import eventually, soon

PATIENCE = 30.0


class Teller:
    """Stands for registration and health, and tells in which order they were told."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.error: Exception | None = None

    def enter_graceful_shutdown(self) -> None:
        self.story.append("not serving")
        if self.error is not None:
            raise self.error

    def begin_to_leave(self) -> None:
        self.story.append("leaving")

    def deregister(self) -> None:
        self.story.append("left")


class Server:
    """Stands for a server that stops at once."""

    def __init__(self, story: list[str]) -> None:
        self.story = story
        self.stopped = threading.Event()

    def stop(self, grace: float | None) -> threading.Event:
        self.story.append(f"stopped within {grace:g} s")
        self.stopped.set()
        return self.stopped

    def wait_for_termination(self) -> None:
        self.stopped.wait(PATIENCE)


class AioServer(Server):
    """The same for asyncio."""

    async def stop(self, grace: float | None) -> None:  # type: ignore[override]
        super().stop(grace)

    async def wait_for_termination(self) -> None:  # type: ignore[override]
        while not self.stopped.is_set():  # noqa: ASYNC110 - a signal handler sets it
            await asyncio.sleep(0.005)


class Busy(Server):
    """Has calls that end when they are cancelled."""

    def stop(self, grace: float | None) -> threading.Event:
        self.story.append(f"stopped within {grace:g} s")
        if not grace:
            self.stopped.set()
        return self.stopped

    def wait_for_termination(self) -> None:
        until = time.monotonic() + PATIENCE
        while not self.stopped.wait(0.01):  # the handler of a signal runs between two waits, if it does not end one
            assert time.monotonic() < until


class AioBusy(AioServer):
    """The same for asyncio."""

    async def stop(self, grace: float | None) -> None:  # type: ignore[override]
        self.story.append(f"stopped within {grace:g} s")
        if grace:
            await asyncio.sleep(PATIENCE)
        self.stopped.set()


def terminate_soon() -> None:
    """Send SIGTERM to this process once somebody handles it: before, it would be the end of the test run."""
    before = signal.getsignal(signal.SIGTERM)

    def run() -> None:
        while signal.getsignal(signal.SIGTERM) == before:
            time.sleep(0.005)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    threading.Thread(target=run, daemon=True).start()


ORDER = ["not serving", "leaving", "left", "stopped within 3 s"]


def test_callers_are_told_before_the_server_stops() -> None:
    teller = Teller()
    shutdown(Server(teller.story), teller, health=teller, grace=3, drain=0)  # type: ignore[arg-type]
    assert teller.story == ORDER


async def test_asyncio_servers_stop_in_the_same_order() -> None:
    teller = Teller()
    await aio_shutdown(AioServer(teller.story), teller, health=teller, grace=3, drain=0)  # type: ignore[arg-type]
    assert teller.story == ORDER


def test_the_server_stops_whatever_goes_wrong() -> None:
    """Else the process would be killed with its calls."""
    teller = Teller()
    teller.error = KeyError("bug")
    with pytest.raises(KeyError):
        shutdown(Server(teller.story), teller, health=teller, grace=3, drain=0)  # type: ignore[arg-type]
    assert teller.story == ORDER


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"grace": -1}, "grace"),
        ({"drain": float("nan")}, "drain"),
        ({"health": "yes"}, "health"),
        ({"grace": None}, "grace"),
    ],
)
def test_mistakes_show_at_once(wrong: dict[str, Any], named: str) -> None:
    """When the server starts, not when it is to stop."""
    with pytest.raises(ConfigError, match=named):
        serve_until_signal(Server([]), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="registrations"):
        serve_until_signal(Server([]), "greeter")  # type: ignore[arg-type]


def test_a_signal_begins_the_shutdown() -> None:
    """Its handler only says so: a lock that gRPC holds cannot be waited for in there."""
    teller = Teller()
    server = Server(teller.story)
    before = signal.getsignal(signal.SIGTERM)
    terminate_soon()
    serve_until_signal(server, teller, health=teller, grace=3, drain=0)  # type: ignore[arg-type]
    assert teller.story == ORDER
    assert signal.getsignal(signal.SIGTERM) == before


async def test_a_signal_begins_the_shutdown_on_asyncio() -> None:
    teller = Teller()
    server = AioServer(teller.story)
    asyncio.get_running_loop().call_later(0.02, signal.raise_signal, signal.SIGTERM)
    await aio_serve_until_signal(server, teller, health=teller, grace=3, drain=0)  # type: ignore[arg-type]
    assert teller.story == ORDER


def test_a_second_ctrl_c_is_obeyed_at_once() -> None:
    """Calls in flight are cancelled, and the main thread goes on though the shutdown is under way."""
    teller = Teller()
    server = Busy(teller.story)
    before = signal.getsignal(signal.SIGINT)
    main = threading.main_thread().ident or 0

    def interrupt() -> None:
        for reached in (
            lambda: signal.getsignal(signal.SIGINT) != before,
            lambda: "stopped within 30 s" in teller.story,
        ):
            eventually(reached, "it has not come so far")
            signal.pthread_kill(main, signal.SIGINT)

    impatient = threading.Thread(target=interrupt)
    impatient.start()
    with pytest.raises(KeyboardInterrupt):
        serve_until_signal(server, teller, grace=30, drain=0)  # type: ignore[arg-type]
    impatient.join()
    assert teller.story == ["leaving", "left", "stopped within 30 s", "stopped within 0 s"]
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("drain", [0.0, PATIENCE])
async def test_who_cancels_a_shutdown_has_no_patience_left(drain: float) -> None:
    """While callers are being told, and while calls in flight are finished: as asyncio's own Ctrl-C does."""
    teller = Teller()
    ending = asyncio.create_task(
        aio_shutdown(AioBusy(teller.story), teller, grace=30, drain=drain)  # type: ignore[arg-type]
    )
    reached = "left" if drain else "stopped within 30 s"
    await soon(lambda: reached in teller.story, "it has not come so far")
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert teller.story[-1] == "stopped within 0 s"


def test_what_went_wrong_is_raised_where_the_program_waits() -> None:
    teller = Teller()
    teller.error = KeyError("bug")
    terminate_soon()
    with pytest.raises(KeyError):
        serve_until_signal(Server(teller.story), health=teller, grace=3, drain=0)  # type: ignore[arg-type]


def test_a_server_that_somebody_else_stops_is_not_waited_for() -> None:
    server = Server([])
    threading.Timer(0.02, server.stop, [0]).start()
    serve_until_signal(server, grace=3)  # type: ignore[arg-type]
    assert server.story == ["stopped within 0 s"]


def test_a_call_in_flight_is_finished_and_health_says_no_meanwhile() -> None:
    """On a real server."""
    began, go_on = threading.Event(), threading.Event()

    def slow(request: bytes, context: Any) -> bytes:
        began.set()
        assert go_on.wait(PATIENCE)
        return b"finished"

    method = grpc.method_handlers_generic_handler("test", {"slow": grpc.unary_unary_rpc_method_handler(slow)})
    servicer = health.HealthServicer()
    servicer.set("test", health_pb2.HealthCheckResponse.SERVING)
    with futures.ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, [method])
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            check = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="test"))  # type: ignore[no-untyped-call]
            assert next(check).status == health_pb2.HealthCheckResponse.SERVING
            call = channel.unary_unary("/test/slow").future(b"")
            assert began.wait(PATIENCE)
            stopping = threading.Thread(target=shutdown, args=(server,), kwargs={"health": servicer, "drain": 0.05})
            stopping.start()
            assert next(check).status == health_pb2.HealthCheckResponse.NOT_SERVING
            check.cancel()
            assert not call.done()
            go_on.set()
            assert call.result(PATIENCE) == b"finished"
            stopping.join()
