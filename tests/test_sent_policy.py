"""A policy that discovery sends along: whose calls go by it, from when on, and how dear that is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any, ClassVar

import grpc
import httpx
import pytest

import svcmesh
from svcmesh import PICKED, Abort, Delay, Endpoint, Fault, Mesh, Policy, Retry, Snapshot
from svcmesh.balance import PeakEwma, RoundRobin
from svcmesh.discovery import poll
from svcmesh.transport import functions
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import eventually, ping, soon


class Registry:
    """A registry with one service, asked every few milliseconds; ``sends`` what it is told to."""

    def __init__(self, address: str = "127.0.0.1:9", sends: Any = None) -> None:
        self.address = address
        self.sends = sends

    def list(self, service: str) -> Snapshot:
        """Return what it has."""
        return Snapshot((Endpoint(self.address),), policy=self.sends)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def mesh(registry: Registry) -> Iterator[Mesh]:
    with Mesh(poll(registry.list, 0.08)) as mesh:
        mesh.service("orders").wait_ready(30)
        yield mesh


def in_force(service: svcmesh.Service, **fields: Any) -> None:
    """Wait until the service goes by these fields."""
    eventually(lambda: all(getattr(service.policy, k) == v for k, v in fields.items()), "it is not in force")


def refused(*_: object) -> None:
    raise AssertionError("this call took the machine")


def test_functions_that_were_decorated_before_go_by_it_and_on_the_straight_line(
    mesh: Mesh, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says nothing of stays as it was."""
    service = mesh.service("orders")

    @service.guard
    def left(*, endpoint: Endpoint = PICKED) -> float | None:
        return svcmesh.remaining()

    @service.guard
    async def left_here() -> float | None:
        return svcmesh.remaining()

    assert 2.5 < (left() or 0) <= 3.0
    registry.sends = {"timeout": 50.0, "per_try_timeout": 40.0}
    in_force(service, timeout=50.0)

    assert 30 < (left() or 0) <= 40.0
    assert 30 < (asyncio.run(left_here()) or 0) <= 40.0
    assert service.policy.retry == Policy.standard().retry
    monkeypatch.setattr(functions, "Call", refused)
    assert 30 < (left() or 0) <= 40.0
    assert 30 < (asyncio.run(left_here()) or 0) <= 40.0


def test_it_goes_when_discovery_sends_it_no_more(mesh: Mesh, registry: Registry) -> None:
    service = mesh.service("orders")
    ask = service.guard(svcmesh.remaining)
    for _ in range(2):
        registry.sends = {"timeout": 1.0}
        in_force(service, timeout=1.0, per_try_timeout=1.0)
        assert (ask() or 9) <= 1.0
        registry.sends = None
        in_force(service, timeout=10.0)
        assert 2.5 < (ask() or 0) <= 3.0


def test_what_the_program_says_of_the_service_counts_more(registry: Registry) -> None:
    """In whatever way it says so; what it says for all services counts less."""
    registry.sends = {"timeout": 1.0}
    mine = Policy(timeout=7.0)
    source = poll(registry.list, 0.08)
    with (
        Mesh(source, policy=Policy(timeout=5.0)) as by_default,
        Mesh(source, services={"orders": mine}) as listed,
        Mesh(source) as asked,
    ):
        services = [by_default.service("orders"), listed.service("orders"), asked.service("orders", policy=mine)]
        for service in services:
            service.wait_ready(30)
        other = services[0].with_policy(mine)
        guarded = services[0].guard(policy=mine)(svcmesh.remaining)

        assert [service.policy.timeout for service in services] == [1.0, 7.0, 7.0]
        assert other.policy == mine
        assert 6.0 < (guarded() or 0) <= 7.0
        assert asked.service("orders", policy=mine) is services[2]
        with pytest.raises(svcmesh.ConfigError, match="another policy"):
            by_default.service("orders", policy=mine)


def test_a_whole_policy_takes_the_place_of_the_service_s(mesh: Mesh, registry: Registry) -> None:
    registry.sends = Policy(timeout=4.0)
    service = mesh.service("orders")
    in_force(service, timeout=4.0, retry=None, outlier_detection=None)
    state = mesh.state()["services"]["orders"]
    assert (state["policy"]["sent_by_discovery"], state["policy"]["timeout"]) == (True, 4.0)
    assert state["other_policies"] == []
    assert "sent by discovery" in mesh.explain("orders")
    assert service.pick().address == registry.address
    with service.attempt() as attempt:
        assert attempt.endpoint.address == registry.address
        assert (svcmesh.remaining() or 9) <= 4.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"timeout": -1.0}, "timeout"),
        ({"tries": 3}, "tries"),
        ({"self": 3}, "self"),
        ({3: "tries"}, "a dict of its fields"),
        (["timeout"], "a dict of its fields"),
    ],
)
def test_one_that_is_none_is_told_and_left_out(mesh: Mesh, registry: Registry, wrong: Any, said: str) -> None:
    """The endpoints that came with it are in force all the same."""
    told: list[Any] = []
    service = mesh.service("orders")
    with mesh.events.subscribe(told.append, "config.*"):
        registry.sends = {"timeout": 1.0}
        in_force(service, timeout=1.0)
        registry.address, registry.sends = "127.0.0.1:10", wrong
        eventually(lambda: [event.name for event in told] == ["config.reloaded", "config.warning"], "nothing is told")

    assert (told[0].source, told[0].service) == ("discovery", "orders")
    assert said in told[1].error
    assert service.policy.timeout == 1.0
    eventually(lambda: [e.address for e in service.endpoints] == ["127.0.0.1:10"], "the endpoint is not there")


