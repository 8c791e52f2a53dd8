"""Snapshots as anybody's backend yields them, so that whatever is wrong with it is an error of one watch.

A backend runs on the worker, beside all others and every heartbeat. What would end a program or a loop ends neither
here; one that never waits for anything lets the others run all the same.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from svcmesh.core.clock import heed_cancellation
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.base import Discovery

_FATAL = (SystemExit, KeyboardInterrupt)
"""What asyncio ends a whole loop for, wherever it was raised."""


async def snapshots_of(discovery: Discovery, service: str) -> AsyncGenerator[Snapshot, None]:
    """Yield what ``discovery`` says of ``service``, and close its generator.

    Raises:
        DiscoveryError: it yields something else, cannot be iterated over, exits, or cancels itself. Other exceptions
            come through.
    """
    named = f"{type(discovery).__name__}.watch"
    found: Any = None
    try:
        found = discovery.watch(service)
        _check_iterable(found, named)
        async for snapshot in found:
            heed_cancellation()  # a backend may lose it: in Python 3.11 even `asyncio.wait_for` does
            if not isinstance(snapshot, Snapshot):
                raise DiscoveryError(f"{named} yielded {snapshot!r}, which is no Snapshot")
            yield snapshot
            await asyncio.sleep(0)  # noqa: TID251 - no time passes, but all others get their turn
    except (Exception, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a task of the backend's own was cancelled, or it wants to exit
        heed_cancellation()
        raise DiscoveryError(f"{named} raised {error!r}") from None
    finally:
        await _close(found)


def _check_iterable(found: Any, named: str) -> None:
    if hasattr(found, "__aiter__"):
        return
    if inspect.iscoroutine(found):
        found.close()
    kind = type(found).__name__
    raise DiscoveryError(f"{named} returned a {kind}: make it an async generator, which is 'async def' with a 'yield'")


async def _close(found: Any) -> None:
    """Let an async generator release its sockets and files now, and not when it is collected."""
    close = getattr(found, "aclose", None)
    if close is None:
        return
    with suppress(Exception, *_FATAL):  # the watch is over, and what broke it has been reported
        await close()
