"""Balancers that go by latency are told of every attempt, on every transport, once: how long it took, how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh import PICKED, Mesh, Policy, Retry
from svcmesh.balance import PeakEwma, RoundRobin
from svcmesh.service import Service
from svcmesh.testing import FakeClock
from svcmesh.transport import functions
from tests.engine.lessons import Recording
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.servers.http_process import HttpServer
from tests.transport.grpc.kit import eventually, in_flight, ping, service_over
from tests.transport.http.colours import COLOURS
from tests.transport.test_functions import both_colours, called, coloured

ONE = "127.0.0.1:1"
ENDS: dict[str, BaseException | None] = {
    "well": None,
    "lost": ConnectionResetError("cut"),
    "own": KeyError("own"),
    "interrupted": KeyboardInterrupt(),
}


def latency(service: Service, balancer: PeakEwma) -> tuple[float, float, float, int]:
    (member,) = service.view.cluster.members.values()
    found = balancer.latency_of(member)
    return found.cost, found.level, found.stamp, member.in_flight


def after(script: list[tuple[str, float]], *, straight: bool, awaits: bool) -> tuple[float, float, float, int]:
    """Return what is known of an endpoint after calls that took so long and ended so."""
    clock, balancer = FakeClock(), PeakEwma(decay_time=5.0)
    ends = iter(script)

    def work() -> None:
        end, seconds = next(ends)
        clock.advance(seconds)
        if ENDS[end] is not None:
            raise ENDS[end]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functions, "SYSTEM", clock)  # where calls may go straight
        with Mesh({"service": [ONE]}, policy=Policy(load_balancer=balancer), clock=clock) as mesh:
            service = mesh.service("service")
            with contextlib.nullcontext() if straight else mesh.events.subscribe(id, "call.finished"):
                guarded = service.guard(coloured(work, awaits=awaits))
                for _ in script:
                    with contextlib.suppress(ConnectionResetError, KeyError, KeyboardInterrupt):
                        called(guarded)
            return latency(service, balancer)


@both_colours
@settings(max_examples=25, deadline=None)
@given(script=st.lists(st.tuples(st.sampled_from(sorted(ENDS)), st.floats(0, 30)), max_size=6))
def test_the_straight_line_and_the_machine_leave_equal_state(awaits: bool, script: list[tuple[str, float]]) -> None:
    if awaits:
        script = [step for step in script if step[0] != "interrupted"]  # it ends a loop
    straight = after(script, straight=True, awaits=awaits)
    assert straight == after(script, straight=False, awaits=awaits)
    assert straight[3] == 0


@both_colours
def test_calls_go_where_answers_come_sooner(awaits: bool) -> None:
    """Of two endpoints one takes 50 times as long: in virtual time, on the machine's path."""
    clock, asked = FakeClock(), []

    def work(endpoint: Any) -> None:
        asked.append(endpoint.address)
        clock.advance(0.5 if endpoint.address == ONE else 0.01)

    policy = Policy(load_balancer=PeakEwma())
    with Mesh({"service": [ONE, "127.0.0.1:2"]}, policy=policy, clock=clock, rng=random.Random(1)) as mesh:

        def guarded(*, endpoint: Any = PICKED) -> None:
            work(endpoint)

        call = mesh.service("service").guard(coloured(guarded, awaits=awaits))
        for _ in range(40):
            called(call)

    assert asked.count(ONE) == 1


def test_a_cancelled_call_says_only_that_an_answer_takes_longer() -> None:
    balancer = Recording()

    async def scenario() -> None:
        with Mesh({"service": [ONE]}, policy=Policy(load_balancer=balancer)) as mesh:

            @mesh.service("service").guard
            async def wait() -> None:
                await asyncio.sleep(60)

            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())
    assert balancer.verdicts == [None]


