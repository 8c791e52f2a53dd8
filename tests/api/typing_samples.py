"""What type checkers must say about svcmesh, as its users see it: mypy strict and pyright read this, nothing runs it.

`assert_type` fails the check when a type is wider or narrower than promised; an ignore that ignores nothing fails it
too, so the wrong calls below must stay errors.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from typing import assert_type

import grpc
import httpx

import svcmesh
from svcmesh import (
    PICKED,
    Abort,
    CallInfo,
    CircuitBreaker,
    Endpoint,
    Fault,
    Health,
    Locality,
    Mesh,
    Policy,
    Registration,
    Service,
    Snapshot,
    events,
)
from svcmesh.discovery import first, poll, union


class Orders:
    """Stand for a user's class."""

    def __init__(self, service: Service) -> None:
        self.find = service.guard(self._find)

    def _find(self, key: str) -> int:
        return len(key)


class Registry:
    """Stand for a user's backend: no base class is needed."""

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield what there is."""
        yield Snapshot((Endpoint(f"{service}:80"),))


def composition() -> None:
    """What a mesh takes and what it hands out."""
    with Mesh("consul://127.0.0.1:8500", policy=Policy.standard()) as mesh:
        assert_type(mesh, Mesh)
        assert_type(mesh.service("orders"), Service)
        assert_type(mesh.service("orders").with_policy(Policy()), Service)
        assert_type(mesh.explain("orders"), str)
    Mesh(Registry())
    Mesh({"orders": ["127.0.0.1:80", Endpoint("127.0.0.1:81", weight=2)]})
    backend: svcmesh.Discovery = Registry()
    Mesh(discovery=backend)
    Mesh(discovery=80)  # type: ignore[arg-type]


async def _ask(service: str) -> list[str]:
    return [f"{service}:80"]


def registries() -> None:
    """What a registry can be made of."""
    polled: svcmesh.Discovery = poll(_ask, 10)
    Mesh(first("consul://", polled, {"orders": [Endpoint("127.0.0.1:80")]}))
    Mesh(union(poll(lambda service: [Endpoint(f"{service}:80")], 1.5), Registry(), priorities=(0, 1)))
    poll(_ask, "often")  # type: ignore[arg-type]
    first(80)  # type: ignore[arg-type]


def announcement(mesh: Mesh) -> None:
    """A registration is a context manager that returns itself."""
    with mesh.register("orders", port=80) as registration:
        assert_type(registration, Registration)


def guarded_function(service: Service) -> None:
    """A guarded function keeps its signature, with and without arguments to the decorator."""

    @service.guard
    def plain(order: str, *, amount: int = 1) -> float:
        return len(order) * float(amount)

    @service.guard(idempotent=True, policy=Policy.standard())
    def with_endpoint(order: str, *, endpoint: Endpoint = PICKED) -> str:
        return order + endpoint.address

    assert_type(plain("order", amount=2), float)
    assert_type(with_endpoint("order"), str)
    plain(1)  # type: ignore[arg-type]
    plain("order", colour="red")  # type: ignore[call-arg]
    service.guard(idempotent="yes")  # type: ignore[call-overload]


async def guarded_coroutine(service: Service) -> None:
    """The same for coroutine functions, which are still awaited."""

    @service.guard
    async def plain(order: str) -> int:
        return len(order)

    @service.guard(idempotent=True)
    async def safe(order: str) -> int:
        return len(order)

    assert_type(await plain("order"), int)
    assert_type(await safe("order"), int)
    await plain(1)  # type: ignore[arg-type]


def guarded_method(service: Service) -> None:
    """A bound method loses nothing but its self."""
    assert_type(Orders(service).find("key"), int)


def policy_alone() -> None:
    """`resilient` keeps signatures as `guard` does."""

    @svcmesh.resilient(Policy.standard())
    def call(order: str) -> bytes:
        return order.encode()

    assert_type(call("order"), bytes)
    call()  # type: ignore[call-arg]


def policies() -> None:
    """What may be one or several may be given as either."""
    breaker, fault = CircuitBreaker(), Fault(abort=Abort(503))
    Policy(circuit_breaker=breaker, faults=fault)
    Policy(circuit_breaker=(breaker, CircuitBreaker(scope="service")), faults=(fault,))
    Policy(circuit_breaker=[breaker], faults=[fault])
    Policy(faults=iter([fault]))
    Policy(circuit_breaker=fault)  # type: ignore[arg-type]
    Policy(faults="503")  # type: ignore[arg-type]
    assert_type(Policy().breakers, tuple[CircuitBreaker, ...])
    assert_type(Policy().all_faults, tuple[Fault, ...])


def own_protocol(service: Service) -> None:
    """An attempt of one's own tells where to go."""
    with service.attempt() as attempt:
        assert_type(attempt.endpoint, Endpoint)


