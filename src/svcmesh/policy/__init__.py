"""The policies: frozen configurations, and state machines over `now` that never wait and know no transport."""

from __future__ import annotations

from svcmesh.policy.backoff import FullJitter, GrpcBackoff
from svcmesh.policy.budget import RetryBudget
from svcmesh.policy.circuit import CircuitBreaker, Slow
from svcmesh.policy.fault import Abort, Delay, Fault, FaultTarget
from svcmesh.policy.health.check import HealthCheck
from svcmesh.policy.health.kinds import GrpcHealthCheck, HttpHealthCheck, TcpHealthCheck
from svcmesh.policy.outlier import OutlierDetection
from svcmesh.policy.policy import Policy
from svcmesh.policy.retry import Retry

__all__ = [
    "Abort",
    "CircuitBreaker",
    "Delay",
    "Fault",
    "FaultTarget",
    "FullJitter",
    "GrpcBackoff",
    "GrpcHealthCheck",
    "HealthCheck",
    "HttpHealthCheck",
    "OutlierDetection",
    "Policy",
    "Retry",
    "RetryBudget",
    "Slow",
    "TcpHealthCheck",
]
