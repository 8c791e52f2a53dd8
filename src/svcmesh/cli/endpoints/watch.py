"""`svcmesh watch`: follows a service as a mesh does, with the engine's care, and prints each change as it comes."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any, NoReturn

from svcmesh.cli.endpoints.asked import opened
from svcmesh.cli.endpoints.resolve import WRONG
from svcmesh.cli.endpoints.show import as_json, cells, line, printable
from svcmesh.core.clock import SYSTEM
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.core.snapshot import Snapshot, difference
from svcmesh.engine.watch import watch

SIGNS = {"added": "+", "removed": "-", "changed": "~", "failed": "!", "recovered": "=", "warning": "!", "empty": "0"}
"""What stands before a line, by what happened."""

EVENTS = {"discovery.failed": "failed", "discovery.recovered": "recovered", "config.warning": "warning"}
"""The events of a mesh that are shown, and as what."""

Happened = tuple[str, Any]
"""What happened, and with what: an endpoint, or a text."""


def run(options: argparse.Namespace) -> int:
    """Follow until interrupted; return the exit status where that cannot be begun."""
    happened: asyncio.Queue[Happened | Snapshot] = asyncio.Queue()

    def emit(name: str, service: str, **fields: Any) -> None:  # noqa: ARG001 - there is one service only
        if name in EVENTS:
            happened.put_nowait((EVENTS[name], str(fields.get("error", ""))))

    try:
        discovery, service = opened(options.uri, options.service, emit)
    except ConfigError as error:
        print(f"svcmesh watch: {printable(str(error))}", file=sys.stderr)
        return WRONG

    async def follow() -> NoReturn:
        watching = asyncio.ensure_future(
            watch(discovery, service, clock=SYSTEM, rng=Random(), publish=happened.put_nowait, emit=emit)
        )
        try:
            await _print(happened, as_lines=options.json)
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    asyncio.run(follow())
    return 0


async def _print(happened: asyncio.Queue[Happened | Snapshot], *, as_lines: bool) -> NoReturn:
    """Print what happens, here and not where it happens: a reader who has gone must end the command."""
    shown: tuple[Endpoint, ...] | None = None
    while True:
        item = await happened.get()
        if isinstance(item, Snapshot):
            changes, shown = list(changes_to(item, shown)), item.endpoints
        else:
            changes = [item]
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for kind, what in changes:
            print(in_json(now, kind, what) if as_lines else in_words(now, kind, what), flush=True)


def changes_to(snapshot: Snapshot, shown: tuple[Endpoint, ...] | None) -> Iterator[Happened]:
    """Yield what is another in ``snapshot`` than in what was ``shown`` last (None: nothing was)."""
    change = difference(shown or (), snapshot.endpoints)
    for kind, endpoints in (("removed", change.removed), ("added", change.added), ("changed", change.changed)):
        yield from ((kind, endpoint) for endpoint in endpoints)
    if not snapshot.endpoints:
        yield "empty", "no endpoints"


def in_words(now: str, kind: str, what: Endpoint | str) -> str:
    """Return a change as a line for people."""
    if isinstance(what, Endpoint):
        address, weight, priority, health, locality, metadata = cells(what)
        told = f"{address}  weight {weight}  priority {priority}  {health}  {locality}  {metadata}"
    else:
        told = " ".join(filter(None, (kind if kind in {"failed", "recovered"} else "", printable(what))))
    return f"{now}  {SIGNS[kind]} {told}"


def in_json(now: str, kind: str, what: Endpoint | str) -> str:
    """Return a change as a line for programs."""
    field = {"endpoint": as_json(what)} if isinstance(what, Endpoint) else {"error": what} if what else {}
    return line({"time": now, "event": kind, **({} if kind == "empty" else field)})
