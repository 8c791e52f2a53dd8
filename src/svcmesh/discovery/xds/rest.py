"""The REST form of xDS: the state of the world, asked for again and again by POSTs of JSON.

One request and one answer for each kind of resource; 304 says that the version which the request names is the newest.
Accepting and refusing is the business of the next request. The rest is as on a stream, so a poll is one: requests
are written, and what is read is the next answer that is news.

Source: Envoy, "REST-JSON polling subscriptions".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from svcmesh.core.clock import Clock, wait_for
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.documents import text_of
from svcmesh.discovery.elements import Known
from svcmesh.discovery.lines import Ask, Lines, NoAnswer, Server, Unfit, body_of, check_json, headers_of, seconds_of
from svcmesh.discovery.xds.dialect import Dialect, Said
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.plain import decode_plain, parse_plain

LARGEST = 64 * 1024 * 1024
"""Bytes that an answer may have."""

PATIENCE = 10.0
"""Seconds that may pass without a byte of an answer."""

_PATHS = {
    Kind.LISTENER: "/v3/discovery:listeners",
    Kind.ROUTES: "/v3/discovery:routes",
    Kind.CLUSTER: "/v3/discovery:clusters",
    Kind.ENDPOINTS: "/v3/discovery:endpoints",
}
_INVALID_ARGUMENT = 3
_SHOWN = 200  # characters of an answer that an error shows


class PlainWorld(Dialect):
    """The state of the world in JSON. ``node`` says who we are, in every request."""

    def __init__(self, node: Mapping[str, Any]) -> None:
        self._node = node
        self._known = Known()
        self._versions = dict.fromkeys(Kind, "")
        self._named: dict[Kind, frozenset[str]] = dict.fromkeys(Kind, frozenset())

    def ask(self, kind: Kind, names: Collection[str]) -> bytes | None:
        """Return a request with all names, if they are others than in the last one."""
        if frozenset(names) == self._named[kind]:
            return None
        self._named[kind] = frozenset(names)
        self._versions[kind] = ""  # one that names what it has not sent yet cannot be the newest
        return self._request(kind, "")

    def hear(self, content: bytes) -> Said:
        """Return what an answer says; before it stands the type that was asked for, and a line feed."""
        head, _, body = content.partition(b"\n")
        kind = Kind(head.decode())
        document = parse_plain(kind, text_of(body, "the answer"), "the answer", self._known)
        listed, version = _in_response(document) if isinstance(document, dict) else (None, None)
        if not isinstance(listed, list) or not isinstance(version, str):
            raise DiscoveryError("what came is no DiscoveryResponse, which has version_info and resources")
        found = tuple(decode_plain(kind, one) for one in listed)
        return Said(kind, "", version, found, whole=kind.listed_whole)

    def answer(self, said: Said) -> bytes | None:
        """Return the request that comes next: with the new version, or with the old one and a reason."""
        if said.kind is None:
            return None
        reason = said.refusal()
        if not reason:
            self._versions[said.kind] = said.version
        return self._request(said.kind, reason)

    def _request(self, kind: Kind, reason: str) -> bytes:
        request: dict[str, Any] = {
            "version_info": self._versions[kind],
            "node": self._node,
            "resource_names": sorted(self._named[kind]),
            "type_url": kind.value,
        }
        if reason:
            request["error_detail"] = {"code": _INVALID_ARGUMENT, "message": reason, "details": []}
        return json.dumps(request).encode()


def _in_response(document: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return resources and version, in both spellings that JSON allows; null is as good as nothing."""
    version = document.get("version_info", document.get("versionInfo"))
    listed = document.get("resources")
    return [] if listed is None else listed, "" if version is None else version


class Poll:
    """Requests to one server: at once when other names are wanted, and else every few seconds.

    Args:
        lines: connections that are open. server: whom to ask.
        every: seconds between two rounds, spread by a tenth. clock: what they are measured by.
    """

    def __init__(self, lines: Lines, server: Server, every: float, clock: Clock) -> None:
        self._lines = lines
        self._server = server
        self._every = every
        self._clock = clock
        self._chance = Random()
        self._requests: dict[Kind, bytes] = {}
        self._names: dict[Kind, list[str]] = {}
        self._due: list[Kind] = []
        self._next = clock.now() + every
        self._error: DiscoveryError | None = None
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def write(self, message: bytes) -> None:
        """Make this the next request for its kind; no names: ask no more."""
        request = json.loads(message)
        kind, names = Kind(request["type_url"]), request["resource_names"]
        before = self._names.get(kind, [])
        self._requests[kind], self._names[kind] = message, names
        if names != before:
            self._due = [*(one for one in self._due if one is not kind), *([kind] if names else [])]
            self._wake()

    async def read(self) -> bytes:
        """Return the next answer that is news, behind its kind.

        Raises:
            DiscoveryError: the server cannot be asked, or refuses.
        """
        while True:
            if self._error is not None:
                raise self._error
            if self._due:
                kind = self._due.pop(0)
                body = await self._post(kind)
                if body is not None:
                    return kind.value.encode() + b"\n" + body
            elif self._clock.now() >= self._next:
                self._next = self._clock.now() + self._every * self._chance.uniform(0.9, 1.1)
                self._due = [kind for kind, names in self._names.items() if names]
            else:
                self._news = asyncio.get_running_loop().create_future()
                await wait_for(self._clock, self._news, self._next)

    def abort(self, error: DiscoveryError) -> None:
        """Have `read` raise ``error`` once the request that is under way has ended."""
        self._error = self._error or error
        self._wake()

    def _wake(self) -> None:
        if not self._news.done():
            self._news.set_result(None)

    async def _post(self, kind: Kind) -> bytes | None:
        """Ask for a kind; return the answer, None if that was known."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        asked = f"POST {_PATHS[kind]} at {self._server.shown}"
        ask = Ask(self._server, "POST", _PATHS[kind], headers, PATIENCE, self._requests[kind])
        try:
            async with self._lines.exchange(ask) as response:
                body, answered = await body_of(response, LARGEST), headers_of(response)
                if response.status_code == 200:
                    check_json(answered, body)
                    return body
        except NoAnswer as error:
            raise DiscoveryError(f"{asked}: {error}") from None
        except Unfit as error:
            raise DiscoveryError(f"{asked} {error}") from None
        if response.status_code == 304:
            return None
        told = " ".join(body[: 4 * _SHOWN].decode("utf-8", errors="replace").split())[:_SHOWN]
        hint = "; it knows none of the names, or is no control plane" if response.status_code == 404 else ""
        retry_after = seconds_of(answered.get("retry-after"))
        raise DiscoveryError(f"{asked} answered {response.status_code}: {told}{hint}", retry_after=retry_after)


@asynccontextmanager
async def open_poll(lines: Lines, server: Server, every: float, clock: Clock) -> AsyncGenerator[Poll, None]:
    """Have a poll for the block; nothing is asked yet. Arguments as of `Poll`."""
    async with lines.open():
        yield Poll(lines, server, every, clock)
