"""`svcmesh resolve`: asks a registry once, and shows the answer as it is, unhealthy endpoints included."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress
from typing import Any

from svcmesh.cli.endpoints.asked import opened
from svcmesh.cli.endpoints.show import as_json, line, printable, table
from svcmesh.core.errors import ConfigError, SvcmeshError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.base import Discovery, Named

EMPTY, WRONG, FAILED = 1, 2, 3
"""Exit statuses: there are no endpoints, the command line is wrong, the registry could not be asked."""


def run(options: argparse.Namespace) -> int:
    """Ask, print, and return the exit status."""
    try:
        discovery, service = opened(options.uri, options.service, _warn)
    except ConfigError as error:
        return _fail(error, WRONG)
    try:
        snapshot = asyncio.run(_first(discovery, service, options.timeout))
    except TimeoutError:
        return _fail(f"no answer within {options.timeout:g} s", FAILED)
    except SvcmeshError as error:
        return _fail(error, FAILED)
    except Exception as error:  # noqa: BLE001 - a backend may be anybody's code
        return _fail(f"{type(error).__name__}: {error}", FAILED)
    if not snapshot.endpoints:
        return _fail(f"no endpoints{_known(discovery)}", EMPTY)
    for shown in map(line, map(as_json, snapshot.endpoints)) if options.json else table(snapshot.endpoints):
        print(shown)
    return 0


async def _first(discovery: Discovery, service: str, timeout: float) -> Snapshot:
    snapshots = discovery.watch(service)
    try:
        return await asyncio.wait_for(anext(snapshots), timeout)
    finally:
        close = getattr(snapshots, "aclose", None)
        if close is not None:
            with suppress(Exception):
                await close()


def _known(discovery: Discovery) -> str:
    names = sorted(discovery.names) if isinstance(discovery, Named) else []
    return f"; it has {', '.join(map(printable, names))}" if names else ""


def _warn(name: str, service: str, **fields: Any) -> None:  # noqa: ARG001 - only what an event says is shown
    print(f"svcmesh resolve: {printable(str(fields.get('error', '')))}", file=sys.stderr)


def _fail(told: object, status: int) -> int:
    print(f"svcmesh resolve: {printable(str(told))}", file=sys.stderr)
    return status
