"""svcmesh: what a service mesh gives a cluster, inside the process.

Discovery and registration, client-side load balancing, retries, deadlines, circuit breaking, outlier ejection and
fault injection for gRPC, HTTP and any other outbound call, sync and asyncio. Start with `Mesh`.
"""

from __future__ import annotations

from svcmesh.balance.picker import Picker
from svcmesh.core.deadline import deadline, in_context, remaining
from svcmesh.core.endpoint import PICKED, Endpoint, Health, Locality
from svcmesh.core.errors import (
    CircuitOpen,
    ConfigError,
    DeadlineExceeded,
    DiscoveryError,
    FaultInjected,
    LimitExceeded,
    NoEndpoints,
    SvcmeshError,
)
from svcmesh.core.info import CallInfo, info
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.base import Discovery
from svcmesh.events import Event, Subscription
from svcmesh.mesh import Mesh
from svcmesh.policy import (
    Abort,
    CircuitBreaker,
    Delay,
    Fault,
    GrpcHealthCheck,
    HealthCheck,
    HttpHealthCheck,
    OutlierDetection,
    Policy,
    Retry,
    RetryBudget,
    TcpHealthCheck,
)
from svcmesh.registration import Registration
from svcmesh.resilient import resilient
from svcmesh.service import Service
from svcmesh.transport.signals import leave_on_signal

__version__ = "0.1.0"

__all__ = [
    "PICKED",
    "Abort",
    "CallInfo",
    "CircuitBreaker",
    "CircuitOpen",
    "ConfigError",
    "DeadlineExceeded",
    "Delay",
    "Discovery",
    "DiscoveryError",
    "Endpoint",
    "Event",
    "Fault",
    "FaultInjected",
    "GrpcHealthCheck",
    "Health",
    "HealthCheck",
    "HttpHealthCheck",
    "LimitExceeded",
    "Locality",
    "Mesh",
    "NoEndpoints",
    "OutlierDetection",
    "Picker",
    "Policy",
    "Registration",
    "Retry",
    "RetryBudget",
    "Service",
    "Snapshot",
    "Subscription",
    "SvcmeshError",
    "TcpHealthCheck",
    "deadline",
    "in_context",
    "info",
    "leave_on_signal",
    "remaining",
    "resilient",
]
