"""Health checks by a function of the user's, plain or async. What it does must not hold up the worker."""

from __future__ import annotations

import inspect
from typing import Any

from svcmesh.core.callables import is_async
from svcmesh.core.deadline import deadline
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.own_thread import on_own_thread
from svcmesh.policy.health.check import HealthCheck
from svcmesh.policy.health.finding import Unasked, Unwell

MOST_HANGING = 64
"""Calls that have not returned in time and still run, in all. Each has a thread: no more are begun beside them."""


class FunctionAsker:
    """Calls a function with an endpoint; see `Asker`. Of one endpoint there is one call at a time."""

    def __init__(self, config: HealthCheck) -> None:
        fn: Any = config.custom_health_check
        self._fn = fn
        self._is_async = is_async(fn)
        self._timeout = config.timeout
        self._running: set[str] = set()
        self._asking = 0

    async def ask(self, endpoint: Endpoint) -> bool:
        """Return when the function says that ``endpoint`` is well."""
        with deadline(self._timeout):
            try:
                said = await (self._fn(endpoint) if self._is_async else self._ask_aside(endpoint))
            except (SystemExit, KeyboardInterrupt) as error:
                raise Unwell(f"it raised {error!r}") from None
        if said is False:
            raise Unwell(f"{_name(self._fn)} returned False", answered=True)
        if said is not None and said is not True:
            raise Unwell(f"{_name(self._fn)} returned {said!r}, neither True nor False", answered=True)
        return False

    async def _ask_aside(self, endpoint: Endpoint) -> Any:
        if endpoint.address in self._running:
            raise Unwell(f"the last call of {_name(self._fn)} has not returned")
        if len(self._running) - self._asking >= MOST_HANGING:
            raise Unasked(f"{MOST_HANGING} calls of {_name(self._fn)} have not returned")
        self._running.add(endpoint.address)
        self._asking += 1
        try:
            said = await on_own_thread(lambda: self._call(endpoint), name="svcmesh-health", exit_as=Unwell)
        finally:
            self._asking -= 1
        if inspect.isawaitable(said):  # a plain function that returns a coroutine, a lambda say
            said = await said
        return said

    def _call(self, endpoint: Endpoint) -> Any:
        try:
            return self._fn(endpoint)
        finally:
            self._running.discard(endpoint.address)

    def forget(self, endpoint: Endpoint) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is kept."""


def _name(fn: Any) -> str:
    return getattr(fn, "__qualname__", type(fn).__qualname__)