async def own_protocol_async(service: Service) -> None:
    """The same block serves asyncio."""
    async with service.attempt() as attempt:
        assert_type(attempt.endpoint, Endpoint)


def stock_types(service: Service) -> None:
    """Channels and clients have the types of the stock ones."""
    assert_type(service.grpc_channel(), grpc.Channel)
    assert_type(service.grpc_aio_channel(), grpc.aio.Channel)
    assert_type(service.http_client(timeout=1.0), httpx.Client)
    assert_type(service.http_async_client(), httpx.AsyncClient)
    httpx.Client(transport=service.http_transport())
    httpx.AsyncClient(transport=service.http_async_transport())


def ambient_deadline() -> None:
    """A budget is a context manager; a bound function keeps its signature."""
    with svcmesh.deadline(2.0):
        assert_type(svcmesh.remaining(), float | None)

    def charge(order: str, *, amount: int = 1) -> float:
        return len(order) * float(amount)

    bound = svcmesh.in_context(charge)
    assert_type(bound("order", amount=2), float)
    bound("order", colour="red")  # type: ignore[call-arg]
    callback: Callable[[], float] = svcmesh.in_context(lambda: 1.0)
    assert_type(callback(), float)


async def ambient_deadline_async() -> None:
    """A bound coroutine function stays one."""

    async def charge(order: str) -> float:
        return len(order)

    bound = svcmesh.in_context(charge)
    assert_type(await bound("order"), float)
    await bound(3)  # type: ignore[arg-type]


def endpoints(service: Service) -> None:
    """Fields of an endpoint have the types that they were given."""
    endpoint = Endpoint("10.0.0.1:8080", weight=2, locality=Locality("eu"), metadata={"version": 3})
    assert_type(endpoint.address, str)
    assert_type(endpoint.port, int)
    assert_type(endpoint.health, Health)
    assert_type(endpoint.locality, Locality | None)
    assert_type(service.pick(), Endpoint)
    endpoint.address = "10.0.0.2:8080"  # type: ignore[misc]


def listening(mesh: Mesh) -> None:
    """An event of a known type has typed fields; without one it has those that all have."""

    def listen(event: svcmesh.Event) -> None:
        assert_type(event.time, float)
        if isinstance(event, events.BreakerChanged):
            assert_type(event.endpoint, Endpoint | None)
            assert_type(event.old, str)
        elif isinstance(event, events.AttemptFinished):
            assert_type(event.endpoint, Endpoint)
            assert_type(event.seconds, float)
        event.seconds  # type: ignore[attr-defined]

    with mesh.events.subscribe(listen, events.BreakerChanged.name) as subscription:
        assert_type(subscription, svcmesh.Subscription)
    listener: events.Listener = listen
    mesh.events.subscribe(listener)
    mesh.events.subscribe(3)  # type: ignore[arg-type]


def story_of_a_call(error: Exception) -> None:
    """`info` takes anything and returns a story or None."""
    story = svcmesh.info(error)
    assert_type(story, CallInfo | None)
    if story is not None:
        assert_type(story.attempts, int)
        assert_type(story.endpoints, tuple[Endpoint, ...])
    if isinstance(error, svcmesh.SvcmeshError):
        assert_type(error.retry_after, float | None)


def checked(healthy: ssl.SSLContext) -> None:
    """A health check takes statuses and headers in every form that it documents, and functions of both colours."""

    def plain(endpoint: Endpoint) -> bool:
        return endpoint.port > 0

    async def awaited(endpoint: Endpoint) -> None:
        del endpoint

    svcmesh.HealthCheck(custom_health_check=plain, interval=5)
    svcmesh.HealthCheck(custom_health_check=awaited, alt_port=9090)
    svcmesh.HealthCheck(tcp_health_check=svcmesh.TcpHealthCheck(b"PING", b"PONG"))
    svcmesh.HealthCheck(tcp_health_check=svcmesh.TcpHealthCheck(receive=[b"a", b"b"], tls=healthy))
    svcmesh.HealthCheck(grpc_health_check=svcmesh.GrpcHealthCheck("orders", initial_metadata={"team": "a"}))
    svcmesh.HttpHealthCheck("/", expected_statuses=range(200, 300), request_headers_to_add={"x-team": "a"})
    http = svcmesh.HttpHealthCheck("/", expected_statuses=(200, range(300, 400), (404, 405)))
    check = svcmesh.HealthCheck(http_health_check=http)
    assert_type(Policy(health_check=check).health_check, svcmesh.HealthCheck | None)
    svcmesh.HealthCheck(http_health_check="/healthz")  # type: ignore[arg-type]
    svcmesh.HealthCheck(custom_health_check=lambda: True)  # type: ignore[arg-type,misc]