def test_a_block_is_told_of_too() -> None:
    balancer = Recording()
    with Mesh({"service": [ONE]}, policy=Policy(load_balancer=balancer)) as mesh:
        with mesh.service("service").attempt():
            pass
        with pytest.raises(ConnectionResetError), mesh.service("service").attempt():
            raise ConnectionResetError("cut")
    assert balancer.verdicts == [False, True]


def test_others_are_told_nothing() -> None:
    with Mesh({"service": [ONE]}, policy=Policy(load_balancer=RoundRobin())) as mesh:
        assert not mesh.service("service").view.learns


# -- gRPC -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["straight", "machine"])
def told(request: pytest.FixtureRequest, grpc_servers: tuple[GrpcServer, GrpcServer]) -> Iterator[tuple[Service, Any]]:
    """A service of one server, and the balancer that is told of its calls; without retries, on either path."""
    balancer = Recording()
    with service_over([grpc_servers[0].address], Policy(load_balancer=balancer)) as service:
        if request.param == "straight":
            yield service, balancer
        else:
            with service.view.runtime.events.subscribe(id, "call.finished"):
                yield service, balancer


FAILS = [("x-fail", "INTERNAL:-1")]


def test_blocking_grpc_calls(told: tuple[Service, Recording]) -> None:
    service, balancer = told
    with service.grpc_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        stub.Unary(ping())
        stub.Unary.with_call(ping(), timeout=5.0)
        stub.Unary.future(ping()).result()
        assert list(stub.ServerStream(ping(count=3)))
        with pytest.raises(grpc.RpcError):
            stub.Unary(ping(), metadata=[*FAILS, ("x-id", "learning-1")])
        with pytest.raises(grpc.RpcError):
            stub.Unary.future(ping(), metadata=[*FAILS, ("x-id", "learning-2")]).result()
        eventually(lambda: len(balancer.lessons) >= 6, f"{balancer.lessons}")
    assert balancer.verdicts == [False, False, False, False, True, True]
    assert all(0 < seconds < 30 for _, seconds, _ in balancer.lessons)


async def test_asyncio_grpc_calls(told: tuple[Service, Recording]) -> None:
    service, balancer = told
    async with service.grpc_aio_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        await stub.Unary(ping())
        assert [answer async for answer in stub.ServerStream(ping(count=3))]
        with pytest.raises(grpc.RpcError):
            await stub.Unary(ping(), metadata=[*FAILS, ("x-id", "learning-3")])
    assert balancer.verdicts == [False, False, True]


def test_a_stream_counts_until_its_answer_begins(told: tuple[Service, Recording]) -> None:
    """What a caller does with a stream, and when it ends that, says nothing of the endpoint."""
    service, balancer = told
    with service.grpc_channel() as channel:
        stream = pb_grpc.ProbeStub(channel).ServerStream(ping(count=3))
        next(stream)
        assert balancer.verdicts == [False]
        stream.cancel()
    eventually(lambda: in_flight(service) == 0, "still in flight")
    assert balancer.verdicts == [False]


# -- HTTP -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer("learning") as found:
        yield found


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("path", ["straight", "machine"])
def test_http_requests(server: HttpServer, colour: str, path: str) -> None:
    balancer, caller = Recording(), COLOURS[colour]
    with Mesh({"orders": [server.address]}, policy=Policy(load_balancer=balancer)) as mesh:
        listening = mesh.events.subscribe(id, "call.finished") if path == "machine" else contextlib.nullcontext()
        with listening, caller(mesh.service("orders")) as client:
            client.get("/echo")
            client.raw("/echo")
            client.get("/status/404")
            client.get("/status/500")
    assert balancer.verdicts == [False, False, False, True]


def test_each_attempt_of_a_call_is_told(server: HttpServer) -> None:
    balancer, caller = Recording(), COLOURS["blocking"]
    policy = Policy(load_balancer=balancer, retry=Retry(wait=lambda _: 0.0, budget=None))
    with Mesh({"orders": [server.address]}, policy=policy) as mesh, caller(mesh.service("orders")) as client:
        client.get("/status/503")
    assert balancer.verdicts == [True, True, True]
