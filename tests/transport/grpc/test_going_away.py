"""A server that ends each of its connections after a while, in good order (GOAWAY): no call is the poorer for it.

What a connection leaves out gRPC puts on the next one, once. On a machine that stalls that one may be old by then, too;
hence the policy, which repeats what gRPC gives up. Either way the server sees each call once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from svcmesh import Policy, Retry
from svcmesh.service import Service
from svcmesh.transport.grpc.lean import LeanCall
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import PATIENCE, in_flight, ping, service_over

AGE = 100
"""Milliseconds that the server lets a connection grow old, give or take a tenth."""
ENDED = 3
"""How many connections have to have ended."""
AT_ONCE = 4
METHODS = ("Unary", "ServerStream")
SLOW = (("x-delay", "0.03"),)
"""So that calls are under way whenever a connection ends."""
POLICY = Policy(idempotent=True, retry=Retry(max_attempts=10, budget=None))


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    with GrpcServer(arguments=["--option", "grpc.max_connection_age_ms", str(AGE)]) as started:
        yield started


@pytest.fixture
def service(server: GrpcServer) -> Iterator[Service]:
    with service_over([server.address], POLICY) as found:
        yield found


class Seen:
    """What the server has seen since this was made."""

    def __init__(self, server: GrpcServer) -> None:
        self._server = server
        self._until = time.monotonic() + PATIENCE
        self._before = server.stats()

    def enough(self) -> bool:
        """Whether so many connections have ended as have to."""
        assert time.monotonic() < self._until, "the server keeps its connections"
        return bool(self._server.stats()["connections"] - self._before["connections"] > ENDED)

    def calls(self) -> int:
        """Return how many came."""
        both = (self._before["counts"], self._server.stats()["counts"])
        before, now = (sum(counts.get(method, 0) for method in METHODS) for counts in both)
        return int(now - before)


def succeeded(service: Service) -> int:
    """Return how many calls have ended well."""
    [member] = service.view.cluster.members.values()
    return member.succeeded


CALLS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda stub: stub.Unary(ping()),
    "slow": lambda stub: stub.Unary(ping(), metadata=SLOW, timeout=PATIENCE),
    "with call": lambda stub: stub.Unary.with_call(ping(), metadata=SLOW)[0],
    "future": lambda stub: stub.Unary.future(ping(), metadata=SLOW).result(),
    "stream": lambda stub: list(stub.ServerStream(ping(count=3), metadata=SLOW)).pop(),
}


@pytest.mark.parametrize("call", CALLS)
def test_blocking_calls_go_on_to_the_next_connection(server: GrpcServer, service: Service, call: str) -> None:
    """None fails, and each reaches the server once."""
    seen = Seen(server)
    with service.grpc_channel() as channel, ThreadPoolExecutor(AT_ONCE) as threads:
        stub = pb_grpc.ProbeStub(channel)
        made = 0
        while not seen.enough():
            answers = list(threads.map(lambda _: CALLS[call](stub).text, range(5 * AT_ONCE)))
            assert set(answers) == {"x"}
            made += len(answers)
        lean = [type(found) for kept in channel._dialer.kept() for found in kept._bound.values()]  # type: ignore[attr-defined]
    assert (LeanCall in lean) is (call not in {"future", "stream"})
    assert (seen.calls(), succeeded(service), in_flight(service)) == (made, made, 0)


async def streamed(stub: Any) -> Any:
    """Return the last of a stream's messages."""
    return [answer async for answer in stub.ServerStream(ping(count=3), metadata=SLOW)].pop()


AIO_CALLS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "plain": lambda stub: stub.Unary(ping()),
    "slow": lambda stub: stub.Unary(ping(), metadata=SLOW, timeout=PATIENCE),
    "stream": streamed,
}


@pytest.mark.parametrize("call", AIO_CALLS)
async def test_asyncio_calls_go_on_to_the_next_connection(server: GrpcServer, service: Service, call: str) -> None:
    """The same."""
    seen = await asyncio.to_thread(Seen, server)
    async with service.grpc_aio_channel() as channel:
        stub = pb_grpc.ProbeStub(channel)
        made = 0
        while not await asyncio.to_thread(seen.enough):
            for _ in range(5):
                answers = await asyncio.gather(*(AIO_CALLS[call](stub) for _ in range(AT_ONCE)))
                assert {answer.text for answer in answers} == {"x"}
                made += AT_ONCE
    assert (await asyncio.to_thread(seen.calls), succeeded(service), in_flight(service)) == (made, made, 0)
