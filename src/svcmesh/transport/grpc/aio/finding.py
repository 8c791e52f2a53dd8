"""How what outlives the caller's interest finds an asyncio call again: the end of an attempt, a timer, the machine.

A unary call goes on when its caller keeps nothing of it, and is held until its end. A stream that was dropped is over;
so it is held weakly, and what it owes is settled all the same.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from svcmesh.core.outcome import Kind, Outcome
from svcmesh.transport.grpc.aio.leg import AioLeg
from svcmesh.transport.grpc.leg import Account

Owner = Callable[[], Any]
"""Returns the course of a call, `AioFlow`; None when nobody wants to know of it any more."""
Owed = dict[Account, weakref.ref[Any]]
"""The accounts of attempts under way, each with gRPC's call."""


class Hold:
    """Refers to the flow of a unary call until that is over: it goes on when its caller keeps nothing of it."""

    __slots__ = ("flow",)

    def __init__(self, flow: Any) -> None:
        self.flow: Any = flow

    def __call__(self) -> Any:
        """Return the flow; None when it is over, so that a call that has ended is no cycle for the collector."""
        return self.flow


def over(owner: Owner, leg: weakref.ref[AioLeg], account: Account, owed: Owed, _: Any) -> None:
    """Tell the call of the end of an attempt; where nobody wants to know of it any more, settle that."""
    flow, found = owner(), leg()
    if flow is not None and found is not None:
        flow.leg_over(found)
    else:
        owed.pop(account, None)
        account.end(Outcome(Kind.CANCELLED))  # dropped by its caller


def too_late(owner: Owner, leg: AioLeg) -> None:
    """End an attempt whose time for a first sign of life is over."""
    flow = owner()
    if flow is None or leg.committed or leg.processed or leg is not flow.leg or leg.headers_came:
        return
    leg.late = True
    leg.stock.cancel()


def machine_done(owner: Owner, outcome: Outcome) -> None:
    """Tell the call of the end that the machine has come to."""
    flow = owner()
    if flow is not None:
        flow.machine_done(outcome)
