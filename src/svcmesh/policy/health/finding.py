"""What a check of one endpoint finds, and who asks: the seam between when to ask and how."""

from __future__ import annotations

from typing import Protocol

from svcmesh.core.endpoint import Endpoint


class Unwell(Exception):
    """An endpoint did not pass its check; what an `Asker` raises.

    Attributes:
        reason: why, in a few words.
        answered: it said itself that it is not well, which is believed at once. Else the network may be to blame.
        refusing: it accepts no connections on the port that calls use.
        excluded: it does not count among those of its priority, well or not: it has taken itself out on purpose.
    """

    def __init__(self, reason: str, *, answered: bool = False, refusing: bool = False, excluded: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answered = answered
        self.refusing = refusing
        self.excluded = excluded


class Unasked(Exception):
    """An endpoint could not be asked for a reason of our own, such as too many open files: that says nothing of it."""


class Asker(Protocol):
    """Asks endpoints one question. Threads: those of one loop."""

    async def ask(self, endpoint: Endpoint) -> bool:
        """Return when ``endpoint`` is well: whether it is degraded, to be called where others do not suffice.

        Whoever calls it cancels it when that takes too long.

        Raises:
            Unwell: it is not. Unasked: nobody could tell.
        """

    def forget(self, endpoint: Endpoint) -> None:
        """Close what is kept for an endpoint that is no more."""

    def close(self) -> None:
        """Close all that is kept."""


UNCHECKED = Unwell("not checked yet")
"""Why a newcomer takes no calls before its first check."""

UNCOUNTED = Unwell("not checked yet", excluded=True)
"""The same where it does not count either."""

IMMEDIATE_FAIL = "x-envoy-immediate-health-check-fail"
"""The header of an endpoint that has taken itself out, on answers to calls and to checks; whatever it says."""

TOOK_ITSELF_OUT = Unwell(f"{IMMEDIATE_FAIL} in an answer", answered=True, excluded=True)
"""Why an endpoint takes no calls that has said so in its answer to one."""
