"""Two clients side by side on a machine that is never quiet: short blocks in shuffled order, compared in pairs.

A block is a fixed number of calls. Each round runs one block of every client, in an order that is drawn anew, so what
disturbs the machine for a while disturbs all of them. A round gives one ratio; the median of the ratios stands, with
the interval in which 95 % of the medians of resampled rounds lie. The stock client is measured a second time as if it
were another one (A/A): what its interval leaves open nothing else can be said to differ by.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter, process_time
from typing import Any

STOCK, AGAIN, OURS = "stock", "stock again (A/A)", "svcmesh"
RESAMPLES = 1000

Block = Callable[[], object]
Sample = tuple[float, float]
"""Seconds of one call: by the wall clock, and of this process's CPU."""


def compare(
    case: str, pair: Sequence[Block], calls: int, rounds: int, others: Mapping[str, Block] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a row for each client; ``pair`` is a block of the stock one and a block of ours, ``others`` are by name.

    Keys: case, client, wall (ratio to stock), low and high (of its interval), cpu (ratio), microseconds (per call).
    """
    stock, ours = pair
    blocks = {STOCK: stock, AGAIN: stock, OURS: ours, **(others or {})}
    samples: dict[str, list[Sample]] = {name: [] for name in blocks}
    order, chance = list(blocks), random.Random(1)
    for name in order:
        blocks[name]()  # connections, caches
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            samples[name].append(timed(blocks[name], calls))
    for name, found in samples.items():
        yield row(case, name, found, samples[STOCK], chance)


def timed(block: Block, calls: int) -> Sample:
    """Run a block, and return what a call of it took."""
    wall, cpu = perf_counter(), process_time()
    block()
    return (perf_counter() - wall) / calls, (process_time() - cpu) / calls


def row(
    case: str, name: str, found: Sequence[Sample], stock: Sequence[Sample], chance: random.Random
) -> dict[str, Any]:
    """Return the row of one client."""
    ratios = [mine[0] / its[0] for mine, its in zip(found, stock, strict=True)]
    low, high = interval(ratios, chance)
    return {
        "case": case,
        "client": name,
        "wall": round(statistics.median(ratios), 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "cpu": round(statistics.median(mine[1] / its[1] for mine, its in zip(found, stock, strict=True)), 3),
        "microseconds": round(statistics.median(wall for wall, _ in found) * 1e6, 1),
    }


def interval(ratios: Sequence[float], chance: random.Random) -> tuple[float, float]:
    """Return the bounds between which 95 % of the medians of resampled ratios lie (bootstrap)."""
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]
