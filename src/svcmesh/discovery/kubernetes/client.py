"""Requests to the API server: pages of a list, and watches line by line, every failure typed.

Connections are those of `svcmesh.discovery.lines`: a watch holds one for as long as it lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import NamedTuple
from urllib.parse import quote, urlencode

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.elements import Known
from svcmesh.discovery.kubernetes.access import Access
from svcmesh.discovery.kubernetes.answers import Event, Page, decode_event, decode_page
from svcmesh.discovery.kubernetes.errors import KubernetesError, Unreachable, error_of
from svcmesh.discovery.kubernetes.slices import SERVICE_LABEL
from svcmesh.discovery.lines import Ask, Lines, NoAnswer, Reply, Unfit, body_of, check_json, headers_of, without
from svcmesh.discovery.pace import SLOWLY

PAGE = 100
"""Slices that are asked for at a time: at most 100 endpoints each, unless somebody has raised that."""

LARGEST = 64 * 1024 * 1024
"""Bytes that a page may have: a hundred slices of a thousand endpoints."""

LONGEST_LINE = 8 * 1024 * 1024
"""Bytes that a line of a watch may have: one object, of which etcd stores 1.5 MB."""

PATIENCE = 30.0
"""Seconds without a byte after which a request counts as failed. A busy API server queues for up to 15."""

SILENCE = 90.0
"""Seconds after which a watch that says nothing may be dead. Bookmarks come about once a minute; where they do not, it
costs a request to go on."""

_SHOWN = 4096  # bytes of a bad answer that are read


class Scope(NamedTuple):
    """What is watched: the slices of one service of a namespace, or, with ``service`` "", all that belong to one."""

    namespace: str
    service: str = ""

    @property
    def path(self) -> str:
        """The path of the slices of the namespace."""
        return f"/apis/discovery.k8s.io/v1/namespaces/{quote(self.namespace, safe='')}/endpointslices"

    @property
    def selector(self) -> str:
        """Which of these are meant."""
        return f"{SERVICE_LABEL}={self.service}" if self.service else SERVICE_LABEL

    def asked(self, verb: str, server: str) -> str:
        """Return what messages call a request."""
        whose = f"service {self.service}" if self.service else "all services"
        return f"{verb} endpointslices of {whose} in namespace {self.namespace} at {server}"


class Client:
    """Asks one API server. Use it inside ``async with client.open()``. Threads: any number of loops."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._lines = Lines(access.tls, "the API server")

    def open(self) -> AbstractAsyncContextManager[None]:
        """Keep connections until the end of the block."""
        return self._lines.open()

    async def page(self, scope: Scope, more: str = "", limit: int = PAGE, known: Known | None = None) -> Page:
        """Return a page of what is there now: the first one, or the one that ``more`` of the last one asks for.

        ``known``: as of `decode_page`.

        Without a version the answer is never older than anything that was seen before; API servers give it from memory
        (since 1.31), and in pages.

        Raises:
            Gone: ``more`` is too old. KubernetesError: nobody answers, or refuses. DiscoveryError: it is no page.
        """
        params = {"labelSelector": scope.selector, "limit": str(limit)}
        if more:
            params["continue"] = more
        async with self._asked(scope, "list", params, PATIENCE) as response:
            return decode_page(await body_of(response, LARGEST), known)

    async def watch(self, scope: Scope, version: str, seconds: float) -> AsyncGenerator[list[Event], None]:
        """Yield what has changed since ``version``, as it comes, until the API server ends it after ``seconds``.

        Raises:
            Gone: the version is too old. Unreachable: it broke off. KubernetesError: refused. DiscoveryError: nonsense.
        """
        params = {
            "labelSelector": scope.selector,
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(round(seconds)),
        }
        asked = scope.asked("watch", self.access.server.shown)
        patience = min(SILENCE, seconds + PATIENCE)
        async with self._asked(scope, "watch", params, patience) as response:
            rest = bytearray()
            async for part in response.aiter_bytes():
                lines = _lines(rest, part)
                if len(rest) > LONGEST_LINE:
                    raise Unfit(f"answered with a line of more than {LONGEST_LINE} bytes")
                if lines:
                    yield [decode_event(line, asked) for line in lines]
            if rest.strip():
                raise NoAnswer("it ended in the middle of a line")

    @asynccontextmanager
    async def _asked(
        self, scope: Scope, verb: str, params: Mapping[str, str], patience: float
    ) -> AsyncGenerator[Reply, None]:
        """Make a request, and return its answer if it is a good one."""
        secrets = self.access.credentials.headers()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", **secrets}
        target = f"{scope.path}?{urlencode(params, quote_via=quote)}"
        asked = scope.asked(verb, self.access.server.shown)
        ask = Ask(self.access.server, "GET", target, headers, patience)
        try:
            async with _begun(self._lines.exchange(ask)) as response:
                answered = headers_of(response)
                if response.status_code != 200:
                    body = without(secrets, await _beginning(response))
                    raise error_of(
                        response.status_code, body, asked=asked, retry_after=answered.get("retry-after")
                    ) from None
                check_json(answered)
                yield response
        except NoAnswer as error:
            raise Unreachable(f"{asked}: {error}") from None
        except Unfit as error:
            raise KubernetesError(f"{asked} {error}", retry_after=SLOWLY) from None
        except KubernetesError:
            raise
        except DiscoveryError as error:
            raise KubernetesError(f"{asked}: {error}") from None


@asynccontextmanager
async def _begun(exchange: AbstractAsyncContextManager[Reply]) -> AsyncGenerator[Reply, None]:
    """Have the head of an answer within `PATIENCE`, however long the rest may take: a watch begins at once."""
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(PATIENCE):
                response = await stack.enter_async_context(exchange)
        except TimeoutError:
            raise NoAnswer(f"no answer for {PATIENCE:g} s") from None
        yield response


async def _beginning(response: Reply) -> bytes:
    """Return what of a bad answer is worth reading: it may be long, and need not end."""
    found = bytearray()
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            async for part in response.aiter_bytes():
                found += part
                if len(found) >= _SHOWN:
                    break
    return bytes(found)


def _lines(rest: bytearray, part: bytes) -> list[bytes]:
    """Return the lines that ``part`` ends, and keep in ``rest`` what it begins."""
    end = part.rfind(b"\n")
    if end < 0:
        rest += part
        return []
    whole = bytes(rest) + part[:end]
    rest[:] = part[end + 1 :]
    return [line for line in whole.split(b"\n") if line.strip()]
