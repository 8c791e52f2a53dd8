"""What a discovery backend is: an async generator of snapshots. The engine adds everything else for all of them.

A backend yields a `Snapshot` when it knows something, and raises when it cannot know it. It does not retry, keep
old answers, spread load or compare: back-off, last-known-good, protection from empty answers, debouncing and
diffing are the engine's (`engine/watch.py`), once for all backends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from svcmesh.core.endpoint import Locality
from svcmesh.core.snapshot import Snapshot


@runtime_checkable
class Discovery(Protocol):
    """A source of endpoints."""

    def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield a snapshot of ``service`` at once, and another after each change.

        Raising ends the watch: the engine keeps what it has, waits with jittered back-off and calls `watch` again.
        An unknown service is a snapshot without endpoints, not an error.
        """


@runtime_checkable
class Refreshing(Protocol):
    """A discovery that is told of changes by nobody, and so asks now and then: it can be asked to ask now."""

    def refresh(self, service: str) -> None:
        """Ask for ``service`` again, as soon as the backend thinks fit. Called on the loop of its watches.

        Somebody could not connect to an endpoint, so what is known may be out of date. It is said once a failure, so
        the backend sees to it that a thousand of them are not a thousand questions.
        """


@dataclass(frozen=True, slots=True)
class Lag:
    """What a discovery goes on with although it cannot ask for it: the instant since when, and why."""

    since: float
    error: str


@runtime_checkable
class Lagging(Protocol):
    """A discovery of several parts, which goes on with what a part of it said last while that one fails."""

    def lag(self, service: str) -> Lag | None:
        """Return since when some of what was said last of ``service`` may be out of date; None: it is not.

        By the clock of the mesh. Never raises; asked on any thread, off the success path.
        """


@runtime_checkable
class Given(Protocol):
    """A discovery whose endpoints were given and never change: nothing has to be watched, so nothing is started."""

    def given(self, service: str) -> Snapshot:
        """Return the one snapshot of ``service`` there will ever be."""


@runtime_checkable
class Named(Protocol):
    """A discovery that knows, without waiting, which services it has.

    Hosts of URLs have no case. Where this is known, ``http://orders/`` finds a service that is called ``Orders``.
    """

    @property
    def names(self) -> Iterable[str]:
        """The names of all services that are known now. Never raises; asked on any thread, off the success path."""


@runtime_checkable
class Identified(Protocol):
    """A discovery that says who is behind it, where its URI or its class would not tell it from another.

    What a registry said may outlive the process that heard it, and must not be taken for what another one said.
    """

    @property
    def identity(self) -> str | None:
        """Who is asked, and for what, as text that is the same in each process and holds no secret.

        None: there is nobody who could be away when a process starts, so nothing has to outlive it.
        """


@dataclass(frozen=True)
class Announcement:
    """What a process says of itself when it registers.

    Attributes:
        service: the name others call it by. id: unique among the instances of that name.
        address: what others dial. ttl: seconds after the last heartbeat at which it counts as gone.
    """

    service: str
    id: str
    address: str
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = field(default_factory=dict)
    weight: float = 1
    locality: Locality | None = None
    ttl: float = 10.0
    check: Any = None


@runtime_checkable
class Registrar(Protocol):
    """A registry that a process can announce itself to. All three may raise `DiscoveryError`; the engine retries."""

    async def register(self, announcement: Announcement) -> None:
        """Announce, or announce again: idempotent."""

    async def heartbeat(self, announcement: Announcement) -> bool | None:
        """Say that the process is alive; registers again where the registry has lost it, and returns True then."""

    async def deregister(self, announcement: Announcement) -> None:
        """Take the announcement back; harmless when it is gone already."""

    async def drain(self, announcement: Announcement) -> None:
        """Ask callers to send nothing new, while calls in flight are finished."""


@runtime_checkable
class Particular(Protocol):
    """A registrar that cannot take every announcement. It says so before anything is tried in the background."""

    def check_announcement(self, announcement: Announcement) -> None:
        """Refuse what it can never take. Asks nobody.

        Raises:
            ConfigError: naming the field.
        """
