"""The service config of a host, from the TXT record `_grpc_config.<host>`: asked for where a URI wants it.

Endpoints do not depend on it. While it cannot be had, or is none, the last one that was stays in force, which a
``config.warning`` tells. A host that has no such record any more has no config.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from svcmesh.core.clock import Clock
from svcmesh.core.emit import Emit
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.dns.addresses import Asker
from svcmesh.discovery.dns.choices import Us, chosen
from svcmesh.discovery.dns.question import Question
from svcmesh.discovery.dns.records import TXT
from svcmesh.policy.service_config import policy_of
from svcmesh.policy.translated import Translated

_TOLD = 5  # things that are left out which one warning names


def record_of(name: str) -> str:
    """Return the name of the record for a host, or for the host whose services SRV records list."""
    labels = name.split(".")
    while len(labels) > 1 and labels[0].startswith("_"):
        del labels[0]
    return ".".join(("_grpc_config", *labels))


class ServiceConfig:
    """What the config of one host says, for all watches of ``service``, one after the other.

    Args:
        question: whose name has the config, and for how long an answer is kept. us: who asks.
        service: what it is for. emit: told of what is wrong or has no counterpart, once.
        clock: what TTLs are measured by.

    Attributes:
        fields: those of a policy that hold now.
    """

    def __init__(self, question: Question, us: Us, *, service: str, clock: Clock, emit: Emit) -> None:
        self._question = question
        self._record = record_of(question.name)
        self._us = us
        self._service = service
        self._clock = clock
        self._emit = emit
        self._due = float("-inf")
        self._warned = ""
        self.fields: Mapping[str, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether it has been asked for at all."""
        return self._due > float("-inf")

    async def look(self, asker: Asker) -> float:
        """Ask again if the last answer is out of date; return for how many seconds the present one holds."""
        if self._clock.now() >= self._due:
            ttl = await self._ask(asker)
            self._due = self._clock.now() + min(max(ttl, self._question.floor), self._question.ceiling)
        return self._due - self._clock.now()

    async def _ask(self, asker: Asker) -> float:
        """Take over what name servers say, and return for how many seconds that holds."""
        try:
            reply = await asker.ask(self._record, TXT)
        except DiscoveryError as error:
            self._warn(str(error))
            return 0.0
        try:
            config = chosen(reply.texts, self._us)
            found = Translated({}) if config is None else policy_of(config)
        except (DiscoveryError, ConfigError) as error:
            self._warn(f"TXT {self._record!r}: {error}")
            return reply.ttl
        self.fields = found.fields
        more = len(found.left_out) - _TOLD
        listed = ", ".join(found.left_out[:_TOLD]) + (f" (and {more} more)" if more > 0 else "")
        self._warn(f"what TXT {self._record!r} says is not applied: {listed}" if listed else "")
        return reply.ttl

    def _warn(self, told: str) -> None:
        """Tell what is wrong now, unless that was told last; nothing: all is well."""
        if told and told != self._warned:
            self._emit("config.warning", service=self._service, error=told)
        self._warned = told
