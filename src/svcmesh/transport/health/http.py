"""Health checks by HTTP/1.1: h11 on streams of the loop, and a connection that is kept from one check to the next.

Not by httpx, which would do: a check by it takes four times the CPU of this one, and a thousand endpoints are asked a
hundred times a second (benchmarks/wire/health.py).
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Any

import h11

from svcmesh.core.endpoint import Endpoint
from svcmesh.policy.health.check import HealthCheck
from svcmesh.policy.health.finding import IMMEDIATE_FAIL, Unwell
from svcmesh.policy.health.kinds import HttpHealthCheck
from svcmesh.transport.health.dial import Connection, Dialler, Exhausted, name_of

LONGEST_BODY = 65536
"""Bytes of a body that are read so that the connection can be kept."""

TIMED_OUT = 408
"""What some servers send on a connection that was idle for long, before they hang up; others only hang up. Both may be
done at any time, so that whoever gets one of them asks again on a new connection (RFC 9110, 15.5.9)."""

SWITCHED = 101
"""The last that is said by HTTP, where a header of the check asked for another protocol."""

DEGRADED = b"x-envoy-degraded"
"""The header of an endpoint that is well, and yet wants calls only where others do not suffice; whatever it says."""

OUT = IMMEDIATE_FAIL.encode()

_PART = 65536

Answer = h11.Response | h11.InformationalResponse


class HttpAsker:
    """Makes a request and judges its status; see `Asker`."""

    def __init__(self, config: HealthCheck, http: HttpHealthCheck, service: str) -> None:
        name = http.host or name_of(service)
        self._http = http
        self._dialler = Dialler(config.alt_port, http.tls, None if name is None else _without_port(name))
        self._request = None if name is None else self._made(name)
        self._keeps = config.reuse_connection
        self._most = _most_kept()
        self._kept: dict[str, Line] = {}

    async def ask(self, endpoint: Endpoint) -> bool:
        """Return when the endpoint answers with a status that is expected."""
        answer = await self._answer(endpoint)
        status = answer.status_code
        if not self._http.expects(status):
            answered, excluded = not self._http.retries(status), _has(answer, OUT)
            raise Unwell(f"HTTP {status}", answered=answered, excluded=excluded)
        return _has(answer, DEGRADED)

    async def _answer(self, endpoint: Endpoint) -> Answer:
        request = self._request or self._made(
            endpoint.address if not endpoint.address.startswith("unix:") else "localhost"
        )
        line = self._kept.pop(endpoint.address, None)
        if line is not None:
            # h11's error: more came after the answer before, as a body to a HEAD
            with suppress(Stale, h11.ProtocolError):
                answer = await self._exchange(line, request, endpoint)
                if answer.status_code != TIMED_OUT:
                    return answer
        try:
            connection = await self._dialler.dial(endpoint)
        except Exhausted:
            self.close()  # what is kept may be what there is too much of
            raise
        try:
            return await self._exchange(Line(connection), request, endpoint)
        except Stale:
            raise Unwell("the connection was closed without an answer") from None
        except h11.ProtocolError as error:
            raise Unwell(f"the answer is no HTTP: {error}") from None

    async def _exchange(self, line: Line, request: h11.Request, endpoint: Endpoint) -> Answer:
        keep = False
        try:
            answer = await line.answer_to(request)
            keep = self._keeps and len(self._kept) < self._most and await line.finish()
            return answer
        finally:
            if keep:
                self._kept[endpoint.address] = line
            else:
                line.abort()

    def _made(self, host: str) -> h11.Request:
        headers: Any = self._http.request_headers_to_add
        return h11.Request(
            method=self._http.method,
            target=self._http.path,
            headers=[("host", host), ("user-agent", "svcmesh-health-check"), *headers],
        )

    def forget(self, endpoint: Endpoint) -> None:
        """Close the connection to an endpoint that is no more."""
        line = self._kept.pop(endpoint.address, None)
        if line is not None:
            line.abort()

    def close(self) -> None:
        """Close all connections."""
        kept, self._kept = self._kept, {}
        for line in kept.values():
            line.abort()


class Stale(Exception):
    """The connection ended before anything of an answer came."""


class Line:
    """One connection, for one request after the other."""

    def __init__(self, connection: Connection) -> None:
        self._reader, self._writer = connection
        self._conversation = h11.Connection(h11.CLIENT)
        self._came = 0

    async def answer_to(self, request: h11.Request) -> Answer:
        """Send a request and return the head of its answer.

        Raises:
            Stale: nothing of one came. Unwell: it broke off. h11.ProtocolError: it is none.
        """
        self._came = 0
        if self._reader.at_eof():
            raise Stale
        self._writer.write(self._conversation.send(request) + self._conversation.send(h11.EndOfMessage()))
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event
            if isinstance(event, h11.InformationalResponse) and event.status_code == SWITCHED:
                return event

    async def finish(self) -> bool:
        """Read the rest of the answer; return whether the connection can be used again."""
        size = 0
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                return False
            size += len(event.data)
            if size > LONGEST_BODY:
                return False
        if {self._conversation.our_state, self._conversation.their_state} != {h11.DONE}:
            return False
        if self._conversation.trailing_data[0]:  # it would be taken for the next answer
            return False
        self._conversation.start_next_cycle()
        return True

    def abort(self) -> None:
        """Close it at once."""
        self._writer.transport.abort()

    async def _next(self) -> Any:
        while (event := self._conversation.next_event()) is h11.NEED_DATA:
            try:
                data = await self._reader.read(_PART)
            except OSError as error:
                raise (Unwell(f"the connection broke: {error}") if self._came else Stale()) from None
            if not data and not self._came:
                raise Stale
            self._came += len(data)
            self._conversation.receive_data(data)
        return event


def _has(answer: Answer, header: bytes) -> bool:
    return any(name == header for name, _ in answer.headers)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() and not name.endswith(":") else host).strip("[]")


def _most_kept() -> int:
    """Return how many connections may be kept: a quarter of the files that this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft // 4
