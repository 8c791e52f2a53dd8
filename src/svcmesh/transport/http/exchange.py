"""One logical HTTP request as the call machine sees it."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import httpx

from svcmesh.balance.stateful_session import Pinned
from svcmesh.core.errors import SvcmeshError
from svcmesh.core.info import EXTENSION, CallInfo
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.exchange import Answer
from svcmesh.engine.member import Member
from svcmesh.engine.view import View
from svcmesh.policy.fault import Abort
from svcmesh.policy.health.finding import IMMEDIATE_FAIL
from svcmesh.policy.status import is_plain
from svcmesh.transport.http.body import Body
from svcmesh.transport.http.errors import as_httpx, translated
from svcmesh.transport.http.message import is_bodiless, lookup
from svcmesh.transport.http.outcome import of_error, of_response
from svcmesh.transport.http.subject import HttpSubject
from svcmesh.transport.http.trip import Trip, is_idempotent

Sent = tuple[httpx.Response, bool] | Outcome
"""What a sender makes of an attempt: an answer, and whether its body stays in flight; or the end without an answer."""


class HttpExchange:
    """What requests on blocking and on awaiting connections have in common.

    ``deferred`` tells of the last answer: whether its body is still on its way, so that its stream counts the end of
    the attempt, or has come with it (a short one, an injected one), so that the machine does.
    """

    patient = False

    def __init__(self, view: View, request: httpx.Request, deadline: float) -> None:
        self.view = view
        self.request = request
        self.key = view.key_of(HttpSubject(request)) if view.keyed else None
        self._deadline = deadline
        self.body = None if isinstance(request.stream, httpx.ByteStream) else Body(request)
        self.idempotent = is_idempotent(request)
        self.deferred = False
        self._trip: Trip | None = None
        retry = view.policy.retry
        self._buffer = retry.buffer_response if retry is not None and self.idempotent else -1

    @property
    def function(self) -> tuple[None, tuple[Any, ...], dict[str, Any]]:
        """There is none: a request is no function call."""
        return None, (), {}

    @property
    def lookup(self) -> float:
        """What the client gives to connecting: before there is a connection there must be somebody to connect to."""
        return lookup(self.request)

    @property
    def method(self) -> str:
        """The method and the path, for faults to match."""
        return f"{self.request.method} {self.request.url.path}"

    def replayable(self) -> bool:
        """Whether the body can be sent once more, byte for byte."""
        return self.body is None or self.body.replayable()

    def cut_off(self) -> None:
        """A transport may be used on after it was closed, as httpx's may."""

    def repeat(self) -> bool:
        """Whether the request may be sent again where a connection that was used before turns out to be dead.

        The server may have seen it, so that this is a repetition: for policies that have any.
        """
        retry = self.view.policy.retry
        return retry is not None and retry.max_attempts != 1 and self.idempotent and self.replayable()

    def classify(self, error: Exception) -> Outcome:
        """Say what an error means; those of sending have been read already."""
        return of_error(translated(error, self.request))

    def refusal(self, error: SvcmeshError) -> SvcmeshError:
        """Return our error as one that is httpx's too."""
        looking = self._trip is None and not self.view.cluster.ready
        return as_httpx(error, self.request, httpx.ConnectTimeout if looking or self.unsent else httpx.ReadTimeout)

    def aborted(self, abort: Abort) -> Outcome:
        """Answer in the endpoint's place, and say so in the body where there is one."""
        status, request = abort.http_status, self.request
        self.deferred = False
        text = f"svcmesh: an injected fault answered {self.method} with {status}\n"
        response = httpx.Response(status, text=None if is_bodiless(request, status) else text, request=request)
        plain = is_plain(status) and status not in self.view.repeated
        return Outcome(Kind.SUCCESS, value=response) if plain else of_response(response, time.time)

    def trip(self, member: Member, started: float, until: float, *, final: bool) -> Trip:
        """Return what a sender has to know of an attempt."""
        self._trip = trip = Trip(
            self.view,
            self.request,
            repeat=self.repeat,
            buffer=self._buffer,
            member=member,
            started=started,
            until=until,
            deadline=self._deadline,
            final=final,
        )
        return trip

    @property
    def unsent(self) -> bool:
        """Whether the attempt that was cut off had no connection yet."""
        return self._trip is not None and self._trip.unsent

    def read(self, sent: Sent, trip: Trip) -> httpx.Response:
        """Return an answer that nobody objects to.

        Raises:
            Answer: any other end.
        """
        if isinstance(sent, Outcome):
            raise Answer(sent)
        response, self.deferred = sent
        try:
            view, plain = self.view, is_plain(response.status_code)
            if view.reads_answers:
                self._look_at(response, trip.member)
                plain = plain and response.status_code not in view.repeated
            now, extensions = view.clock.now(), response.extensions
            extensions[EXTENSION] = partial(_single, trip.member, now - trip.started)
            if self.deferred:
                trip.answered, trip.extensions = now, extensions
            if plain:
                return response
            outcome = of_response(response, time.time)
        except BaseException:  # the attempt ends as one without an answer, and is counted as that
            if self.deferred:
                response.stream.forfeit()  # type: ignore[union-attr]  # what senders give an answer to come
            raise
        outcome.stream = trip
        raise Answer(outcome)

    def _look_at(self, response: httpx.Response, member: Member) -> None:
        """Pass on what the server of ``member`` says of itself and its load; tell the caller who it was."""
        view = self.view
        if view.checking is not None and IMMEDIATE_FAIL in response.headers:
            view.checking.take_out(member)
        if view.reported:
            from svcmesh.transport.load_report import of_headers  # needs protobuf, which few programs of HTTP have

            report = of_headers(response.headers)
            if report is not None:
                view.report(member, report)
        address, session = member.endpoint.address, view.session
        if session is None or (isinstance(self.key, Pinned) and self.key.address == address):
            return
        if session.session_state.covers(HttpSubject(self.request)):
            name, value = session.session_state.header(address)
            headers = httpx.Headers(response.headers.raw)
            if name.lower() != "set-cookie":  # of which there may be several
                headers.pop(name, None)
            response.headers = httpx.Headers([*headers.raw, (name.encode(), value.encode())])


def _single(member: Member, seconds: float) -> CallInfo:
    """Return the story of a call that was over after one attempt; made only when somebody asks for it."""
    return CallInfo(1, (member.endpoint,), elapsed=seconds)
