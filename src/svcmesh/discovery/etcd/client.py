"""Requests to etcd: one member or the next, with a token as of now, and every failure typed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from typing import Any

from svcmesh.core.clock import Clock
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.etcd.address import Access
from svcmesh.discovery.etcd.errors import PASSING_BY, Broken, Refused, Silent, TokenLost, Unreachable, error_of
from svcmesh.discovery.etcd.login import PATH, Login
from svcmesh.discovery.lines import Ask, Lines, NoAnswer, Server, Silence, Unfit, body_of, check_json, headers_of

LARGEST = 32 * 1024 * 1024
"""Bytes that an answer, or one message of a watch, may have: some 100,000 instances."""

PATIENCE = 10.0
"""Seconds without a byte after which a request that is not a watch counts as failed."""

_LEADER = {"Grpc-Metadata-hasleader": "true"}  # a member without a leader says so at once instead of being silent


class Client:
    """Asks the members of one `Access`.

    Use it inside ``async with client.open()``, which keeps connections for the block. Threads: any number of loops,
    each with connections of its own.
    """

    def __init__(self, access: Access, clock: Clock) -> None:
        self.access = access
        self._lines = Lines(access.tls, "etcd")
        self._login = Login(access.credentials, clock)
        self._best = 0  # the member that answered last

    @property
    def members(self) -> tuple[Server, ...]:
        """All members, the one that answered last first."""
        members, best = self.access.members, self._best
        return members[best:] + members[:best]

    def open(self) -> AbstractAsyncContextManager[None]:
        """Keep connections until the end of the block."""
        return self._lines.open()

    async def ask(self, path: str, body: Mapping[str, Any], *, leader: bool = True) -> bytes:
        """Ask the members in turn until one answers.

        Args:
            path: of the gateway, from ``/v3`` on. body: what becomes its JSON.
            leader: whether a member without a leader may not answer.

        Raises:
            EtcdError: that of a member that answered, else the last one's, with the others' in its text.
            DiscoveryError: a password's file that cannot be read.
        """
        content, failed = json.dumps(body).encode(), []
        for member in self.members:
            try:
                answer = await self._known(member, path, content, _LEADER if leader else {})
            except PASSING_BY as error:
                failed.append(error)
            except asyncio.CancelledError:
                self._pass_over(member)  # who was given up on is not asked first again
                raise
            else:
                self._best = self.access.members.index(member)
                return answer
        said = next((each for each in failed if isinstance(each, Broken)), failed[-1])
        said.args = ("; ".join(map(str, failed)),)
        raise said

    async def follow(self, path: str, asking: Mapping[str, Any], silence: float) -> AsyncGenerator[bytes, None]:
        """Yield the lines of an answer without end, by the member that answered last.

        Args:
            path: of the gateway. asking: what becomes its JSON. silence: seconds that may pass without a byte.

        Raises:
            EtcdError: it cannot be had, or broke off; its end is none.
        """
        member, asked = self.members[0], f"{path} at {self.members[0].shown}"
        own = await self._own_headers(member)
        ask = self._asking(member, path, json.dumps(asking).encode(), own | _LEADER, silence)
        try:
            async with self._lines.exchange(ask) as response:
                if response.status_code != 200:
                    body = self._login.hide(await body_of(response, LARGEST), own)
                    raise error_of(response.status_code, body, asked=asked)
                check_json(headers_of(response))
                async with aclosing(_split(response.aiter_bytes())) as lines:
                    async for line in lines:
                        yield line
        except Silence as error:
            raise Silent(f"{asked}: {error}") from None
        except NoAnswer as error:
            raise Unreachable(f"{asked}: {error}") from None
        except Unfit as error:
            raise Refused(f"{asked} {error}") from None
        except TokenLost:
            self._login.forget(own)
            raise

    def _pass_over(self, member: Server) -> None:
        members = self.access.members
        if members[self._best] is member:
            self._best = (self._best + 1) % len(members)

    async def _known(self, member: Server, path: str, content: bytes, headers: Mapping[str, str]) -> bytes:
        """Ask one member, as whom it knows; once more with a new token where it takes the one that we have no more."""
        own = await self._own_headers(member)
        try:
            return await self._send(member, path, content, {**own, **headers})
        except TokenLost:
            self._login.forget(own)
            if self.access.credentials is None:
                raise
        return await self._send(member, path, content, {**await self._own_headers(member), **headers})

    async def _own_headers(self, member: Server) -> dict[str, str]:
        return await self._login.headers(partial(self._send, member, PATH, headers={}))

    async def _send(self, member: Server, path: str, content: bytes, headers: Mapping[str, str]) -> bytes:
        asked = f"{path} at {member.shown}"
        try:
            async with self._lines.exchange(self._asking(member, path, content, headers, PATIENCE)) as response:
                body = await body_of(response, LARGEST)
                if response.status_code == 200:
                    check_json(headers_of(response))
        except NoAnswer as error:
            raise Unreachable(f"{asked}: {error}") from None
        except Unfit as error:
            raise Refused(f"{asked} {error}") from None
        if response.status_code != 200:
            raise error_of(response.status_code, self._login.hide(body, headers), asked=asked)
        return body

    @staticmethod
    def _asking(member: Server, path: str, content: bytes, headers: Mapping[str, str], patience: float) -> Ask:
        usual = {"Accept": "application/json", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        return Ask(member, "POST", path, {**usual, **headers}, patience, content)


async def _split(parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a body as they are complete, empty ones left out.

    Raises:
        DiscoveryError: one is too long.
    """
    begun: list[bytes] = []
    size = 0
    async for part in parts:
        *ended, rest = part.split(b"\n")
        for line in ended:
            whole = b"".join((*begun, line))
            begun, size = [], 0
            if whole:
                yield whole
        begun.append(rest)
        size += len(rest)
        if size > LARGEST:
            raise DiscoveryError(f"a message of etcd's has more than {LARGEST} bytes")
