"""Which ends of attempts count against an endpoint, and as what.

Envoy turns every end into an HTTP status: no connection is a 503 and so is a reset, a timeout is a 504, and of a gRPC
status it takes the HTTP status that means the same. That makes a method which a server does not have (501) as bad as a
server that is down, so gRPC codes are listed here instead: those that say something of the server, whatever the caller
sent. What the caller did wrong or gave up, and what was refused before it was sent, counts for nothing.
"""

from __future__ import annotations

from enum import Enum

from svcmesh.core.outcome import Kind, Outcome

SERVER_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE"})
"""gRPC codes that count as an HTTP 5xx does."""

_UNANSWERED = frozenset({Kind.UNSENT, Kind.LOST, Kind.TIMEOUT})


class Fault(Enum):
    """What an end is counted as."""

    LOCAL = "local"  # no answer: no connection, reset, per-try timeout; Envoy's "local origin"
    GATEWAY = "gateway"  # 502, 503, 504, UNAVAILABLE, an error of a function that the policy would retry
    SERVER = "server"  # any other 5xx and the other codes of `SERVER_ERRORS`: an answer, if a bad one


def fault_of(outcome: Outcome) -> Fault | None:
    """Return what an end counts as; None: for nothing."""
    if outcome.blames:
        return Fault.LOCAL if outcome.kind in _UNANSWERED else Fault.GATEWAY
    return Fault.SERVER if outcome.kind is Kind.STATUS and _is_server_error(outcome.reason) else None


def _is_server_error(reason: str) -> bool:
    return 500 <= int(reason) <= 599 if reason.isdecimal() else reason in SERVER_ERRORS
