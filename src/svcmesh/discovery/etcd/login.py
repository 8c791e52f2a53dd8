"""Being somebody to etcd: user and password are given for a token, which lives some minutes and dies with the cluster.

A login costs etcd a good part of a second (bcrypt), so all who ask share one token, one of them fetches it while the
others wait, and a wrong password is not tried again at once by the next of a thousand watches.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from weakref import WeakKeyDictionary

from svcmesh.core.clock import Clock
from svcmesh.discovery.etcd.address import Credentials
from svcmesh.discovery.etcd.answers import decode_token
from svcmesh.discovery.etcd.errors import Denied, NoUsers
from svcmesh.discovery.pace import SLOWLY

PATH = "/v3/auth/authenticate"

Fetch = Callable[[bytes], Awaitable[bytes]]
"""Sends the body of a login, and returns the answer."""


class Login:
    """The token of one user. Threads: any number of loops; each fetches its own way, and the last token counts."""

    def __init__(self, credentials: Credentials | None, clock: Clock) -> None:
        self._credentials = credentials
        self._clock = clock
        self._token: str | None = None  # "": etcd asks nobody who he is
        self._password = ""  # that was sent last
        self._refused: tuple[float, str] | None = None  # until when, and why
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    def hide(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Return what may be shown of an answer to ``headers``: something in between may have sent back what it got."""
        secrets = {self._password, json.dumps(self._password)[1:-1], headers.get("Authorization", "")}
        body = body[:65536]
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            body = body.replace(secret.encode(), "…".encode())
        return body

    async def headers(self, fetch: Fetch) -> dict[str, str]:
        """Return the headers that say who we are, after a login if need be.

        Raises:
            EtcdError: etcd does not know us, or cannot be asked. DiscoveryError: the password's file.
        """
        if self._credentials is None:
            return {}
        if self._token is None:
            turn = self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
            async with turn:
                if self._token is None:
                    self._token = await self._fetched(self._credentials, fetch)
        return {"Authorization": self._token} if self._token else {}

    def forget(self, headers: Mapping[str, str]) -> None:
        """Take note that etcd did not take ``headers``; a token that somebody has got since is kept."""
        if self._token == headers.get("Authorization", ""):
            self._token = None

    async def _fetched(self, credentials: Credentials, fetch: Fetch) -> str:
        if self._refused is not None and self._clock.now() < self._refused[0]:
            raise Denied(self._refused[1], retry_after=SLOWLY)
        self._password = credentials.secret()
        body = json.dumps({"name": credentials.user, "password": self._password}).encode()
        try:
            return decode_token(await fetch(body))
        except NoUsers:
            return ""
        except Denied as error:
            self._refused = (self._clock.now() + SLOWLY, str(error))
            raise
