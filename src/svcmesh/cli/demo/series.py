"""From entries to curves: counting and ranking within slices of time. Pure arithmetic on what `record` holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def quantile(values: Iterable[float], share: float) -> float | None:
    """Return the smallest value that is not below ``share`` (0 to 1) of all; None of none.

    Source: the nearest-rank definition, which always returns a value that was measured.
    """
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def slices(instants: Iterable[tuple[float, float]], length: float, width: float) -> list[list[float]]:
    """Sort ``(instant, value)`` pairs into slices of ``width`` seconds that cover 0 to ``length``; others are left out.

    Raises:
        ValueError: a width that is not more than 0.
    """
    if width <= 0:
        raise ValueError(f"width must be more than 0, not {width!r}")
    found: list[list[float]] = [[] for _ in range(max(1, math.ceil(length / width)))]
    for instant, value in instants:
        index = int(instant // width)
        if 0 <= index < len(found):
            found[index].append(value)
    return found


def shares(counts: Sequence[Sequence[float]]) -> list[list[float]]:
    """Turn rows of counts (one row per instance, one column per slice) into shares of each column, 0 to 1.

    A column in which nothing was counted stays 0.
    """
    totals = [sum(column) for column in zip(*counts, strict=True)]
    return [[count / total if total else 0.0 for count, total in zip(row, totals, strict=True)] for row in counts]


def ticks(largest: float, about: int = 4) -> list[float]:
    """Return round numbers from 0 to at least ``largest``, about so many: 1, 2 or 5 times a power of ten apart."""
    if largest <= 0:
        return [0.0, 1.0]
    raw = largest / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    return [index * step for index in range(math.ceil(largest / step - 1e-9) + 1)]
