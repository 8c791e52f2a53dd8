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
    """Nothing to do before the instant ``until``, or an attempt's end; with ``endpoints``, or a change of them."""

    until: float
    endpoints: bool = False


@dataclass(slots=True)
class Cancel:
    """Cancel this attempt and do not report its end: it has been settled."""

    attempt: Attempt


@dataclass(slots=True)
class Discard:
    """Release the answer of an attempt that another one replaces."""

    outcome: Outcome


@dataclass(slots=True)
class Done:
    """The call is over; this is what its caller gets."""

    outcome: Outcome


Effect = Start | Wait | Cancel | Discard | Done