def test_faults_that_are_sent_come_to_those_that_are_there() -> None:
    """Who rehearses failure goes on doing so."""
    own, sent = Fault(delay=Delay(1.0)), Fault(abort=Abort("UNAVAILABLE"))
    policy = Policy(faults=own)

    assert policy.as_sent({"faults": sent}).all_faults == (own, sent)
    assert policy.as_sent({"timeout": 1.0}).all_faults == (own,)
    assert policy.as_sent(Policy(faults=sent)).all_faults == (sent,)
    with pytest.raises(svcmesh.ConfigError, match="faults"):
        policy.as_sent({"faults": "none"})


def test_http_goes_by_it_on_the_logical_url_and_on_a_port(mesh: Mesh, registry: Registry) -> None:
    seen: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"]["read"])
        return httpx.Response(204)

    service = mesh.service("orders")
    with httpx.Client(transport=service.http_transport(inner=httpx.MockTransport(answer)), timeout=None) as client:
        for url in ("http://orders/", "http://orders:9/"):
            assert client.get(url).status_code == 204
        registry.sends = {"timeout": 1.0}
        in_force(service, timeout=1.0)
        for url in ("http://orders/", "http://orders:9/"):
            assert client.get(url).status_code == 204

    assert [round(limit) for limit in seen] == [3, 3, 1, 1]


def test_grpc_goes_by_it_in_all_kinds_on_stubs_that_were_made_before() -> None:
    registry = Registry()
    with GrpcServer() as server, Mesh(poll(registry.list, 0.08)) as mesh:
        registry.address = server.address
        service = mesh.service("probe")
        eventually(lambda: server.address in [e.address for e in service.endpoints], "it has not come")
        with service.grpc_channel() as channel:
            stub = pb_grpc.ProbeStub(channel)
            calls = [
                lambda: stub.Unary(ping()),
                lambda: stub.Unary.with_call(ping()),
                lambda: stub.Unary.future(ping()).result(),
                lambda: list(stub.ServerStream(ping(count=1))),
                lambda: stub.ClientStream(iter([ping()])),
                lambda: list(stub.BidiStream(iter([ping()]))),
            ]
            for sends, least, most in ((None, 2, math.inf), ({"timeout": 60.0, "per_try_timeout": 50.0}, 40, 60)):
                registry.sends = sends
                in_force(service, timeout=10.0 if sends is None else 60.0)
                for call in [*calls, calls[0]]:
                    call()
                    assert least < server_saw(server) <= most + 1  # gRPC rounds up


def test_grpc_on_asyncio_goes_by_it_too() -> None:
    registry = Registry()

    async def go(server: GrpcServer, service: svcmesh.Service) -> None:
        async with service.grpc_aio_channel() as channel:
            stub = pb_grpc.ProbeStub(channel)

            async def every_kind() -> list[float]:
                saw = []
                for _ in range(2):
                    await stub.Unary(ping())
                    saw.append(await asyncio.to_thread(server_saw, server))
                assert [pong async for pong in stub.ServerStream(ping(count=1))]
                saw.append(await asyncio.to_thread(server_saw, server))
                await stub.ClientStream(iter([ping()]))
                saw.append(await asyncio.to_thread(server_saw, server))
                return saw

            assert all(limit > 2 for limit in await every_kind())
            registry.sends = {"timeout": 60.0, "per_try_timeout": 50.0}
            await soon(lambda: service.policy.timeout == 60.0, "it is not in force")
            assert all(40 < limit <= 61 for limit in await every_kind())

    with GrpcServer() as server:
        registry.address = server.address
        with Mesh(poll(registry.list, 0.08)) as mesh:
            service = mesh.service("probe")
            service.wait_ready(30)
            asyncio.run(go(server, service))


def server_saw(server: GrpcServer) -> float:
    """Return the seconds that the last call had left when it reached the server."""
    left = server.stats()["metadata"]["x-remaining"]
    return math.inf if left == "None" else float(left)


