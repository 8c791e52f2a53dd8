"""Changes to JSON that leave it JSON: bytes that are changed by chance are hardly ever understood.

What stands somewhere gives way to something that has no business there, to what stands elsewhere, or to nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 80, 65_536, 2**63, -(2**63), 10**400, 0.5, 1e308, -1e-320),
    *(float("nan"), float("inf"), "", " ", "0", "80", "nan", "1e999", "\0", "\ud800", "é" * 300, "a" * 5_000),
    *("10.0.0.1:80", "[::1]:80", "::1", "unix:/run/s", "unix:", "0.0.0.0", "a.b:70000", "[", "%2F", "\r\nX: y"),
    *([], {}, [[]], [{}], {"": None}, {"a": {"a": {"a": []}}}),
)
"""Values that a writer may have put anywhere: by mistake, or to do harm."""


def changed(data: bytes, largest: int, rng: Random) -> bytes | None:
    """Return ``data`` with one to four of its values changed; None when it is no JSON, or would be too large.

    Args:
        data: what is changed. largest: bytes that the result may have. rng: what is left to chance.
    """
    try:
        document = [json.loads(data)]
    except (ValueError, RecursionError):
        return None
    for _ in range(rng.randint(1, 4)):
        _change(document, rng)
    try:
        found = json.dumps(document[0]).encode()
    except (ValueError, RecursionError):  # a number with more digits than Python writes, or nested without end
        return None
    return found if len(found) <= largest else None


def _change(document: list[Any], rng: Random) -> None:
    places = _places(document)
    holder, key = rng.choice(places)
    other, where = rng.choice(places)
    ways: tuple[Callable[[], None], ...] = (
        lambda: holder.__setitem__(key, deepcopy(rng.choice(ODD))),
        lambda: holder.__setitem__(key, deepcopy(other[where])),
        lambda: _drop(holder, key, document),
        lambda: _repeat(holder, key, rng),
    )
    rng.choice(ways)()


def _places(document: list[Any]) -> list[tuple[Any, Any]]:
    """Return where each value stands: what holds it, and under which key or number."""
    found: list[tuple[Any, Any]] = [(document, 0)]
    for holder, key in found:  # it grows while it is walked
        value = holder[key]
        if isinstance(value, dict):
            found.extend((value, inner) for inner in value)
        elif isinstance(value, list):
            found.extend((value, number) for number in range(len(value)))
    return found


def _drop(holder: Any, key: Any, document: list[Any]) -> None:
    if holder is not document:
        del holder[key]


def _repeat(holder: Any, key: Any, rng: Random) -> None:
    """Put a value in once more: another item of a list, or under another key."""
    value = deepcopy(holder[key])
    if isinstance(holder, dict):
        holder[rng.choice([*holder, "", "\ud800", "id"])] = value
    elif isinstance(value, list):
        value.append(deepcopy(rng.choice(ODD)))
        holder[key] = value
    else:
        holder[key] = [value, value]
