"""Requests to Consul: one agent or the next, with credentials as of now, and every failure typed.

Connections are those of `svcmesh.discovery.lines`: a watch holds one for as long as it lives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery import lines
from svcmesh.discovery.consul.address import Access, Agent
from svcmesh.discovery.consul.errors import PASSING_BY, ConsulError, HungUp, Silent, Strange, Unreachable, error_of
from svcmesh.discovery.lines import Ask, Lines, NoAnswer, Unfit, body_of, check_json, headers_of, without

LARGEST = 32 * 1024 * 1024
"""Bytes that an answer may have: some 30,000 instances."""

PATIENCE = 10.0
"""Seconds without a byte after which a request that does not block counts as failed."""

_ALWAYS_THERE = ("/v1/health/", "/v1/catalog/")  # these lists may be empty, and are never missing

_KINDS = ((lines.HungUp, HungUp), (lines.Silence, Silent))

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


def all_of(failed: Sequence[ConsulError]) -> ConsulError:
    """Return the last error, with the others' texts before its own."""
    failed[-1].args = ("; ".join(map(str, failed)),)
    return failed[-1]


class Client:
    """Asks the agents of one `Access`.

    Use it inside ``async with client.open()``, which keeps connections for the block. Threads: any number of loops,
    each with connections of its own.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._lines = Lines(access.tls, "Consul")
        self._best = 0  # the agent that answered last

    @property
    def agents(self) -> tuple[Agent, ...]:
        """All agents, the one that answered last first."""
        agents, best = self.access.agents, self._best
        return agents[best:] + agents[:best]

    def open(self) -> AbstractAsyncContextManager[None]:
        """Keep connections until the end of the block."""
        return self._lines.open()

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
        return await self._ask("GET", path, params, None, agents, patience)

    async def put(
        self, path: str, params: Params = (), content: bytes | None = None, *, agents: Sequence[Agent] | None = None
    ) -> Answer:
        """Tell the agents in turn until one takes it; as `get`. Only for what may be said twice."""
        return await self._ask("PUT", path, params, content, agents, PATIENCE)

    async def post(self, path: str, params: Params, content: bytes) -> Answer:
        """Ask the agents in turn until one answers, with a body; as `get`."""
        return await self._ask("POST", path, params, content, None, PATIENCE)

    async def _ask(
        self,
        method: str,
        path: str,
        params: Params,
        content: bytes | None,
        agents: Sequence[Agent] | None,
        patience: float,
    ) -> Answer:
        own = [(key, value) for key, value in self._whose() if key not in dict(params)]
        target = f"{path}?{urlencode([*params, *own], quote_via=quote)}" if params or own else path
        failed: list[ConsulError] = []
        for agent in agents or self.agents:
            try:
                answer = await self._send(agent, method, path, target, content, patience)
            except PASSING_BY as error:
                failed.append(error)
                if isinstance(error, Silent):
                    self._pass_over(agent)
                continue
            self._best = self.access.agents.index(agent)
            return answer
        raise all_of(failed)

    def _pass_over(self, agent: Agent) -> None:
        """Have other agents asked before one that says nothing: that takes `PATIENCE` each time."""
        agents = self.access.agents
        if agents[self._best] is agent:
            self._best = (self._best + 1) % len(agents)

    async def _send(
        self, agent: Agent, method: str, path: str, target: str, content: bytes | None, patience: float
    ) -> Answer:
        """Make one request of one agent."""
        secrets = self.access.credentials.headers()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", **secrets}
        if content is not None:
            headers["Content-Type"] = "application/json"
        asked = f"{method} {path} at {agent.shown}"
        try:
            async with self._lines.exchange(Ask(agent, method, target, headers, patience, content)) as response:
                body, answered = await body_of(response, LARGEST), headers_of(response)
                if response.status_code == 200:
                    check_json(answered, body)
        except NoAnswer as error:
            kind = next((ours for theirs, ours in _KINDS if isinstance(error, theirs)), Unreachable)
            raise kind(f"{asked}: {error}") from None
        except Unfit as error:
            raise Strange(f"{asked} {error}") from None
        if response.status_code == 200:
            return Answer(body, answered, agent)
        raise error_of(
            response.status_code,
            without(secrets, body),
            asked=asked,
            retry_after=answered.get("retry-after"),
            is_there=path.startswith(_ALWAYS_THERE),
        )

    def _whose(self) -> Params:
        access = self.access
        return [(k, v) for k, v in (("ns", access.namespace), ("partition", access.partition)) if v is not None]
