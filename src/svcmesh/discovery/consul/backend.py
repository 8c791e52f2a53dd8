"""Consul as a registry: ``consul://127.0.0.1:8500``. What is asked, and how, is in the files beside this one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import replace
from random import Random

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit, silent
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.base import Announcement
from svcmesh.discovery.consul.address import Access, access
from svcmesh.discovery.consul.catalogue import Catalogue
from svcmesh.discovery.consul.client import Client
from svcmesh.discovery.consul.definition import definition
from svcmesh.discovery.consul.errors import Crowded, HungUp
from svcmesh.discovery.consul.question import Question, question_of, token_file_of
from svcmesh.discovery.consul.registration import Registrations
from svcmesh.discovery.consul.room import Displaced
from svcmesh.discovery.consul.watch import Surface, poll_query, watch_service
from svcmesh.discovery.registering import Registering
from svcmesh.discovery.shared import Seats
from svcmesh.discovery.uri_parts import Surroundings, Uri

MOST_HELD = 150
"""Services that one registry watches by a connection each; Consul takes 200 from one address."""


class ConsulRegistry(Registering):
    """Discovery and registration with Consul.

    Args:
        access: agents, credentials and TLS.
        question: what is asked for; by default all instances of the service that is watched.
        clock: what waits are measured by. emit: told of instances that cannot be used.
        rng: what spreads prepared queries.

    Nothing is dialled before the first watch or registration. Threads: all coroutines of one registry run on one loop
    at a time; a forked child has connections of its own.
    """

    def __init__(
        self,
        access: Access,
        question: Question | None = None,
        *,
        clock: Clock,
        emit: Emit = silent,
        rng: Random | None = None,
    ) -> None:
        self._access = access
        self._question = Question() if question is None else question
        client = Client(access)
        self._surface = Surface(client, clock, emit, Random() if rng is None else rng)
        # Whoever registers is found by who looks with the same URI; a prepared query finds what it says itself.
        super().__init__(Registrations(client, str if self._question.is_query else self._question.named))
        self._catalogue = Catalogue(self._surface, self._question)
        self._seats = Seats()

    @property
    def identity(self) -> str:
        """The agents, wherever their address came from, and what is asked of them."""
        access, question = self._access, self._question
        agents = ",".join(sorted(agent.shown for agent in access.agents))
        asked = sorted([("ns", access.namespace or ""), ("partition", access.partition or ""), *question.params])
        return f"consul {agents} {question.name} {asked} {question.reading.address}"

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield the instances of ``service``, at once and after each change.

        Raises:
            DiscoveryError: Consul cannot be asked, or its answer is none.
        """
        async with self._surface.client.open():
            most = 0 if self._question.is_query or self._surface.room.is_full else MOST_HELD
            with suppress(Displaced), self._seats.sit(most) as held:
                async with aclosing(self._watching(service, held=held)) as snapshots:
                    async for snapshot in snapshots:
                        yield snapshot
            async with aclosing(self._watching(service, held=False)) as snapshots:
                async for snapshot in snapshots:
                    yield snapshot

    async def _watching(self, service: str, *, held: bool) -> AsyncGenerator[Snapshot, None]:
        """Yield snapshots of a service, by a connection of its own or by those that are shared.

        Raises:
            Displaced: its own one is to be given up. DiscoveryError: as `watch`.
        """
        try:
            async with aclosing(self._asking(service, held=held)) as snapshots:
                async for snapshot in snapshots:
                    yield snapshot
        except (Crowded, HungUp) as error:
            if self._surface.room.fill(sure=isinstance(error, Crowded)) and held:
                raise Displaced from None
            raise

    def _asking(self, service: str, *, held: bool) -> AsyncGenerator[Snapshot, None]:
        if self._question.is_query:
            return poll_query(self._surface, self._question, service)
        if held:
            return watch_service(self._surface, self._question, service)
        return self._catalogue.watch(service)

    def check_announcement(self, announcement: Announcement) -> None:
        """Refuse what Consul can never take.

        Raises:
            ConfigError: naming the field.
        """
        definition(announcement)


def open_consul(uri: Uri, surroundings: Surroundings) -> ConsulRegistry:
    """Open a ``consul://``, ``consul+https://`` or ``consul+unix://`` URI; nothing is dialled.

    Raises:
        ConfigError: a malformed address, an unknown key in the query, a ``CONSUL_…`` variable that cannot be.
    """
    question = question_of(uri)
    found = access(uri, surroundings.environ, token_file=token_file_of(uri))
    asked = dict(question.params)  # who registers does so where he looks
    namespace, partition = asked.get("ns", found.namespace), asked.get("partition", found.partition)
    found = replace(found, namespace=namespace, partition=partition)
    return ConsulRegistry(found, question, clock=surroundings.clock, emit=surroundings.emit)
