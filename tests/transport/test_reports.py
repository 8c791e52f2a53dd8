"""What servers report of their load reaches a balancer that asks for it: of every attempt, on every transport.

The servers are real ones, in processes of their own, and report what the caller asks them to.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from svcmesh import Mesh, Policy, Retry
from svcmesh._proto.svcmesh_orca_pb2 import LoadReport as Message
from svcmesh.balance import LoadReport, OrcaWeightedRoundRobin, RoundRobin
from svcmesh.balance.cell import Cell
from svcmesh.service import Service
from svcmesh.testing import FakeClock
from svcmesh.transport.grpc.lean import LeanCall
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.servers.http_process import HttpServer
from tests.transport.grpc.kit import eventually, ping, service_over
from tests.transport.http.colours import COLOURS


@dataclass(frozen=True)
class Hearing(RoundRobin):
    """Round robin; ``heard`` is what servers reported: address, and calls per second."""

    heard: list[tuple[str, float]] = field(default_factory=list, compare=False)

    def reported(self, cell: Cell, report: LoadReport, now: float) -> None:
        self.heard.append((cell.endpoint.address, report.rps_fractional))

    @property
    def numbers(self) -> list[float]:
        return [number for _, number in self.heard]


def asking(number: float, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """Return metadata that ask the first server for a report of so many calls per second."""
    return [("x-report-a", f"TEXT rps_fractional={number},cpu_utilization=0.5"), *more]


def test_others_ask_for_nothing() -> None:
    """Then nothing that reads reports is around the stock multicallables."""
    policy = Policy(load_balancer=RoundRobin())
    with Mesh({"probe": ["127.0.0.1:1"]}, policy=policy) as mesh, mesh.service("probe").grpc_channel() as channel:
        assert not mesh.service("probe").view.reported
        stub = pb_grpc.ProbeStub(channel)
        (member,) = mesh.service("probe").view.cluster.members.values()
        stock = channel._dialer.channel(member).bound(stub.Unary._line.method)
        assert isinstance(stock, LeanCall)


# -- gRPC -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["straight", "machine"])
def heard(request: pytest.FixtureRequest, grpc_servers: tuple[GrpcServer, GrpcServer]) -> Iterator[tuple[Service, Any]]:
    """A service of one server, and the balancer that hears of its load; on either path."""
    balancer = Hearing()
    with service_over([grpc_servers[0].address], Policy(load_balancer=balancer)) as service:
        listening = service.view.runtime.events.subscribe(id, "call.finished")
        with listening if request.param == "machine" else contextlib.nullcontext():
            yield service, balancer


FAILS = ("x-fail", "INTERNAL:-1")


def test_blocking_grpc_calls(heard: tuple[Service, Hearing]) -> None:
    service, balancer = heard
    with service.grpc_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        assert stub.Unary(ping("text"), metadata=asking(1)).text == "text"
        assert stub.Unary.with_call(ping("text"), metadata=asking(2))[0].text == "text"
        assert stub.Unary.future(ping("text"), metadata=asking(3)).result().text == "text"
        eventually(lambda: len(balancer.heard) == 3, f"{balancer.heard}")
        assert len(list(stub.ServerStream(ping(count=3), metadata=asking(4)))) == 3
        eventually(lambda: len(balancer.heard) == 4, f"{balancer.heard}")
        assert stub.ClientStream(iter([ping("a"), ping("b")]), metadata=asking(5)).number == 2
        eventually(lambda: len(balancer.heard) == 5, f"{balancer.heard}")
        assert len(list(stub.BidiStream(iter([ping(), ping()]), metadata=asking(6)))) == 2
        eventually(lambda: len(balancer.heard) == 6, f"{balancer.heard}")
        with pytest.raises(grpc.RpcError) as failed:
            stub.Unary(ping(), metadata=asking(7, FAILS, ("x-id", "reports-1")))
        assert failed.value.code() is grpc.StatusCode.INTERNAL
        with pytest.raises(grpc.RpcError):
            stub.Unary.future(ping(), metadata=asking(8, FAILS, ("x-id", "reports-2"))).result()
        eventually(lambda: len(balancer.heard) == 8, f"{balancer.heard}")
        stub.Unary(ping())
    assert balancer.numbers == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_asyncio_grpc_calls(heard: tuple[Service, Hearing]) -> None:
    service, balancer = heard
    async with service.grpc_aio_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        assert (await stub.Unary(ping("text"), metadata=asking(1))).text == "text"
        assert len([answer async for answer in stub.ServerStream(ping(count=3), metadata=asking(2))]) == 3
        assert (await stub.ClientStream(iter([ping("a"), ping("b")]), metadata=asking(3))).number == 2
        assert len([answer async for answer in stub.BidiStream(iter([ping()]), metadata=asking(4))]) == 1
        with pytest.raises(grpc.RpcError):
            await stub.Unary(ping(), metadata=asking(5, FAILS, ("x-id", "reports-3")))
        await stub.Unary(ping())
    assert balancer.numbers == [1, 2, 3, 4, 5]


def test_each_attempt_is_heard_of_under_its_own_endpoint(grpc_servers: tuple[GrpcServer, GrpcServer]) -> None:
    """Two that fail, and one that does not."""
    balancer = Hearing()
    policy = Policy(load_balancer=balancer, idempotent=True, retry=Retry(wait=lambda _: 0.0, budget=None))
    addresses = [server.address for server in grpc_servers]
    metadata = [(f"x-report-{name}", "TEXT rps_fractional=9") for name in "ab"] + [
        ("x-fail", "UNAVAILABLE:1"),
        ("x-id", "reports-4"),
    ]
    with service_over(addresses, policy) as service, service.grpc_channel() as channel:
        pb_grpc.ProbeStub(channel).Unary(ping(), metadata=metadata)
    assert sorted({address for address, _ in balancer.heard}) == sorted(addresses)
    assert balancer.numbers == [9, 9, 9]


def test_grpcio_keeps_the_binary_report_to_itself(heard: tuple[Service, Hearing]) -> None:
    """What gRPC's servers send by themselves. If this fails, grpcio shows it now: then the documentation is wrong."""
    service, balancer = heard
    metadata = [("x-report-a-hex", Message(rps_fractional=1).SerializeToString().hex())]
    with service.grpc_channel() as channel:
        _, call = pb_grpc.ProbeStub(channel).Unary.with_call(ping(), metadata=metadata)
    assert [name for name, _ in call.trailing_metadata()] == ["x-server"]
    assert balancer.heard == []


