"""DNS as a registry: ``dns:///orders.example.org:8080`` and ``dns+srv:///_orders._tcp.example.org``.

DNS tells nobody of a change, so its names are asked for again when their time to live is over, and not only when a
connection breaks: a client whose connections are well would else never see an instance that was added. When a host
refuses connections it may have moved, so then the name is asked for at once, once a second at most.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

from cachetools import LRUCache

from svcmesh.core.clock import Clock, sleep_until, wait_for
from svcmesh.core.emit import Emit, silent
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.dns.addresses import REMEMBERED, Asker, Hosts, Known
from svcmesh.discovery.dns.choices import Us
from svcmesh.discovery.dns.client import Client
from svcmesh.discovery.dns.hosts import listed
from svcmesh.discovery.dns.lookup import Found, look_up_host, look_up_services
from svcmesh.discovery.dns.question import Question, question_of
from svcmesh.discovery.dns.service_config import ServiceConfig
from svcmesh.discovery.uri_parts import Surroundings, Uri

APART = 1.0
"""Seconds between two looks at least, however many hosts refuse connections."""

_LATE = 0.1  # part of a TTL by which it may be exceeded, so that not all who learnt of a name together ask together


class DnsDiscovery:
    """Endpoints by name, from DNS.

    Args:
        question: what is asked for.
        clock: what TTLs are measured by. emit: told of records that cannot be used.
        rng: what spreads the questions of many clients, and chooses among configs. client: asks, instead of dnspython.

    A name that does not exist is a service without endpoints, and is believed as the engine believes any empty answer;
    an SRV record that says so is believed at once. Threads: watches and `refresh` on one loop.
    """

    def __init__(
        self,
        question: Question,
        *,
        clock: Clock,
        emit: Emit = silent,
        rng: Random | None = None,
        client: Asker | None = None,
    ) -> None:
        self._question = question
        self._clock = clock
        self._emit = emit
        self._rng = Random() if rng is None else rng
        self._client = client
        self._known: Known = Known(REMEMBERED)
        self._doubts: dict[str, set[asyncio.Future[None]]] = {}
        self._us = Us(socket.gethostname(), 100 * self._rng.random()) if question.grpc_config else None
        self._configs: LRUCache[str, ServiceConfig] = LRUCache(REMEMBERED)

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield the endpoints of ``service``, at once and after each further look.

        Raises:
            DiscoveryError: name servers cannot be asked, or their answer is none.
        """
        question = self._question.about(service)
        address = _literal(question)
        if address is not None:
            yield Snapshot((Endpoint(address),), authoritative=True)
            await asyncio.get_running_loop().create_future()
        client = Client(question) if self._client is None else self._client
        look, config = self._looking(question, client), self._config(question, service)
        left_out: tuple[str, ...] = ()
        while True:
            began = self._clock.now()
            found = await look()
            if found.left_out != left_out and found.left_out:
                told = f"{len(found.left_out)} SRV records of {question.name!r} cannot be used; {found.left_out[0]}"
                self._emit("config.warning", service=service, error=told)
            left_out = found.left_out
            if config is not None and not config.asked:
                await config.look(client)  # the first calls are to go by it; later no endpoint waits for it
            sent = _sent(config)
            yield Snapshot(found.endpoints, policy=sent, authoritative=found.absent)
            ttl = found.ttl if config is None else min(found.ttl, await config.look(client))
            if _sent(config) != sent:
                yield Snapshot(found.endpoints, policy=_sent(config), authoritative=found.absent)
            await self._rest(service, began, self._keep(ttl))

    def refresh(self, service: str) -> None:
        """Look ``service`` up again as soon as it may be: somebody could not connect to what was found."""
        for doubt in self._doubts.get(service, ()):
            if not doubt.done():
                doubt.set_result(None)

    def _config(self, question: Question, service: str) -> ServiceConfig | None:
        """Return what asks for the config of a service, where one is wanted; the same as for its last watch."""
        if self._us is None:
            return None
        found = self._configs.get(service)
        if found is None:
            found = ServiceConfig(question, self._us, service=service, clock=self._clock, emit=self._emit)
            self._configs[service] = found
        return found

    def _looking(self, question: Question, client: Asker) -> Callable[[], Awaitable[Found]]:
        """Return what looks the name up once."""
        by_file = listed if not question.servers else _nothing_listed
        hosts = Hosts(client, question.families, self._known, by_file, question.floor, self._clock)
        if question.srv:
            return partial(look_up_services, client, hosts, question.name)
        return partial(look_up_host, hosts, question.name, question.port or 0)

    def _keep(self, ttl: float) -> float:
        """Return for how many seconds an answer is kept."""
        kept = min(max(ttl, self._question.floor), self._question.ceiling)
        return kept * (1.0 + _LATE * self._rng.random())

    async def _rest(self, service: str, began: float, seconds: float) -> None:
        """Wait until an answer is out of date, or somebody doubts it."""
        doubt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        doubts = self._doubts.setdefault(service, set())
        doubts.add(doubt)
        try:
            if await wait_for(self._clock, doubt, self._clock.now() + seconds):
                await sleep_until(self._clock, began + APART)
        finally:
            doubts.discard(doubt)
            if not doubts:
                self._doubts.pop(service, None)


def open_dns(uri: Uri, surroundings: Surroundings) -> DnsDiscovery:
    """Open a ``dns://`` or ``dns+srv://`` URI; nothing is asked.

    Raises:
        ConfigError: what `question_of` refuses.
    """
    return DnsDiscovery(question_of(uri), clock=surroundings.clock, emit=surroundings.emit)


def _sent(config: ServiceConfig | None) -> dict[str, Any] | None:
    """Return what is sent of a config."""
    return None if config is None else dict(config.fields) or None


def _literal(question: Question) -> str | None:
    """Return the address where the name is one already, as in ``dns:///10.0.0.1:80``."""
    if question.srv:
        return None
    host = question.name.removeprefix("[").removesuffix("]")
    with suppress(ValueError):
        version = ipaddress.ip_address(host).version
        return f"{host}:{question.port}" if version == 4 else f"[{host}]:{question.port}"
    return None


def _nothing_listed(host: str) -> list[str]:  # noqa: ARG001 - the signature of `listed`
    """List nothing: who names a server wants to know what that one says."""
    return []
