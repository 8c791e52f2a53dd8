"""What callers may pass as a timeout, and that none is ignored, whatever the kind of call."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from svcmesh import ConfigError, Policy
from svcmesh.service import Service
from svcmesh.transport.grpc.aio.interceptors import aio_client_interceptors
from svcmesh.transport.grpc.interceptors import client_interceptors
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.servers.grpc_process import GrpcServer
from tests.transport.grpc.kit import ping, service_over, started

Servers = tuple[GrpcServer, GrpcServer]
Call = Callable[[Service, Any], object]


@pytest.fixture
def service(grpc_servers: Servers) -> Iterator[Service]:
    with service_over([grpc_servers[0].address]) as found:
        yield found


def _sync(service: Service, call: Callable[[Any], object]) -> object:
    with service.grpc_channel() as channel:
        return call(pb_grpc.ProbeStub(channel))


def _aio(service: Service, call: Callable[[Any], Any]) -> object:
    async def run() -> object:
        async with service.grpc_aio_channel() as channel:
            return await call(pb_grpc.ProbeStub(channel))

    return asyncio.run(run())


def _around(service: Service, call: Callable[[Any], object]) -> object:
    with grpc.insecure_channel(service.endpoints[0].address) as stock:
        return call(pb_grpc.ProbeStub(grpc.intercept_channel(stock, *client_interceptors(Policy()))))


def _around_aio(service: Service, call: Callable[[Any], Any]) -> object:
    async def run() -> object:
        address, mine = service.endpoints[0].address, aio_client_interceptors(Policy())
        async with grpc.aio.insecure_channel(address, interceptors=mine) as channel:
            return await call(pb_grpc.ProbeStub(channel))

    return asyncio.run(run())


CALLS: dict[str, Call] = {
    "blocking": lambda s, t: _sync(s, lambda stub: stub.Unary(ping(), timeout=t)),
    "with_call": lambda s, t: _sync(s, lambda stub: stub.Unary.with_call(ping(), timeout=t)),
    "future": lambda s, t: _sync(s, lambda stub: stub.Unary.future(ping(), timeout=t).result()),
    "stream": lambda s, t: _sync(s, lambda stub: list(stub.ServerStream(ping(count=1), timeout=t))),
    "client stream": lambda s, t: _sync(s, lambda stub: stub.ClientStream(iter([ping()]), timeout=t)),
    "both ways": lambda s, t: _sync(s, lambda stub: list(stub.BidiStream(iter([ping()]), timeout=t))),
    "aio": lambda s, t: _aio(s, lambda stub: stub.Unary(ping(), timeout=t)),
    "aio stream": lambda s, t: _aio(s, lambda stub: stub.ServerStream(ping(count=1), timeout=t).read()),
    "aio client stream": lambda s, t: _aio(s, lambda stub: stub.ClientStream(iter([ping()]), timeout=t)),
    "around": lambda s, t: _around(s, lambda stub: stub.Unary(ping(), timeout=t)),
    "around, aio": lambda s, t: _around_aio(s, lambda stub: stub.Unary(ping(), timeout=t)),
}


@pytest.fixture(params=CALLS)
def call(request: pytest.FixtureRequest, service: Service) -> Callable[[Any], object]:
    return lambda timeout: CALLS[request.param](service, timeout)


def test_nan_is_no_timeout(call: Callable[[Any], object], service: Service) -> None:
    """It would limit nothing, so it is refused before anything is sent."""
    with pytest.raises(ConfigError, match=r"timeout .* must be a number of seconds, not nan"):
        call(math.nan)
    assert started(service) == 0


@pytest.mark.parametrize("timeout", ["5", b"5", []])
def test_what_is_no_number_is_named(call: Callable[[Any], object], timeout: Any) -> None:
    """A TypeError, as on the stock channel, which does not say of what."""
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None, not "):
        call(timeout)


@pytest.mark.parametrize("timeout", [0, -1, -math.inf, False])
def test_no_time_at_all_ends_a_call_before_it_is_sent(
    call: Callable[[Any], object], service: Service, timeout: float
) -> None:
    """What is left of a budget may be nothing or less."""
    with pytest.raises(grpc.RpcError) as caught:
        call(timeout)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
    assert started(service) == 0


@pytest.mark.parametrize("timeout", [math.inf, 1e30, 2**40, 30])
def test_numbers_of_any_size_are_taken_at_their_word(call: Callable[[Any], object], timeout: float) -> None:
    """Infinite is no limit; gRPC alone would end such calls at once."""
    assert call(timeout)


def test_true_is_a_second(call: Callable[[Any], object]) -> None:
    """A number, as for the stock channel: enough for a call, unless this machine is very busy."""
    try:
        assert call(True)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]  # noqa: PT017
