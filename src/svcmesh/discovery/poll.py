"""Any registry by a plain function: ``poll(fn, every)``.

Whoever can ask a registry for a list has a backend. The function may be a coroutine; one that is none may block, so it
runs on a thread of its own, a daemon that ends with the call: a mesh that is closed while the function hangs does not
wait for it.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from random import Random
from typing import Any

from svcmesh.core import checks
from svcmesh.core.callables import is_async, takes_one
from svcmesh.core.clock import SYSTEM, Clock, sleep_until
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.core.own_thread import on_own_thread
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.uri_parts import Surroundings

Listed = Snapshot | Iterable[str | Endpoint]
"""What a function may return: addresses or endpoints, or a whole snapshot."""

Function = Callable[[str], Listed | Awaitable[Listed]]
"""What is asked, with the name of a service."""

_JITTER = 0.1


def poll(fn: Function, every: float) -> Poll:
    """Return a discovery that asks ``fn`` every so many seconds.

    Args:
        fn: called with the name of a service; returns addresses, `Endpoint` objects or a `Snapshot`, or a coroutine
            that does. What it raises is a failure of the registry: what was known stays, and it is asked again with
            back-off. It may block. An empty list is believed when it has come several times, as from any registry;
            ``Snapshot((), authoritative=True)`` at once.
        every: seconds between two answers, more than 0, spread by a tenth.

    Raises:
        ConfigError: ``fn`` cannot be called with a name; ``every`` is no such number.

    Threads: a blocking ``fn`` is called on a thread of its own, one call at a time for each service that is watched.
    """
    return Poll(fn, every)


class Poll:
    """A discovery by a function, see `poll`."""

    def __init__(self, fn: Function, every: float, *, clock: Clock = SYSTEM, rng: Random | None = None) -> None:
        if not callable(fn) or not takes_one(fn):
            raise ConfigError(f"fn must be a function of a service's name, not {fn!r}")
        self._fn = fn
        self._is_async = is_async(fn)
        self._every = checks.duration("every", every)
        self._clock = clock
        self._rng = Random() if rng is None else rng

    def opened(self, surroundings: Surroundings) -> Poll:
        """Return the same by the clock of a mesh."""
        return Poll(self._fn, self._every, clock=surroundings.clock)

    @property
    def identity(self) -> str:
        """The function: what else it reads, only its author knows."""
        named = self._fn if hasattr(self._fn, "__qualname__") else type(self._fn)
        return f"poll {named.__module__}.{named.__qualname__}"

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        """Yield what the function returns, each time.

        Raises:
            DiscoveryError: it returned something else. Whatever the function raises comes through.
        """
        while True:
            yield snapshot_of(self._fn, await self._ask(service))
            spread = 1.0 + _JITTER * (2.0 * self._rng.random() - 1.0)
            await sleep_until(self._clock, self._clock.now() + self._every * spread)

    async def _ask(self, service: str) -> Any:
        asked: Any = self._fn(service) if self._is_async else await self._ask_aside(service)
        return await asked if inspect.isawaitable(asked) else asked

    async def _ask_aside(self, service: str) -> Any:
        return await on_own_thread(lambda: self._fn(service), name="svcmesh-poll", exit_as=DiscoveryError)


def snapshot_of(fn: Function, found: Any) -> Snapshot:
    """Return what a function returned as a snapshot.

    Raises:
        DiscoveryError: it is none, and no list of endpoints or addresses.
    """
    if isinstance(found, Snapshot):
        return found
    if found is None or isinstance(found, str | bytes | Endpoint) or not isinstance(found, Iterable):
        name = getattr(fn, "__qualname__", type(fn).__name__)
        raise DiscoveryError(f"{name} returned {found!r}: return a list of addresses such as ['10.0.0.1:8080']")
    try:
        return Snapshot(tuple(each if isinstance(each, Endpoint) else Endpoint(each) for each in found))
    except ConfigError as error:
        raise DiscoveryError(f"{getattr(fn, '__qualname__', type(fn).__name__)} returned a list with {error}") from None
