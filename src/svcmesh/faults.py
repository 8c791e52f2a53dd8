"""`Mesh.faults`: what a test or a game day puts between callers and a service, for the length of a block."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from svcmesh.core.errors import ConfigError
from svcmesh.policy.fault import Fault
from svcmesh.service import Service


class Faults:
    """Faults that are put in on purpose, for a while."""

    def __init__(self, service: Callable[[str], Service]) -> None:
        self._service = service

    @contextmanager
    def inject(self, service: str | Service, *faults: Fault) -> Generator[None, None, None]:
        """Arm ``faults`` for ``service`` inside the block, for all its clients and policies.

        Args:
            service: the service, or its name. A name that nobody has exactly is found in any case, as the host of a
                URL is.
            faults: what is to happen to its calls.

        Raises:
            ConfigError: something that is no `Fault`, a name that several services have but for its case, or one that
                none can have: discovery is a dict without it.
        """
        for fault in faults:
            if not isinstance(fault, Fault):
                raise ConfigError(f"faults must be svcmesh.Fault objects, not {fault!r}")
        found = service if isinstance(service, Service) else self._service(service)
        disarm = found.view.cluster.arm(*faults)
        try:
            yield
        finally:
            disarm()
