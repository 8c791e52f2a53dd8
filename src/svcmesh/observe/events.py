"""Every event that svcmesh reports, as frozen values. None is built while nobody subscribes to its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from svcmesh.core.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to ``service`` (empty: to the mesh) at ``time``, an instant of the mesh's clock."""

    name: ClassVar[str]
    time: float
    service: str


@dataclass(frozen=True, slots=True)
class EndpointsChanged(Event):
    """Discovery brought another set; ``age`` is the seconds since the set before it."""

    name: ClassVar[str] = "endpoints.changed"
    added: tuple[Endpoint, ...]
    removed: tuple[Endpoint, ...]
    changed: tuple[Endpoint, ...]
    age: float | None


@dataclass(frozen=True, slots=True)
class DiscoveryFailed(Event):
    """The registry could not be asked; what was known stays in force. ``retry_in`` is in seconds."""

    name: ClassVar[str] = "discovery.failed"
    error: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class DiscoveryRecovered(Event):
    """The registry answers again."""

    name: ClassVar[str] = "discovery.recovered"


@dataclass(frozen=True, slots=True)
class DiscoveryCached(Event):
    """The registry has never answered, so what a cache on disk knew is in force; ``age`` in seconds: since when."""

    name: ClassVar[str] = "discovery.cached"
    age: float


@dataclass(frozen=True, slots=True)
class DiscoveryExpired(Event):
    """What the registry said last is not used any more: it has been out of date for ``age`` seconds, too long."""

    name: ClassVar[str] = "discovery.expired"
    age: float


@dataclass(frozen=True, slots=True)
class EndpointEjected(Event):
    """An endpoint takes no calls for ``seconds``."""

    name: ClassVar[str] = "endpoint.ejected"
    endpoint: Endpoint
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class EndpointRestored(Event):
    """An ejected endpoint takes calls again."""

    name: ClassVar[str] = "endpoint.restored"
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class EndpointUnhealthy(Event):
    """Health checks found an endpoint ill, with the ``first`` one or with enough of them in a row."""

    name: ClassVar[str] = "endpoint.unhealthy"
    endpoint: Endpoint
    reason: str
    first: bool


@dataclass(frozen=True, slots=True)
class EndpointHealthy(Event):
    """Health checks found an endpoint well, with the ``first`` one or with enough of them in a row.

    ``degraded``: it asks to be called only where others do not suffice; told anew whenever that changes.
    """

    name: ClassVar[str] = "endpoint.healthy"
    endpoint: Endpoint
    first: bool
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class HealthCheckFinished(Event):
    """One health check is over after ``seconds``; ``passed`` is None where the endpoint could not be asked."""

    name: ClassVar[str] = "health_check.finished"
    endpoint: Endpoint
    seconds: float
    passed: bool | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class BreakerChanged(Event):
    """A breaker went from ``old`` to ``new``; ``endpoint`` is None for the breaker of a whole service."""

    name: ClassVar[str] = "breaker.changed"
    endpoint: Endpoint | None
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class PanicEntered(Event):
    """Too few endpoints of ``priority`` are well, so ejected and unhealthy ones take calls too."""

    name: ClassVar[str] = "panic.entered"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class PanicLeft(Event):
    """Enough endpoints of ``priority`` are well again."""

    name: ClassVar[str] = "panic.left"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class RetryScheduled(Event):
    """``attempt`` failed at ``endpoint``; another follows after ``delay`` seconds."""

    name: ClassVar[str] = "retry.scheduled"
    attempt: int
    endpoint: Endpoint
    delay: float
    reason: str


@dataclass(frozen=True, slots=True)
class RetryRefused(Event):
    """A failed call was not repeated, and why: attempts, budget, deadline, not-idempotent, body and others."""

    name: ClassVar[str] = "retry.refused"
    reason: str


@dataclass(frozen=True, slots=True)
class CallRejected(Event):
    """svcmesh itself refused a call; ``retry_after`` in seconds where known."""

    name: ClassVar[str] = "call.rejected"
    reason: str
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class FaultInjectedEvent(Event):
    """A fault was put in on purpose; ``kind`` is ``abort`` or ``delay``."""

    name: ClassVar[str] = "fault.injected"
    kind: str


@dataclass(frozen=True, slots=True)
class AttemptFinished(Event):
    """One physical try is over after ``seconds``; ``outcome`` is its class, as in `Kind`."""

    name: ClassVar[str] = "attempt.finished"
    endpoint: Endpoint
    seconds: float
    outcome: str


@dataclass(frozen=True, slots=True)
class CallFinished(Event):
    """One logical call is over after ``attempts`` tries and ``seconds``."""

    name: ClassVar[str] = "call.finished"
    attempts: int
    seconds: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Registered(Event):
    """This process announced itself under ``id`` at ``address``."""

    name: ClassVar[str] = "registration.registered"
    id: str
    address: str


@dataclass(frozen=True, slots=True)
class RegistrationLost(Event):
    """The registry does not know this process any more, or cannot be told; it is tried again."""

    name: ClassVar[str] = "registration.lost"
    id: str
    error: str


@dataclass(frozen=True, slots=True)
class RegistrationLeft(Event):
    """This process took its announcement back; ``clean`` is False when the registry could not be told."""

    name: ClassVar[str] = "registration.left"
    id: str
    clean: bool


@dataclass(frozen=True, slots=True)
class ConfigReloaded(Event):
    """Another configuration is in force: that of a watched file, which ``source`` names, or a policy of "discovery"."""

    name: ClassVar[str] = "config.reloaded"
    source: str


@dataclass(frozen=True, slots=True)
class ConfigWarning(Event):
    """Something that was read is wrong and was left out."""

    name: ClassVar[str] = "config.warning"
    error: str


@dataclass(frozen=True, slots=True)
class ListenerFailed(Event):
    """A listener raised; the calls it listened to went on."""

    name: ClassVar[str] = "listener.failed"
    listener: str
    error: str


EVENTS: Mapping[str, Callable[..., Event]] = {
    kind.name: kind
    for kind in (
        EndpointsChanged,
        DiscoveryFailed,
        DiscoveryRecovered,
        DiscoveryCached,
        DiscoveryExpired,
        EndpointEjected,
        EndpointRestored,
        EndpointUnhealthy,
        EndpointHealthy,
        HealthCheckFinished,
        BreakerChanged,
        PanicEntered,
        PanicLeft,
        RetryScheduled,
        RetryRefused,
        CallRejected,
        FaultInjectedEvent,
        AttemptFinished,
        CallFinished,
        Registered,
        RegistrationLost,
        RegistrationLeft,
        ConfigReloaded,
        ConfigWarning,
        ListenerFailed,
    )
}
"""Event types by name: what a pattern of `Events.subscribe` is matched against."""

PER_CALL = frozenset({AttemptFinished.name, CallFinished.name})
"""Events of plain successes too: while somebody subscribes to one, no call takes the straight success path."""
