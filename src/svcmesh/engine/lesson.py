"""What a balancer that measures time makes of the end of an attempt.

The time of an attempt that ended well is a latency, and so is that of an answer that refuses a caller's mistake. A
failure is none: one that comes fast must not look like a fast answer. An attempt that was cut short, or that nobody
answered for a reason which blames nobody, says only that an answer would have taken at least so long.
"""

from __future__ import annotations

from svcmesh.core.outcome import Kind, Outcome
from svcmesh.policy.status import GRPC_TO_HTTP

_FAILURES = frozenset({Kind.STATUS, Kind.ERROR})


def failed(outcome: Outcome) -> bool | None:
    """Return whether the attempt failed, as far as its time is concerned; None: that is a lower bound."""
    if outcome.kind is Kind.SUCCESS or _is_mistake(outcome):
        return False
    return True if outcome.blames or outcome.kind in _FAILURES else None


def _is_mistake(outcome: Outcome) -> bool:
    """Whether the other side did its work and told the caller that the request was wrong."""
    if outcome.kind is not Kind.STATUS or outcome.blames:
        return False
    reason = outcome.reason
    status = int(reason) if reason.isdecimal() else GRPC_TO_HTTP.get(reason, 500)
    return status < 500 and status != 429
