"""One attempt to bring a request to an endpoint: what whoever sends it has to know."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic
from typing import Any

import httpx

from svcmesh.core.clock import SYSTEM, Clock
from svcmesh.core.deadline import ambient_on
from svcmesh.core.errors import DeadlineExceeded
from svcmesh.core.outcome import Outcome
from svcmesh.engine.member import Member
from svcmesh.engine.view import View
from svcmesh.transport.http.deadline import HEADER, written
from svcmesh.transport.http.errors import as_httpx, translated
from svcmesh.transport.http.outcome import is_stale, is_untouched, of_error

MARGIN = 0.005
"""Seconds before the end of an awaited attempt at which its socket gives up, so that it can say what it was doing: a
connect that came to nothing may go elsewhere, and a cancellation would not tell."""

_HEADER = HEADER.encode()

_MISSED: dict[type[Exception], str] = {
    httpx.ConnectTimeout: "connection to",
    httpx.PoolTimeout: "connection became free to",
}

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Source: RFC 9110, 9.2.2."""


class Trip:
    """One attempt.

    Attributes:
        view: whose call it is.
        request: what to send; its URL is the logical one.
        repeat: whether it may be sent again on a new connection, where a used one has turned out to be dead.
        member: whom to send it to.
        started: when, on the mesh's clock.
        until: when it must end, on the machine's clock; None: never.
        deadline: when the whole call must, on the clock of the mesh; infinite: never.
        final: that is the end of the whole call, so that it is nobody's fault.
        buffer: bytes up to which the answer is read inside the attempt; negative: not at all.
        unsent: it was cut off before there was a connection.
        fresh: a used connection has turned out to be dead, so that it must be a new one.
        answered: when the answer came whose body is still on its way, on the mesh's clock.
        extensions: those of that answer, where the story of the call is.
        bad: it counts against the endpoint, as of `svcmesh.core.outcome.Stream`.
    """

    __slots__ = (
        "answered",
        "bad",
        "buffer",
        "deadline",
        "extensions",
        "final",
        "fresh",
        "member",
        "repeat",
        "request",
        "started",
        "unsent",
        "until",
        "view",
    )

    answered: float
    extensions: dict[str, Any]

    def __init__(
        self,
        view: View,
        request: httpx.Request,
        *,
        repeat: Callable[[], bool],
        buffer: int,
        member: Member,
        started: float,
        until: float,
        deadline: float,
        final: bool,
    ) -> None:
        self.view = view
        self.request = request
        self.repeat = repeat
        self.buffer = buffer
        self.member = member
        self.started = started
        self.until = on_the_wire(view.clock, until)
        self.deadline = deadline
        self.final = final
        self.unsent = False
        self.fresh = False
        self.bad = False

    def failed(self, error: Exception, *, used: bool) -> Outcome | None:
        """Return how the attempt ended; None: its connection had died before, and it is sent again on another one."""
        if used and is_untouched(error, self.request):
            return None  # it was closed between the look at it and its use
        outcome = self.ended(error, used=used)
        if self.fresh or not (used and is_stale(outcome.error) and self.repeat()):
            return outcome
        self.fresh = True
        return None

    def ended(self, error: Exception, *, used: bool) -> Outcome:
        """Return how the attempt ended that raised ``error``, on a connection that was ``used`` before.

        A timeout is ours where the attempt's time is up, whatever took it, and httpx's where the caller set a shorter
        one.
        """
        found = translated(error, self.request)
        outcome = of_error(found, reused=used)
        outcome.blames = outcome.blames and self._patient
        if isinstance(found, httpx.TimeoutException) and self.until is not None and monotonic() >= self.until - MARGIN:
            outcome.blames = outcome.blames and not self.final
            missed = _MISSED.get(type(found), "answer from")
            seconds = self.view.clock.now() - self.started
            ours = DeadlineExceeded(f"no {missed} {self.whom} within {seconds:.3g} s")
            ours.__cause__ = found
            outcome.error = as_httpx(ours, self.request, type(found))
        return outcome

    @property
    def _patient(self) -> bool:
        """Whether the caller's own timeouts leave an endpoint any time at all; 0, to a socket, means not to wait."""
        given = self.request.extensions.get("timeout", {})
        times = [given.get(phase) for phase in ("connect", "write", "read")]
        return all(seconds is None or seconds > 0 for seconds in times)

    @property
    def whom(self) -> str:
        """Who was asked, for errors."""
        return f"service {self.view.cluster.name!r} at {self.member.endpoint.address}"

    def body_until(self) -> float | None:
        """Return when the body of the answer must have come, on the machine's clock.

        The policy's standard timeout ends with the headers; one that was set on purpose, and the ambient deadline, hold
        to the last byte.
        """
        view = self.view
        if view.policy.timeout_ends_streams:
            return on_the_wire(view.clock, self.deadline)
        ambient = ambient_on(view.clock)
        return None if ambient is None else on_the_wire(view.clock, ambient)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers to send: the caller's, and how long the answer is wanted, unless that is in them."""
        headers = self.request.headers.raw
        until = self.body_until()
        if until is not None and HEADER not in self.request.headers:
            headers.append((_HEADER, written(until - monotonic())))
        return headers


def is_idempotent(request: httpx.Request) -> bool:
    """Whether a request may be repeated although it may have been executed: its method says so, and no policy."""
    return request.method in IDEMPOTENT


def on_the_wire(clock: Clock, instant: float) -> float | None:
    """Return an instant of ``clock`` on the machine's clock, on which sockets live; None for never."""
    if instant == math.inf:
        return None
    return instant if clock is SYSTEM else monotonic() + instant - clock.now()
