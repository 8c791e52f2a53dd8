"""An attempt whose body is the caller's own block."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator

import pytest

from svcmesh import (
    Abort,
    CircuitBreaker,
    CircuitOpen,
    Delay,
    Fault,
    FaultInjected,
    Mesh,
    NoEndpoints,
    Policy,
    Service,
    info,
    remaining,
)
from svcmesh.testing import FakeClock

SERVERS = ["127.0.0.1:1", "127.0.0.1:2"]


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh({"service": SERVERS}) as made:
        yield made


@pytest.fixture
def service(mesh: Mesh) -> Service:
    return mesh.service("service")


def counts(service: Service) -> tuple[int, int, int]:
    members = service.view.cluster.members.values()
    return (
        sum(m.started for m in members),
        sum(m.in_flight for m in members),
        sum(m.unsuccessful for m in members),
    )


def test_it_is_in_flight_while_the_block_runs(service: Service) -> None:
    with service.attempt() as attempt:
        assert attempt.endpoint.address in SERVERS
        assert counts(service) == (1, 1, 0)
        assert 2.5 < (remaining() or 0) <= 3.0

    assert counts(service) == (1, 0, 0)
    assert remaining() is None


async def test_the_same_awaited(service: Service) -> None:
    async with service.attempt() as attempt:
        assert counts(service) == (1, 1, 0)
        assert attempt.endpoint in service.endpoints

    assert counts(service) == (1, 0, 0)


def test_what_the_block_raises_comes_through_and_counts(service: Service) -> None:
    error = ConnectionResetError("cut")
    with pytest.raises(ConnectionResetError) as caught, service.attempt():
        raise error

    assert caught.value is error
    assert info(error).attempts == 1
    assert counts(service) == (1, 0, 1)
    with pytest.raises(KeyError), service.attempt():
        raise KeyError
    assert counts(service) == (2, 0, 1)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_an_interrupt_says_nothing_of_the_endpoint(service: Service, interrupt: type[BaseException]) -> None:
    with pytest.raises(interrupt), service.attempt():
        raise interrupt

    assert counts(service)[1] == 0
    assert all(not member.breakers for member in service.view.cluster.members.values())


def test_a_block_that_fails_often_opens_the_breaker(mesh: Mesh) -> None:
    policy = Policy(circuit_breaker=CircuitBreaker(scope="service", consecutive=2, failure_rate=None))
    service = mesh.service("service").with_policy(policy)
    for _ in range(2):
        with pytest.raises(ConnectionResetError), service.attempt():
            raise ConnectionResetError

    with pytest.raises(CircuitOpen) as caught, service.attempt():
        pytest.fail("entered")
    assert caught.value.retry_after == pytest.approx(5.0, abs=0.5)


def test_one_object_serves_one_block_at_a_time_and_then_another(service: Service) -> None:
    attempt = service.attempt()
    with attempt:
        with pytest.raises(RuntimeError, match="under way"):
            attempt.__enter__()
        assert counts(service) == (1, 1, 0)
    with attempt:
        assert counts(service) == (2, 1, 0)


def test_nobody_to_ask_is_said_on_entering_and_the_object_can_be_used_again(mesh: Mesh) -> None:
    attempt = mesh.service("nobody").attempt()
    for _ in range(2):
        with pytest.raises(NoEndpoints), attempt:
            pytest.fail("entered")


def test_faults_are_injected_on_entering() -> None:
    clock = FakeClock()
    with Mesh({"service": SERVERS}, clock=clock) as mesh:
        service = mesh.service("service")
        with mesh.faults.inject(service, Fault(delay=Delay(1.0), scope="attempt")), service.attempt():
            assert clock.now() == 1.0
        with (
            mesh.faults.inject(service, Fault(abort=Abort("UNAVAILABLE"), scope="attempt")),
            pytest.raises(FaultInjected),
            service.attempt(),
        ):
            pytest.fail("entered")
        assert counts(service)[1] == 0


async def test_a_block_in_an_async_generator_may_end_in_another_context(service: Service) -> None:
    """As fixtures and request scopes do: what was set in one context cannot be reset in another."""

    async def scope() -> AsyncIterator[str]:
        async with service.attempt() as attempt:
            yield attempt.endpoint.address

    generator = scope()
    first = contextvars.copy_context()
    assert await asyncio.create_task(anext(generator), context=first) in SERVERS
    assert counts(service)[1] == 1
    await asyncio.create_task(generator.aclose(), context=contextvars.Context())

    assert counts(service)[1] == 0
