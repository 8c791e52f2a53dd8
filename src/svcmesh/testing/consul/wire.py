"""The HTTP/1.1 of a fake Consul: connections that stay open, questions that are held until the caller hangs up."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import parse_qs

from svcmesh.testing.consul.answers import HttpError, Reply, Request
from svcmesh.testing.consul.faults import CANNED, HUGE, Fault
from svcmesh.testing.consul.routes import Routes

_REASONS = {200: "OK", 302: "Found", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests"}
_BROKEN = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError, ValueError, IndexError)


class Wire:
    """Serves connections.

    Attributes:
        requests: method and path of everything that was asked, in order.
        open: connections that are open now. most: the most there ever were.
        limit: connections above which one is answered 429 and closed.
        headers: what goes along with every answer.
    """

    def __init__(self, routes: Routes, limit: int) -> None:
        self.requests: list[Request] = []
        self.open = self.most = 0
        self.limit = limit
        self.headers: dict[str, str] = {}
        self.faults: list[Fault] = []
        self._routes = routes
        self._tasks: set[asyncio.Task[None]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            with suppress(*_BROKEN):
                if self.open > self.limit:
                    await _send(writer, 429, b"Your IP is issuing too many concurrent connections", {}, close=True)
                else:
                    while await self._serve(reader, writer):
                        pass
        except asyncio.CancelledError:
            pass  # the server is stopped; asyncio's streams would report it as an error
        finally:
            self.open -= 1
            if task is not None:
                self._tasks.discard(task)
            writer.transport.abort()

    async def stop(self) -> None:
        """Break all connections; nobody listens for more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted is closed in the next step

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection goes on."""
        request = await _read(reader)
        self.requests.append(request)
        fault = next((fault for fault in self.faults if fault.strikes(request.path)), None)
        if fault is not None and fault.kind != "spin":
            return await self._misbehave(fault.kind, request, reader, writer)
        if fault is not None:
            request = _not_held(request)
        status, body, headers = await self._answered(request, reader)
        await _send(writer, status, body, headers)
        return True

    async def _answered(self, request: Request, reader: asyncio.StreamReader) -> tuple[int, bytes, Mapping[str, str]]:
        """Return the answer; raises when the caller hangs up before there is one."""
        answering = asyncio.ensure_future(self._answer(request))
        gone = asyncio.ensure_future(reader.read(1))  # nobody sends a second request before the first is answered
        try:
            await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ConnectionResetError
            return answering.result()
        finally:
            for task in (answering, gone):
                task.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)

    async def _answer(self, request: Request) -> tuple[int, bytes, Mapping[str, str]]:
        try:
            reply = await self._routes.answer(request)
        except HttpError as error:
            return error.status, error.text.encode(), {"Content-Type": "text/plain; charset=utf-8", **self.headers}
        except (KeyError, TypeError, AttributeError, ValueError) as error:  # what was sent is not what is expected
            told = f"the fake could not make sense of it: {type(error).__name__}: {error}"
            return 400, told.encode(), {"Content-Type": "text/plain; charset=utf-8", **self.headers}
        return reply.status, _body(reply), {"Content-Type": "application/json", **reply.headers, **self.headers}

    async def _misbehave(
        self, kind: str, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if kind == "freeze":
            await reader.read(1)
            return False
        if kind == "drop":
            return False
        if kind == "cut":
            _, body, headers = await self._answer(_not_held(request))
            await _send(writer, 200, body[: len(body) // 2], headers, length=len(body))
            return False
        status, content, body, headers = CANNED[kind]
        if kind == "huge":
            body = b"[" + b" " * (HUGE - 2) + b"]"
        await _send(writer, status, body, {"Content-Type": content, **headers})
        return True


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.split("\r\n")
    method, target, _ = line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (item.partition(":") for item in lines if item)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    path, _, query = target.partition("?")
    return Request(method, path, parse_qs(query, keep_blank_values=True), headers, body)


def _not_held(request: Request) -> Request:
    """Return the question as one that is answered at once."""
    return Request(request.method, request.path, {**request.query, "index": ["0"]}, request.headers, b"")


async def _send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    length: int | None = None,
    close: bool = False,
) -> None:
    sent = {**headers, "Content-Length": str(len(body) if length is None else length)}
    if close:
        sent["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    writer.write(f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\n{lines}\r\n".encode("latin-1") + body)
    await writer.drain()


def _body(reply: Reply) -> bytes:
    return b"" if reply.value is None else json.dumps(reply.value).encode()
