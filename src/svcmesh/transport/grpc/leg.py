"""One attempt of a call that returned at once: the stock call under way, and the account of it.

The stock call cancels itself when nobody refers to it any more, which is how a half-read stream that was dropped ends
at the server. That works only as long as gRPC's own state does not refer back to it. So what gRPC calls at the end
holds the call weakly, and strongly only the account, which is settled even when the call is gone.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import grpc

from svcmesh.core.info import CallInfo, attach
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.exchange import Attempt
from svcmesh.engine.machine import Call
from svcmesh.engine.member import Member
from svcmesh.engine.view import View

Report = Callable[[Outcome], object]
_CANCELLED: int = grpc.StatusCode.CANCELLED.value[0]


class Account:
    """What one attempt owes: exactly one end.

    Attributes:
        report: takes the outcome of an attempt that the machine has open; None on the success path, and once the
            machine has let go of it because its answer began to arrive.
        attempt: what the machine calls it. begun: its answer has begun to arrive.
    """

    __slots__ = ("attempt", "begun", "member", "report", "started", "view")

    def __init__(
        self, view: View, member: Member, started: float, report: Report | None, attempt: Attempt | None = None
    ) -> None:
        self.attempt = attempt
        self.begun = False
        self.view = view
        self.member = member
        self.started = started
        self.report = report

    def commit(self, stock: Any) -> None:
        """Tell the machine that the attempt succeeded, though it stays in flight: we count its end from here on."""
        report, self.report = self.report, None
        if report is not None:
            report(Outcome(Kind.SUCCESS, value=stock))
        elif self.view.learns and not self.begun:
            self.view.learn(self.member, self.started)
        self.begun = True

    def end(self, outcome: Outcome) -> None:
        """Settle the attempt, here or in the machine that has it open."""
        if self.report is not None:
            self.report(outcome)
            return
        if outcome.kind is Kind.SUCCESS:
            if self.view.learns and not self.begun:
                self.view.learn(self.member, self.started)
            self.member.finished += 1
            return
        now = self.view.clock.now()
        self.view.settle(self.member, (), outcome, now, now - self.started, begun=self.begun)


class Begun(Protocol):
    """A call, as far as it can tell when it began."""

    @property
    def began(self) -> float:
        """When."""


def told(flow: Begun, machine: Call | None, account: Account, outcome: Outcome) -> CallInfo:
    """Return what callers are told of a call that ended badly with an attempt that nothing could replace any more."""
    now = account.view.clock.now()
    why = outcome.reason or outcome.kind.value
    if outcome.kind is not Kind.CANCELLED:
        why += "; answer-begun"
    if machine is not None:
        return machine.story(outcome, now, why)
    return CallInfo(1, (account.member.endpoint,), (), why, now - flow.began, outcome.retry_after)


def given_up(end: Any, flow: Begun, machine: Call | None, account: Account | None) -> Any:
    """Return ``end``, what a call that was cancelled ends with, and have it tell what became of the call until then.

    ``account``: of the attempt that was under way, if any. A call that had neither begun one nor met a hindrance has
    nothing to tell.
    """
    outcome = Outcome(Kind.CANCELLED, reason="cancelled")
    if account is not None:
        attach(end, told(flow, machine, account, outcome))
    elif machine is not None:
        attach(end, machine.story(outcome, machine.view.clock.now(), outcome.reason))
    return end


class Owner(Protocol):
    """What a leg reports its end to."""

    def leg_over(self, leg: Leg) -> None:
        """The stock call of ``leg`` has ended."""


class Leg:
    """An attempt as the call runs it.

    Attributes:
        stock: gRPC's call object. account: what is owed for it.
        committed: something of its answer was handed out, so that it will not be repeated.
        late: our timer cut it off. processed: its end has been dealt with.
    """

    __slots__ = ("__weakref__", "account", "committed", "late", "processed", "stock")

    def __init__(self, stock: Any, account: Account) -> None:
        self.stock = stock
        self.account = account
        self.committed = False
        self.late = False
        self.processed = False

    def attend(self, owner: Owner, pins: list[object], *, untold: bool) -> None:
        """From now on tell ``owner``, weakly held, of the end; what is in ``pins`` is kept alive until then.

        ``untold``: gRPC tells of the end only to who iterates. So the end of the stock call itself counts as one, too.
        """
        at_end: Callable[[], object] = partial(_over, weakref.ref(owner), weakref.ref(self), self.account, pins)
        if untold:
            at_end = once = weakref.finalize(self.stock, at_end)
            once.atexit = False
        if not self.stock.add_callback(at_end):
            at_end()

    @property
    def headers_came(self) -> bool:
        """Whether the initial metadata have arrived; False when this grpcio does not let us see it without blocking."""
        return self._headers is not None

    @property
    def has_headers(self) -> bool:
        """Whether they have arrived and there is something in them."""
        return bool(self._headers)

    @property
    def _headers(self) -> Any:
        return getattr(getattr(self.stock, "_state", None), "initial_metadata", None)

    def release(self) -> None:
        """Have gRPC end what it left open of a call that has failed, so that nobody waits for it; no status changes.

        When gRPC repeats a stream by itself, because the server had not looked at it, and finds no connection any more,
        grpcio 1.85 reports the status and forgets the reads: `next` and `initial_metadata` would wait for ever, though
        the call is over. Only cancelling what is below the call ends them. Harmless where nothing is left open.
        """
        below = getattr(self.stock, "_call", None)
        if below is not None:
            with suppress(Exception):  # of another grpcio, or some wrapper's own: the end of the call must not suffer
                below.cancel(_CANCELLED, "")

    def canceller(self) -> Callable[[], object]:
        """Return what cancels the stock call, if it still exists."""
        stock = weakref.ref(self.stock)

        def cancel() -> None:
            found = stock()
            if found is not None:
                found.cancel()

        return cancel


def _over(owner: weakref.ref[Any], leg: weakref.ref[Leg], account: Account, pins: list[object]) -> None:
    """Runs on gRPC's thread, once the stock call has ended."""
    found, call = leg(), owner()
    if found is not None and call is not None:
        call.leg_over(found)
    else:
        account.end(Outcome(Kind.CANCELLED))  # dropped by its caller
    pins.clear()
