"""Health checks of real processes that freeze, die, come back and say no; and how they end with their mesh."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import ref

import pytest

import svcmesh
from svcmesh import (
    Endpoint,
    GrpcHealthCheck,
    HealthCheck,
    HttpHealthCheck,
    Mesh,
    NoEndpoints,
    Policy,
    Service,
    TcpHealthCheck,
)
from svcmesh.testing import FakeClock
from tests.servers.http_process import HttpServer
from tests.test_fork import in_child

QUICK = {
    "interval": 0.05,
    "no_traffic_interval": 0.05,
    "timeout": 1.0,
    "unhealthy_threshold": 2,
    "healthy_threshold": 2,
}


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Poll a condition to a deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        threading.Event().wait(0.01)


class Checked:
    """A service of one server of its own and one that is always well, under a policy that only checks health."""

    def __init__(self, server: HttpServer, other: HttpServer, **kind: Any) -> None:
        self.server = server
        self.mesh = Mesh(
            {"orders": [server.address, other.address]}, policy=Policy(health_check=HealthCheck(**QUICK, **kind))
        )
        self.orders = self.mesh.service("orders")
        self.orders.pick()

    def reason(self) -> str | None:
        """Return why the server takes no calls."""
        endpoints = endpoints_of(self.mesh)
        reason: str | None = next(e["check"]["reason"] for e in endpoints if e["address"] == self.server.address)
        return reason

    def becomes(self, reason: str | None) -> None:
        """Wait until the server takes no calls for this reason, or, for None, until it takes some."""
        eventually(lambda: self.reason() == reason and (self.server.address in called(self.orders)) == (reason is None))


def endpoints_of(mesh: Mesh) -> Any:
    """Return what the state says of them."""
    return mesh.state()["services"]["orders"]["endpoints"]


def called(orders: Service) -> set[str]:
    """Return who takes calls: nobody, while a machine is too busy for any check."""
    with suppress(NoEndpoints):
        return {orders.pick().address for _ in range(100)}
    return set()


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ({"http_health_check": HttpHealthCheck("/status/200")}, "connection refused"),
        ({"tcp_health_check": TcpHealthCheck(b"GET /status/200 HTTP/1.1\r\n\r\n", b" 200 ")}, "connection refused"),
    ],
    ids=["http", "tcp"],
)
def test_a_process_that_freezes_goes_on_dies_and_comes_back(kind: dict[str, Any], refused: str) -> None:
    with HttpServer("one") as server, HttpServer("other") as other:
        checked = Checked(server, other, **kind)
        with checked.mesh:
            checked.becomes(None)
            server.freeze()
            checked.becomes("no answer within 1 s")
            server.thaw()
            checked.becomes(None)
            server.kill()
            checked.becomes(refused)
            server.start()
            checked.becomes(None)


def test_a_grpc_server_that_says_no_freezes_dies_and_comes_back() -> None:
    module = "tests.servers.health_grpc"
    with HttpServer("one", module=module) as server, HttpServer("other", module=module) as other:
        checked = Checked(server, other, grpc_health_check=GrpcHealthCheck())
        with checked.mesh:
            checked.becomes(None)
            server.process.send_signal(signal.SIGUSR1)
            checked.becomes("NOT_SERVING")
            server.process.send_signal(signal.SIGUSR1)
            checked.becomes(None)
            server.freeze()
            checked.becomes("no answer within 1 s")
            server.thaw()
            checked.becomes(None)
            server.kill()
            checked.becomes("connection refused")
            server.start()
            checked.becomes(None)


@pytest.mark.parametrize("awaits", [False, True], ids=["sync", "async"])
def test_an_answer_to_a_call_takes_its_endpoint_out_at_once(awaits: bool) -> None:
    """The checks go on to pass, and so it comes back."""
    reason = "x-envoy-immediate-health-check-fail in an answer"
    said: list[Any] = []
    with HttpServer("one") as server, HttpServer("other") as other:
        checked = Checked(server, other, http_health_check=HttpHealthCheck("/status/200"))
        with checked.mesh:
            eventually(lambda: all(each["check"]["passed"] for each in endpoints_of(checked.mesh)))
            checked.mesh.events.subscribe(said.append, "endpoint.unhealthy", "endpoint.healthy")
            path = "/status/200?x-envoy-immediate-health-check-fail=true"
            assert request(checked.orders, path, awaits=awaits) == 200
            eventually(lambda: len(said) >= 2)
    out, back = said[:2]
    assert (out.name, out.reason) == ("endpoint.unhealthy", reason)
    assert (back.name, back.endpoint) == ("endpoint.healthy", out.endpoint)


def request(orders: Service, path: str, *, awaits: bool) -> int:
    """Make one request; return its status."""

    async def awaited() -> int:
        async with orders.http_async_client() as client:
            return (await client.get(path)).status_code

    if awaits:
        return asyncio.run(awaited())
    with orders.http_client() as client:
        return client.get(path).status_code


def test_a_function_may_block_and_hang_while_others_are_asked() -> None:
    hanging, release = threading.Event(), threading.Event()
    asked: list[str] = []

    def well(endpoint: Endpoint) -> bool:
        asked.append(endpoint.address)
        if hanging.is_set() and endpoint.port == 1:
            release.wait(60)
        return True

    check = HealthCheck(custom_health_check=well, **QUICK)  # type: ignore[arg-type]
    with Mesh({"orders": ["127.0.0.1:1", "127.0.0.1:2"]}, policy=Policy(health_check=check)) as mesh:
        orders = mesh.service("orders")
        orders.pick()
        eventually(lambda: len(asked) >= 4)
        hanging.set()
        eventually(lambda: called(orders) == {"127.0.0.1:2"})
        before = asked.count("127.0.0.1:2")
        eventually(lambda: asked.count("127.0.0.1:2") > before + 2)
        release.set()
        eventually(lambda: called(orders) == {"127.0.0.1:1", "127.0.0.1:2"})


def test_calls_go_straight_once_checks_run_and_never_to_who_fails_them() -> None:
    """The first call starts them, without being delayed; nothing runs before it."""
    with HttpServer("one") as server, HttpServer("other") as other:
        addresses = [server.address, other.address]
        check = HealthCheck(**QUICK, http_health_check=HttpHealthCheck("/status/503"))  # type: ignore[arg-type]
        with Mesh({"orders": addresses}, policy=Policy(health_check=check)) as mesh:
            orders = mesh.service("orders")
            orders.with_policy(Policy()).guard(lambda: 1)()
            assert not threads_of(mesh)
            call = orders.guard(lambda endpoint=svcmesh.PICKED: endpoint)
            assert call().address in addresses
            assert len(threads_of(mesh)) == 1

            def refused() -> bool:
                try:
                    call()
                except NoEndpoints:
                    return True
                return False

            eventually(refused)
            assert "unhealthy by its check (HTTP 503)" in mesh.explain("orders")
            assert orders.with_policy(Policy()).guard(lambda: 1)() == 1


def threads_of(mesh: Mesh) -> list[threading.Thread]:
    return [
        thread for thread in threading.enumerate() if thread.name == "svcmesh-worker" and mesh._runtime.worker.running
    ]


def test_a_mesh_that_is_dropped_stops_checking() -> None:
    """Unclosed, and with a check under way; what it kept open is closed."""
    with HttpServer("one") as server:
        check = HealthCheck(**QUICK, http_health_check=HttpHealthCheck("/slow/0.02"))  # type: ignore[arg-type]
        mesh = Mesh({"orders": [server.address]}, policy=Policy(health_check=check))
        mesh.service("orders").pick()
        eventually(lambda: server.count("/slow/0.02") > 2)
        dropped = ref(mesh)
        del mesh
        gc.collect()
        assert dropped() is None
        eventually(lambda: server.stats()["open"] == 1)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # a fork beside a thread is what this is about
def test_a_forked_child_checks_afresh() -> None:
    """By its own worker, from its first call on; the parent's checks go on."""
    with HttpServer("one") as server:
        check = HealthCheck(**QUICK, http_health_check=HttpHealthCheck("/status/503"))  # type: ignore[arg-type]
        with Mesh({"orders": [server.address]}, policy=Policy(health_check=check)) as mesh:
            orders = mesh.service("orders")

            def ill() -> bool:
                return bool(mesh.state()["services"]["orders"]["endpoints"][0]["check"]["passed"] is False)

            def begin() -> None:
                with suppress(NoEndpoints):  # the first check may be quicker than this look
                    assert orders.pick().address == server.address

            begin()
            eventually(ill)

            def child() -> None:
                assert not ill()
                assert not mesh._runtime.worker.running
                begin()
                eventually(ill)

            in_child(child, seconds=60)
            before = server.count("/status/503")
            eventually(lambda: server.count("/status/503") > before + 2)


@pytest.mark.parametrize(
    ("use", "every"),
    [
        (lambda service: service.guard(lambda: 1)(), 60.0),
        (lambda service: service.pick(), 60.0),
        (lambda service: service.wait_ready(0), 600.0),
    ],
    ids=["called", "picked", "only waited for"],
)
def test_a_virtual_clock_decides_when_they_come(use: Callable[[Service], object], every: float) -> None:
    """An hour of checks takes no time, and none comes before it is due."""
    clock, asked = FakeClock(autojump=False), list[float]()

    used = threading.Event()

    async def well(endpoint: Endpoint) -> bool:
        while not used.is_set():  # noqa: ASYNC110 - another thread makes the call that decides when the next one comes
            await asyncio.sleep(0)
        asked.append(clock.now())
        return True

    check = HealthCheck(custom_health_check=well, interval=60.0, no_traffic_interval=600.0, interval_jitter_percent=0)
    with Mesh({"orders": ["127.0.0.1:1"]}, policy=Policy(health_check=check), clock=clock) as mesh:
        use(mesh.service("orders"))
        used.set()
        eventually(lambda: asked)
        clock.advance(3600.0)
        assert asked == [every * n for n in range(int(3600.0 / every) + 1)]
