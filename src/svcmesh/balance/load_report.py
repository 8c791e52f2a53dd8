"""What a server says of its own load, in the terms of ORCA (Open Request Cost Aggregation).

A client sees latencies and counts its own calls; a server knows how busy it is with the calls of everybody. ORCA is
how it says so, with each answer: gRPC's servers in trailing metadata, servers of HTTP in a header.

Source: xds.data.orca.v3.OrcaLoadReport; gRFC A51.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LoadReport:
    """One report; what is not said is 0.

    Attributes:
        rps_fractional: calls per second that the server answers, of all its clients.
        eps: errors per second among them.
        application_utilization: how busy it is, in its own judgement; 1.0 is all that it should take.
        cpu_utilization: the part of its processors that it uses; may be more than 1, too.
        mem_utilization: the part of its memory.
        metrics: whatever else, by names as configurations spell them: ``"named_metrics.queue"``,
            ``"utilization.disk"``, ``"request_cost.bytes"``.
    """

    rps_fractional: float = 0.0
    eps: float = 0.0
    application_utilization: float = 0.0
    cpu_utilization: float = 0.0
    mem_utilization: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)

    def metric(self, name: str) -> float:
        """Return a metric by its name: a field of this, or one of ``metrics``; 0 where it is not in the report."""
        if name in _FIELDS:
            found: float = getattr(self, name)
            return found
        return self.metrics.get(name, 0.0)


_FIELDS = frozenset({"application_utilization", "cpu_utilization", "mem_utilization"})