def test_what_was_withdrawn_rules_no_failing_call_of_a_function(mesh: Mesh, registry: Registry) -> None:
    """Nor where its kind of balancer had made the function take the machine."""
    service, attempts = mesh.service("orders"), 0

    @service.guard(idempotent=True)
    def failing() -> None:
        nonlocal attempts
        attempts += 1
        if service.policy.retry is not None:
            raise ConnectionResetError

    registry.sends = Policy(load_balancer=PeakEwma(), timeout=50.0)
    in_force(service, timeout=50.0)
    failing()
    registry.sends = None
    in_force(service, timeout=10.0)
    attempts = 0
    with pytest.raises(ConnectionResetError):
        failing()
    assert attempts == 3


def test_a_function_that_is_under_way_ends_by_the_policy_it_began_with(mesh: Mesh, registry: Registry) -> None:
    """Whatever other calls of it have begun since."""
    service, attempts = mesh.service("orders"), 0

    async def go() -> None:
        changed = asyncio.Event()

        @service.guard(idempotent=True)
        async def failing(late: bool) -> None:
            nonlocal attempts
            if late:
                attempts += 1
                await changed.wait()
                raise ConnectionResetError

        first = asyncio.ensure_future(failing(late=True))
        await soon(lambda: attempts == 1, "it has not begun")
        registry.sends = {"retry": None}
        await soon(lambda: service.policy.retry is None, "it is not in force")
        await failing(late=False)
        changed.set()
        with pytest.raises(ConnectionResetError):
            await first

    asyncio.run(go())
    assert attempts == 3


@pytest.mark.parametrize("kind", ["blocking", "future", "asyncio"])
def test_grpc_calls_that_are_under_way_end_by_the_policy_they_began_with(kind: str) -> None:
    registry, failing = Registry(), (("x-fail", "UNAVAILABLE:-1"), ("x-before", "1"))

    def changed(service: svcmesh.Service, server: GrpcServer) -> None:
        eventually(lambda: server.count("Unary") > 1, "it has not begun")
        registry.sends = {"retry": None}
        in_force(service, retry=None)

    async def on_asyncio(service: svcmesh.Service, server: GrpcServer) -> None:
        async with service.grpc_aio_channel() as channel:
            stub = pb_grpc.ProbeStub(channel)
            await stub.Unary(ping())
            first = stub.Unary(ping(), metadata=failing)
            await asyncio.to_thread(changed, service, server)
            await stub.Unary(ping())
            with pytest.raises(grpc.RpcError) as caught:
                await first
            assert attempts(caught.value) == 3

    def blocking(service: svcmesh.Service, server: GrpcServer) -> None:
        with service.grpc_channel() as channel, futures.ThreadPoolExecutor(1) as pool:
            stub = pb_grpc.ProbeStub(channel)
            stub.Unary(ping())
            first = (
                pool.submit(stub.Unary, ping(), metadata=failing)
                if kind == "blocking"
                else stub.Unary.future(ping(), metadata=failing)
            )
            changed(service, server)
            stub.Unary(ping())
            with pytest.raises(grpc.RpcError) as caught:
                first.result()
            assert attempts(caught.value) == 3

    with GrpcServer() as server:
        registry.address = server.address
        with Mesh(poll(registry.list, 0.08), policy=Policy(retry=Retry(), idempotent=True)) as mesh:
            service = mesh.service("probe")
            service.wait_ready(30)
            asyncio.run(on_asyncio(service, server)) if kind == "asyncio" else blocking(service, server)


def attempts(error: BaseException) -> int:
    """Return how many there were."""
    told = svcmesh.info(error)
    return 0 if told is None else told.attempts


@dataclass(frozen=True)
class Hearing(RoundRobin):
    """Goes by reports, as far as anybody can tell."""

    heard: ClassVar[list[float]] = []

    def reported(self, cell: Any, report: Any, now: float) -> None:
        """Keep it."""
        self.heard.append(report.rps_fractional)


def test_a_balancer_that_is_sent_hears_what_servers_report_over_grpc() -> None:
    """On stubs that were made before it came, too."""
    registry, report = Registry(), (("x-report-server", "TEXT rps_fractional=7"),)
    Hearing.heard.clear()

    async def ask_here(service: svcmesh.Service) -> None:
        async with service.grpc_aio_channel() as channel:
            await pb_grpc.ProbeStub(channel).Unary(ping(), metadata=report)

    with GrpcServer() as server, Mesh(poll(registry.list, 0.08)) as mesh:
        registry.address = server.address
        service = mesh.service("probe")
        eventually(lambda: server.address in [e.address for e in service.endpoints], "it has not come")
        with service.grpc_channel() as channel:
            stub = pb_grpc.ProbeStub(channel)
            stub.Unary(ping(), metadata=report)
            registry.sends = Policy(load_balancer=Hearing())
            in_force(service, load_balancer=Hearing())
            for _ in range(2):
                stub.Unary(ping(), metadata=report)
                assert list(stub.ServerStream(ping(), metadata=report)) == []
            asyncio.run(ask_here(service))
    assert Hearing.heard == [7.0] * 5
