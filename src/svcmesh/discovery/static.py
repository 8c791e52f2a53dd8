"""Endpoints that somebody wrote down: in a URI, or in a dict. They never change, and an empty list is meant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.core.snapshot import Snapshot


class StaticDiscovery:
    """The same endpoints for every service that is asked for.

    Args:
        endpoints: addresses or `Endpoint` objects.

    Raises:
        ConfigError: a malformed address, or one address twice.
    """

    def __init__(self, endpoints: Sequence[str | Endpoint]) -> None:
        self._snapshot = _snapshot("static endpoints", endpoints)

    def given(self, service: str) -> Snapshot:  # noqa: ARG002 - the same for every name
        """Return the one snapshot."""
        return self._snapshot

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield the one snapshot, then wait for ever: the end of a watch would count as a failure."""
        yield self.given(service)
        await asyncio.get_running_loop().create_future()


class DictDiscovery:
    """Endpoints by service name; a name that is not in the dict is a service without endpoints.

    Args:
        services: name -> addresses or `Endpoint` objects. It is read once: later changes of the dict have no effect.

    Raises:
        ConfigError: a malformed address, or one address twice; the message names the service.
    """

    def __init__(self, services: Mapping[str, Sequence[str | Endpoint]]) -> None:
        self._snapshots: dict[str, Snapshot] = {}
        for name, endpoints in services.items():
            if not isinstance(name, str) or not name:
                raise ConfigError(f"discovery: a service name must be a non-empty string, not {name!r}")
            self._snapshots[name] = _snapshot(f"service {name!r}", endpoints)

    @property
    def names(self) -> tuple[str, ...]:
        """The services that were given."""
        return tuple(self._snapshots)

    def given(self, service: str) -> Snapshot:
        """Return the one snapshot of ``service``; without endpoints if the dict does not have it."""
        return self._snapshots.get(service, Snapshot((), authoritative=True))

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield the one snapshot of ``service``, then wait for ever."""
        yield self.given(service)
        await asyncio.get_running_loop().create_future()


def _snapshot(where: str, endpoints: Sequence[str | Endpoint]) -> Snapshot:
    """Build the snapshot, and put ``where`` before whatever is wrong with it."""
    if isinstance(endpoints, str | bytes | Endpoint) or not isinstance(endpoints, Sequence):
        raise ConfigError(f"{where}: expected a list of addresses such as ['10.0.0.1:8080'], not {endpoints!r}")
    try:
        return Snapshot(tuple(e if isinstance(e, Endpoint) else Endpoint(e) for e in endpoints), authoritative=True)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
