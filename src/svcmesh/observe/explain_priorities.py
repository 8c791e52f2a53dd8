"""How calls are shared between priorities and localities, in words; nothing where there is nothing to share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Level = Mapping[str, Any]


def priorities(levels: Sequence[Level]) -> Iterator[str]:
    """Yield a line for each priority, if there are several or one that is not simply well; and for its localities."""
    for level in levels:
        if len(levels) > 1 or level["panic"] or level["degraded"]:
            yield f"priority {level['priority']}: {_calls(level)}; {_health(level)}"
        if level["localities"]:
            shares = ", ".join(f"{place(each['locality'])} {100 * each['share']:.1f} %" for each in level["localities"])
            yield f"localities of priority {level['priority']}: {shares}"


def stands_by(endpoint: Mapping[str, Any], levels: Sequence[Level]) -> bool:
    """Return whether calls go elsewhere although the endpoint is well: to a better priority, to healthy ones."""
    for level in levels:
        if level["priority"] == endpoint["priority"]:
            check = endpoint["check"]
            degraded = endpoint["health"] == "degraded" or (check is not None and check["degraded"])
            return not level["degraded_load" if degraded and not level["panic"] else "load"]
    return False


def place(locality: Sequence[str]) -> str:
    """Return the name of a locality: its parts from wide to narrow."""
    return "/".join(part for part in locality if part) or "without a locality"


def _calls(level: Level) -> str:
    calls = f"{level['load']} % of the calls"
    if level["panic"]:
        return f"panic, {calls}, which are refused" if level["closed"] else f"panic, {calls} to all its endpoints"
    return f"{calls}, and {level['degraded_load']} % to degraded ones" if level["degraded_load"] else calls


def _health(level: Level) -> str:
    degraded = f" and {level['degraded']} degraded" if level["degraded"] else ""
    return f"{level['healthy']} of {level['endpoints']} endpoints are well{degraded}"
