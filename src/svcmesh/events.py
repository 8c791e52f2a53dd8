"""The types of all events, for listeners that read their fields: the public face of what `Mesh.events` reports.

A listener is called with an `Event`; ``isinstance(event, BreakerChanged)`` tells people and type checkers which one.
"""

from __future__ import annotations

from svcmesh.observe.bus import Events, Listener, Subscription
from svcmesh.observe.events import (
    AttemptFinished,
    BreakerChanged,
    CallFinished,
    CallRejected,
    ConfigReloaded,
    ConfigWarning,
    DiscoveryCached,
    DiscoveryExpired,
    DiscoveryFailed,
    DiscoveryRecovered,
    EndpointEjected,
    EndpointHealthy,
    EndpointRestored,
    EndpointsChanged,
    EndpointUnhealthy,
    Event,
    FaultInjectedEvent,
    HealthCheckFinished,
    ListenerFailed,
    PanicEntered,
    PanicLeft,
    Registered,
    RegistrationLeft,
    RegistrationLost,
    RetryRefused,
    RetryScheduled,
)

__all__ = [
    "AttemptFinished",
    "BreakerChanged",
    "CallFinished",
    "CallRejected",
    "ConfigReloaded",
    "ConfigWarning",
    "DiscoveryCached",
    "DiscoveryExpired",
    "DiscoveryFailed",
    "DiscoveryRecovered",
    "EndpointEjected",
    "EndpointHealthy",
    "EndpointRestored",
    "EndpointUnhealthy",
    "EndpointsChanged",
    "Event",
    "Events",
    "FaultInjectedEvent",
    "HealthCheckFinished",
    "Listener",
    "ListenerFailed",
    "PanicEntered",
    "PanicLeft",
    "Registered",
    "RegistrationLeft",
    "RegistrationLost",
    "RetryRefused",
    "RetryScheduled",
    "Subscription",
]
