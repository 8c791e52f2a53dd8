"""Requests to Consul: one agent or the next, with credentials as of now, and every failure typed.

httpx carries them, imported when the first one is made. Its connections are shared by all who ask at the same time and
closed when nobody does: a watch holds one for as long as it lives, and a cancelled request closes its own at once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.consul.address import Access, Agent, Tls
from svcmesh.discovery.consul.errors import PASSING_BY, ConsulError, Refused, Unreachable, error_of

if TYPE_CHECKING:
    import httpx

LARGEST = 32 * 1024 * 1024
"""Bytes that an answer may have: some 30,000 instances."""

PATIENCE = 10.0
"""Seconds without a byte after which a request that does not block counts as failed."""

_CONNECT = 5.0
_SLOWEST = 60.0  # seconds that a body may take once it has begun

Params = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer. ``headers`` by lower-case name; ``agent`` is who gave it."""

    body: bytes
    headers: Mapping[str, str]
    agent: Agent


def segment(name: str) -> str:
    """Return a name as one segment of a path.

    Raises:
        DiscoveryError: it holds a line feed or NUL, which Consul refuses, or is no Unicode.
    """
    try:
        quoted = quote(name, safe="")
    except UnicodeEncodeError:
        quoted = ""
    if not quoted or any(letter in name for letter in "\n\r\0"):
        raise DiscoveryError(f"Consul takes no name such as {name[:80]!r}")
    return quoted


class Client:
    """Asks the agents of one `Access`.

    Use it inside ``async with client.open()``, which keeps connections for the block. Threads: any number of loops,
    each with connections of its own.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._opened: dict[asyncio.AbstractEventLoop, _Lines] = {}
        self._best = 0  # the agent that answered last

    @property
    def agents(self) -> tuple[Agent, ...]:
        """All agents, the one that answered last first."""
        agents, best = self.access.agents, self._best
        return agents[best:] + agents[:best]

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None, None]:
        """Keep connections until the end of the block."""
        loop = asyncio.get_running_loop()
        lines = self._opened.get(loop)
        if lines is None:
            for gone in [other for other in self._opened if other.is_closed()]:
                del self._opened[gone]  # of a process that forked, or of a loop that ended without us
            lines = self._opened[loop] = _Lines(self.access)
        lines.users += 1
        try:
            yield
        finally:
            lines.users -= 1
            if not lines.users:
                self._opened.pop(loop, None)
                await lines.close()

    async def get(
        self, path: str, params: Params = (), *, agents: Sequence[Agent] | None = None, patience: float = PATIENCE
    ) -> Answer:
        """Ask the agents in turn until one answers.

        Args:
            path: quoted, from ``/v1`` on. params: what follows the question mark.
            agents: who may be asked; default `agents`.
            patience: seconds that may pass without a byte.

        Raises:
            ConsulError: the last agent's, with the others' in its text.
        """
        return _genuine(await self._ask("GET", path, params, None, agents, patience), f"GET {path}")

    async def put(
        self, path: str, params: Params = (), content: bytes | None = None, *, agents: Sequence[Agent] | None = None
    ) -> Answer:
        """Tell the agents in turn until one takes it; as `get`. Only for what may be said twice."""
        return _genuine(await self._ask("PUT", path, params, content, agents, PATIENCE), f"PUT {path}")

    async def _ask(
        self,
        method: str,
        path: str,
        params: Params,
        content: bytes | None,
        agents: Sequence[Agent] | None,
        patience: float,
    ) -> Answer:
        lines = self._opened[asyncio.get_running_loop()]
        own = [(key, value) for key, value in self._whose() if key not in dict(params)]
        target = f"{path}?{urlencode([*params, *own], quote_via=quote)}" if params or own else path
        failed: list[ConsulError] = []
        for agent in agents or self.agents:
            try:
                answer = await lines.send(agent, method, path, target, content, patience)
            except PASSING_BY as error:
                failed.append(error)
                continue
            self._best = self.access.agents.index(agent)
            return answer
        failed[-1].args = ("; ".join(map(str, failed)),)
        raise failed[-1]

    def _whose(self) -> Params:
        access = self.access
        return [(k, v) for k, v in (("ns", access.namespace), ("partition", access.partition)) if v is not None]


def _genuine(answer: Answer, asked: str) -> Answer:
    """Return an answer that Consul can have given: a proxy's page says 200, too."""
    kind = answer.headers.get("content-type", "application/json")
    if answer.body and "json" not in kind:
        told = f"{kind[:80]!r} instead of JSON: is a proxy in between?"
        raise Refused(f"{asked} at {answer.agent.shown} answered with {told}")
    return answer


