"""A service as its callers hold it: what is offered, picked and waited for."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from svcmesh import (
    PICKED,
    CircuitBreaker,
    ConfigError,
    Endpoint,
    Health,
    Mesh,
    NoEndpoints,
    OutlierDetection,
    Policy,
    Snapshot,
    deadline,
)
from svcmesh.balance import LeastRequest, LoadBalancer, PeakEwma, Random, RingHash, RoundRobin, WeightedRoundRobin
from svcmesh.testing import FakeClock

A, B, C = Endpoint("127.0.0.1:1"), Endpoint("127.0.0.1:2"), Endpoint("127.0.0.1:3")
PATIENCE = 0.5
"""Real seconds in which a worker begins to wait, before virtual time jumps without it."""


class Later:
    """Lists nobody at first, and somebody after a while."""

    def __init__(self, clock: FakeClock, after: float) -> None:
        self.clock = clock
        self.after = after

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        from svcmesh.core.clock import sleep_until

        yield Snapshot((), authoritative=True)
        await sleep_until(self.clock, self.clock.now() + self.after)
        yield Snapshot((A,))
        await asyncio.get_running_loop().create_future()


def test_what_is_offered_is_what_discovery_calls_well() -> None:
    sick, degraded = Endpoint("h:1", health=Health.UNHEALTHY), Endpoint("h:2", health=Health.DEGRADED)
    with Mesh({"service": [A, sick, degraded]}) as mesh:
        assert mesh.service("service").endpoints == (A, degraded)
        assert "2 endpoints" in repr(mesh.service("service"))


def test_picking_is_a_peek() -> None:
    with Mesh({"service": [A, B]}) as mesh:
        service = mesh.service("service")
        assert {service.pick() for _ in range(20)} == {A, B}
        assert all(member.started == 0 for member in service.view.cluster.members.values())
        with pytest.raises(NoEndpoints, match="its discovery lists none. Is the name right"):
            mesh.service("nobody").pick()


@pytest.mark.parametrize(
    "balancer",
    [
        RoundRobin(),
        WeightedRoundRobin(),
        LeastRequest(),
        LeastRequest(choice_count=3),
        PeakEwma(),
        Random(),
        RingHash(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("zoned", [False, True])
def test_picking_steers_no_call(balancer: LoadBalancer, zoned: bool) -> None:
    """Whoever looks before each call neither draws calls to an endpoint nor takes it out of its turn."""
    took: list[list[str]] = []
    endpoints = [A, B] if not zoned else [A, B, Endpoint(C.address, weight=2, priority=1)]
    for looks in (0, 1):
        rng = ByReader()
        policy = Policy(load_balancer=balancer)
        with Mesh({"service": endpoints}, policy=policy, rng=rng, clock=FakeClock()) as mesh:
            service = mesh.service("service")
            call = service.guard(_where)
            took.append([])
            for _ in range(40):
                for _ in range(looks):
                    with rng.by_another():
                        service.pick()
                took[-1].append(call())
    assert took[0] == took[1]


def test_what_an_endpoint_is_hashed_by_may_be_any_text_that_json_holds() -> None:
    odd = Endpoint(B.address, metadata={"hash_key": "\ud800"})
    with Mesh({"service": [A, odd]}, policy=Policy(load_balancer=RingHash())) as mesh:
        assert {mesh.service("service").pick(key) for key in range(0, 2**64, 2**60)} == {A, odd}


def _where(*, endpoint: Endpoint = PICKED) -> str:
    return endpoint.address


class ByReader:
    """Chance that is one sequence for calls, and another one for those who only look."""

    def __init__(self) -> None:
        self._now = self._calls = random.Random(1)

    @contextmanager
    def by_another(self) -> Generator[None]:
        self._now = random.Random(2)
        yield
        self._now = self._calls

    def random(self) -> float:
        return self._now.random()


def test_nobody_is_picked_once_the_mesh_is_closed() -> None:
    """No call would go there either."""
    with Mesh({"a": ["h:1"]}) as mesh:
        service = mesh.service("a")
        assert service.pick() == Endpoint("h:1")
    with pytest.raises(NoEndpoints, match="has been closed"):
        service.pick()


def test_who_picks_hears_of_breakers_until_when() -> None:
    """As who calls does, but that `pick` raises `NoEndpoints` alone."""
    policy = Policy(circuit_breaker=CircuitBreaker(consecutive=1, failure_rate=None, open_for=60.0))
    clock = FakeClock()
    with Mesh({"a": ["h:1", "h:2"]}, policy=policy, clock=clock) as mesh:
        service = mesh.service("a")
        for _ in range(2):
            with pytest.raises(ConnectionResetError), service.attempt():
                raise ConnectionResetError
        with pytest.raises(
            NoEndpoints, match=r"breakers keep calls from all 2 endpoints of service 'a', for 60 s"
        ) as e:
            service.pick()
    assert e.value.retry_after == 60.0


def test_a_pick_sees_what_has_changed() -> None:
    """Ejections, breakers and snapshots."""
    policy = Policy(outlier_detection=OutlierDetection(consecutive_gateway_failure=1))
    with Mesh({"service": [A, B]}, policy=policy) as mesh:
        service = mesh.service("service")
        assert {service.pick() for _ in range(20)} == {A, B}
        with pytest.raises(ConnectionResetError), service.attempt() as attempt:
            raise ConnectionResetError
        assert {service.pick() for _ in range(20)} == {A, B} - {attempt.endpoint}
        service.view.cluster.apply(Snapshot((C,)))
        assert {service.pick() for _ in range(20)} == {C}


def test_who_has_looked_once_waits_for_no_lock() -> None:
    """Thousands of endpoints may be changing under it; what each change published is looked at."""
    with Mesh({"service": [A, B]}) as mesh, ThreadPoolExecutor(1) as other:
        service = mesh.service("service")
        service.pick()
        service.view.cluster.apply(Snapshot((C,)))
        with service.view.cluster.lock:
            assert other.submit(service.pick).result(10) == C


def test_waiting_for_endpoints_returns_when_they_come() -> None:
    clock = FakeClock(patience=PATIENCE)
    with Mesh(Later(clock, 2.0), clock=clock) as mesh:
        service = mesh.service("service")
        service.wait_ready(10.0)
        assert service.endpoints == (A,)
        assert clock.now() == pytest.approx(2.0, abs=0.1)
        service.wait_ready(0)


def test_waiting_ends_with_its_time_and_says_why() -> None:
    clock = FakeClock(patience=PATIENCE)
    with Mesh(Later(clock, 60.0), clock=clock) as mesh:
        service = mesh.service("service")
        with pytest.raises(NoEndpoints, match="'service' had no endpoint after 3 s: discovery lists none"):
            service.wait_ready(3.0)
        assert service.view.cluster._waiters == set()
        for wrong in (-1, float("nan"), float("inf")):
            with pytest.raises(ConfigError, match="timeout"):
                service.wait_ready(wrong)


async def test_an_ambient_deadline_shortens_the_wait() -> None:
    """Everything inside the block shares one budget."""
    clock = FakeClock(patience=PATIENCE)
    async with Mesh(Later(clock, 60.0), clock=clock) as mesh:
        service = mesh.service("service")
        with deadline(2.0):
            with pytest.raises(NoEndpoints, match="no endpoint after 2 s"):
                service.wait_ready(30.0)
            with pytest.raises(NoEndpoints, match="no endpoint after 0 s"):
                await service.wait_ready_async(30.0)


async def test_the_same_awaited() -> None:
    clock = FakeClock(patience=PATIENCE)
    async with Mesh(Later(clock, 2.0), clock=clock) as mesh:
        service = mesh.service("service")
        with pytest.raises(NoEndpoints, match="no endpoint after 1 s"):
            await service.wait_ready_async(1.0)
        await service.wait_ready_async(10.0)
        assert service.endpoints == (A,)
        waiting = asyncio.ensure_future(mesh.service("other").wait_ready_async(60.0))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert mesh.service("other").view.cluster._waiters == set()


def test_another_policy_shares_endpoints_counts_and_health() -> None:
    with Mesh({"service": [A, B]}, policy=Policy.standard().replace(circuit_breaker=None)) as mesh:
        service = mesh.service("service")
        other = service.with_policy(Policy.standard().replace(timeout=5.0))
        fail = service.guard(_reset)
        for _ in range(30):
            with pytest.raises(ConnectionResetError):
                fail()
        assert set(other.view.ejections()) == set(service.view.ejections()) != set()
        assert other.view.cluster is service.view.cluster
        assert other.policy.timeout == 5.0
        with pytest.raises(ConfigError):
            service.with_policy(None)  # type: ignore[arg-type]


def _reset() -> None:
    raise ConnectionResetError


def test_waiting_on_a_closed_mesh_ends_at_once() -> None:
    """Whether endpoints were known or not: no call could be made to them."""
    known, unknown = Mesh({"s": [A, B]}), Mesh({})
    services = [known.service("s"), unknown.service("s")]
    known.close()
    unknown.close()

    for service in services:
        with pytest.raises(NoEndpoints, match="closed"):
            service.wait_ready(60)
        with pytest.raises(NoEndpoints, match="closed"):
            asyncio.run(service.wait_ready_async(60))


def test_waiting_ends_when_the_mesh_is_closed_meanwhile() -> None:
    mesh = Mesh({})
    service = mesh.service("s")
    waiters = service.view.cluster._waiters

    def close() -> None:
        while not waiters:
            threading.Event().wait(0.001)
        mesh.close()

    thread = threading.Thread(target=close)
    thread.start()
    with pytest.raises(NoEndpoints, match="closed"):
        service.wait_ready(60)
    thread.join()


def test_static_and_class_methods_may_be_guarded_from_above() -> None:
    """Else a guarded static method would be given a self that it does not take."""
    with Mesh({"s": [A, B]}) as mesh:
        guard = mesh.service("s").guard

        class Client:
            @guard
            @staticmethod
            def plain(value: int, *, endpoint: Endpoint = PICKED) -> str:
                return f"{endpoint.address} {value}"

            @guard  # type: ignore[arg-type]  # mypy takes a classmethod for something that cannot be called
            @classmethod
            def of_class(cls, value: int) -> tuple[type, int]:
                return cls, value

        assert Client().plain(7).endswith(" 7")
        assert Client.plain(7).startswith("127.0.0.1:")
        assert Client.of_class(7) == (Client, 7)  # type: ignore[call-arg, comparison-overlap]
        assert sum(member.finished for member in mesh.service("s").view.cluster.members.values()) == 3


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        (
            Endpoint("127.0.0.1:9", health=Health.UNHEALTHY),
            "its only endpoint may take no traffic, discovery calls 1 unhealthy",
        ),
        (Endpoint("127.0.0.1:9", weight=0), "its only endpoint may take no traffic, 1 has weight 0"),
    ],
)
def test_who_picks_is_told_why_there_is_nobody(endpoint: Endpoint, said: str) -> None:
    """And not to wait for what is there, nor to look for a name that is right."""
    with Mesh({"orders": [endpoint]}, policy=Policy()) as mesh:  # without a panic, in which all may be called
        service = mesh.service("orders")
        with pytest.raises(NoEndpoints) as picked:
            service.pick()
        with pytest.raises(NoEndpoints) as called, service.attempt():
            pass
        if endpoint.health is Health.UNHEALTHY:
            with pytest.raises(NoEndpoints, match="discovery calls all of them unhealthy"):
                service.wait_ready(0)
    assert (
        str(picked.value)
        == str(called.value)
        == f"service 'orders' has no endpoint: {said}. Mesh.explain tells of each"
    )
