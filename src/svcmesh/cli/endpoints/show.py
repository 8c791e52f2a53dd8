"""Endpoints as people and as programs read them: columns, or lines of JSON.

A registry may hold anything, and a terminal obeys what it is sent: what cannot be printed is shown escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from svcmesh.core.endpoint import Endpoint

HEAD = ("ADDRESS", "WEIGHT", "PRIORITY", "HEALTH", "LOCALITY", "METADATA")


def as_json(endpoint: Endpoint) -> dict[str, Any]:
    """Return what JSON can hold of an endpoint; what it cannot is text."""
    locality = endpoint.locality
    return {
        "address": endpoint.address,
        "weight": endpoint.weight,
        "priority": endpoint.priority,
        "health": endpoint.health.value,
        "locality": None if locality is None else [locality.region, locality.zone, locality.sub_zone],
        "metadata": dict(endpoint.metadata),
    }


def line(values: Mapping[str, Any]) -> str:
    """Return one line of JSON."""
    return json.dumps(values, default=str)


def table(endpoints: Iterable[Endpoint]) -> list[str]:
    """Return the lines of a table, with a head."""
    return columns([HEAD, *map(cells, endpoints)])


def cells(endpoint: Endpoint) -> tuple[str, ...]:
    """Return what a row of the table shows of an endpoint."""
    locality = endpoint.locality
    parts = () if locality is None else (locality.region, locality.zone, locality.sub_zone)
    return (
        endpoint.address,
        f"{endpoint.weight:g}",
        str(endpoint.priority),
        endpoint.health.value,
        printable("/".join(parts).strip("/")) or "-",
        " ".join(f"{printable(key)}={printable(_text(value))}" for key, value in endpoint.metadata.items()) or "-",
    )


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def printable(text: str) -> str:
    """Return ``text`` with everything escaped that is more than a character to look at."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
