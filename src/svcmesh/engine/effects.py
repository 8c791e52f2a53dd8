"""What the call machine asks its driver to do next."""

from __future__ import annotations

from dataclasses import dataclass

from svcmesh.core.outcome import Outcome
from svcmesh.engine.exchange import Attempt


@dataclass(slots=True)
class Start:
    """Start this attempt, and report its end with `Call.ended`."""

    attempt: Attempt


@dataclass(slots=True)
class Wait:
    """Nothing to do before the instant ``until`` (infinite: no such instant), or the end of an attempt.

    ``seen``: the call also goes on as soon as `Cluster.news` is not this: there may be endpoints, or what it waits with
    may have been closed. None: it does not.
    """

    until: float
    seen: int | None = None


@dataclass(slots=True)
class Discard:
    """Release the answer of an attempt that another one replaces."""

    outcome: Outcome


@dataclass(slots=True)
class Done:
    """The call is over; this is what its caller gets."""

    outcome: Outcome


Effect = Start | Wait | Discard | Done