def test_a_stream_that_is_dropped_is_cancelled_as_ever(heard: tuple[Service, Hearing]) -> None:
    """Waiting for its report must not keep it."""
    service, _ = heard
    with service.grpc_channel() as channel:
        stream = pb_grpc.ProbeStub(channel).ServerStream(ping(count=10**6), metadata=[("x-delay", "0.01")])
        next(stream)
        del stream
        eventually(lambda: all(not m.in_flight for m in service.view.cluster.members.values()), "still in flight")


# -- HTTP -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[HttpServer, HttpServer]]:
    with HttpServer("a") as a, HttpServer("b") as b:
        yield a, b


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("path", ["straight", "machine"])
def test_http_requests(servers: tuple[HttpServer, HttpServer], colour: str, path: str) -> None:
    balancer, caller = Hearing(), COLOURS[colour]
    with Mesh({"orders": [servers[0].address]}, policy=Policy(load_balancer=balancer)) as mesh:
        listening = mesh.events.subscribe(id, "call.finished") if path == "machine" else contextlib.nullcontext()
        with listening, caller(mesh.service("orders")) as client:
            client.get("/report/200?a=TEXT+rps_fractional=1")
            client.raw('/report/200?a=JSON+{"rps_fractional":2}')
            client.get("/report/404?a=TEXT+rps_fractional:3")
            client.get("/report/500?a=TEXT+rps_fractional=4")
            client.get("/report/200?a=NONSENSE")
            client.get("/echo")
    assert balancer.numbers == [1, 2, 3, 4]


def test_requests_go_where_servers_can_take_them(servers: tuple[HttpServer, HttpServer]) -> None:
    """One server could take three times as much as the other; the time between two schedules is virtual."""
    clock, answers = FakeClock(), Counter[str]()
    policy = Policy(load_balancer=OrcaWeightedRoundRobin(blackout_period=0))
    report = "/report/200?a=TEXT+rps_fractional=10,cpu_utilization=0.9&b=TEXT+rps_fractional=10,cpu_utilization=0.3"
    hosts = {"orders": [server.address for server in servers]}
    mesh = Mesh(hosts, policy=policy, clock=clock, rng=random.Random(1))
    with mesh, mesh.service("orders").http_client() as client:
        for _ in range(2):
            client.get(report)
        clock.advance(1)
        for _ in range(40):
            answers[client.get(report).headers["x-server"]] += 1
    assert answers == {"a": pytest.approx(10, abs=1), "b": pytest.approx(30, abs=1)}
