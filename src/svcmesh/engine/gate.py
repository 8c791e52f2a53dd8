"""The circuit breakers of a whole service as one call meets them: asked before it, told how it ended.

They go by what callers get to see, so one that retries saved is a success, and attempts are nothing to them.
"""

from __future__ import annotations

from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.view import View
from svcmesh.policy.breaker import Breaker


class Gate:
    """The service's breakers for one call. Not thread-safe, as the call is not.

    Invariant: what `admit` or `adopt` took is settled by the first `settle`; later ones do nothing.
    """

    __slots__ = ("_permits", "_view")

    def __init__(self, view: View) -> None:
        self._view = view
        self._permits: list[tuple[Breaker, int | None]] = []

    @property
    def shut(self) -> bool:
        """Whether a breaker has opened meanwhile, so that the call may go on no more."""
        return any(breaker.state == "open" for breaker in self._view.breakers.of_service)

    def adopt(self) -> None:
        """Take in a call of the success path, which asked nobody, since every breaker was closed."""
        self._permits = [(breaker, None) for breaker in self._view.breakers.of_service]

    def admit(self, now: float) -> float | None:
        """Ask every breaker; return None when all admit the call, else the seconds until the one that refuses may."""
        for breaker in self._view.breakers.of_service:
            permit = breaker.admit(now)
            if permit is None:
                return breaker.retry_after(now)
            self._permits.append((breaker, permit))
        return None

    def settle(self, outcome: Outcome, now: float, seconds: float, *, late: bool) -> None:
        """Tell the breakers how the call ended after ``seconds``.

        A caller's impatience and our own refusals say nothing of a service. ``late``: it is to blame for the deadline
        that ended the call, if one did.
        """
        if outcome.kind in {Kind.CANCELLED, Kind.REJECTED}:
            good = None
        elif outcome.kind is Kind.DEADLINE:
            good = False if late else None
        else:
            good = not outcome.blames
        permits, self._permits = self._permits, []
        for breaker, permit in permits:
            breaker.settle(permit, good, now, self._view.traffic, outcome.error, seconds)