class _Lines:
    """The connections of one loop to all agents: one for each request that is under way at the same time.

    Each has a transport of its own. A pool of httpcore looks at all of its connections for each of them with every
    request, which at 150 of them takes longer than everything else together.
    """

    def __init__(self, access: Access) -> None:
        self.users = 0
        self._access = access
        self._idle: dict[Agent, list[httpx.AsyncHTTPTransport]] = {}
        self._context: ssl.SSLContext | None = None

    async def send(
        self, agent: Agent, method: str, path: str, target: str, content: bytes | None, patience: float
    ) -> Answer:
        """Make one request of one agent."""
        import httpx

        headers = {"Accept": "application/json", "Accept-Encoding": "identity", **self._access.credentials.headers()}
        if content is not None:
            headers["Content-Type"] = "application/json"
        asked = f"{method} {path} at {agent.shown}"
        timeout = {"connect": _CONNECT, "read": patience, "write": PATIENCE, "pool": PATIENCE}
        extensions: dict[str, Any] = {"timeout": timeout}
        if self._access.tls.server_name is not None:
            extensions["sni_hostname"] = self._access.tls.server_name
        try:
            request = httpx.Request(method, agent.url + target, headers=headers, content=content, extensions=extensions)
            return await self._exchange(agent, request, asked)
        except TimeoutError:
            raise Unreachable(f"{asked}: the answer did not end within {_SLOWEST:g} s") from None
        except (httpx.TransportError, httpx.StreamError, httpx.DecodingError) as error:
            if isinstance(error, httpx.ConnectError):
                self._context = None  # files of TLS may have been replaced
            raise Unreachable(f"{asked}: {_transport_text(error, patience)}") from None
        except httpx.InvalidURL as error:
            raise Refused(f"{method} {path}: {error}") from None

    async def close(self) -> None:
        """Close all connections."""
        idle, self._idle = self._idle, {}
        for transports in idle.values():
            for transport in transports:
                await transport.aclose()

    async def _exchange(self, agent: Agent, request: httpx.Request, asked: str) -> Answer:
        """Send a request on an idle connection or a new one, which is idle afterwards unless something broke."""
        idle = self._idle.setdefault(agent, [])
        transport = idle.pop() if idle else self._transport(agent)
        kept = False
        try:
            response = await transport.handle_async_request(request)
            try:
                async with asyncio.timeout(_SLOWEST):  # a body that drips would else never be late
                    body = await _body(response, asked)
            finally:
                await response.aclose()
            kept = True
        finally:
            if kept and self.users:
                idle.append(transport)
            else:
                await transport.aclose()
        return self._answer(response, body, agent, asked)

    def _answer(self, response: httpx.Response, body: bytes, agent: Agent, asked: str) -> Answer:
        headers = {name.lower(): value for name, value in response.headers.items()}
        if response.status_code == 200:
            return Answer(body, headers, agent)
        raise error_of(
            response.status_code, self._without_secrets(body), asked=asked, retry_after=headers.get("retry-after")
        )

    def _without_secrets(self, body: bytes) -> bytes:
        """Return what may be shown of an answer: something between us and Consul may have sent our token back."""
        body = body[:65536]
        for secret in self._access.credentials.headers().values():
            for text in {secret, secret.removeprefix("Basic ")}:
                body = body.replace(text.encode(), "…".encode())
        return body

    def _transport(self, agent: Agent) -> httpx.AsyncHTTPTransport:
        import httpx

        verify: ssl.SSLContext | bool = False
        if agent.url.startswith("https:"):
            self._context = verify = self._context or tls_context(self._access.tls)
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30.0)
        return httpx.AsyncHTTPTransport(verify=verify, limits=limits, uds=agent.socket, trust_env=False)


async def _body(response: httpx.Response, asked: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > LARGEST:
            raise Refused(f"{asked} answered with more than {LARGEST} bytes")
        parts.append(part)
    return b"".join(parts)


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return a context that trusts and shows what ``tls`` names.

    Raises:
        DiscoveryError: a file is missing, or not what it should be.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file, capath=tls.ca_path)
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # SSLError is one
        files = ", ".join(name for name in (tls.ca_file, tls.ca_path, tls.certificate, tls.key) if name is not None)
        raise DiscoveryError(f"TLS for Consul cannot be set up from {files}: {error.strerror or error}") from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _transport_text(error: Exception, patience: float) -> str:
    import httpx

    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {_CONNECT:g} s"
    if isinstance(error, httpx.TimeoutException):
        return f"no answer for {patience:g} s"
    if isinstance(error, httpx.ConnectError):
        return f"cannot connect ({error}): is Consul running there?"
    return str(error) or type(error).__name__
