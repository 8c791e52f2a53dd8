"""Two clients side by side on a machine that is never quiet: short blocks in shuffled order, compared in pairs.

A block is a fixed number of calls. Each round runs one block of every client, in an order that is drawn anew, so what
disturbs the machine for a while disturbs all of them. A round gives one ratio; the median of the ratios stands, with
the interval in which 95 % of the medians of resampled rounds lie. The stock client is measured a second time as if it
were another one (A/A): what its interval leaves open nothing else can be said to differ by.

Two clients that are made alike are not alike: which threads and connections they happen to get lasts for their life,
and makes gRPC's differ by 5 %. So clients may be made anew for every few rounds; the A/A row is then of a second one.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter, process_time
from typing import Any

STOCK, AGAIN, OURS = "stock", "stock again (A/A)", "svcmesh"
RESAMPLES = 1000

MOST_WALL = 1.02
"""What the lower end of the interval of our wall time may be, everywhere."""

Block = Callable[[], object]
Sample = tuple[float, float]
"""Seconds of one call: by the wall clock, and of this process's CPU."""


def compare(
    case: str,
    pair: Sequence[Block],
    calls: int,
    rounds: int,
    others: Mapping[str, Block] | None = None,
    *,
    limit: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each client; ``pair`` is a block of the stock one and a block of ours, ``others`` are by name.

    Keys: as of `told`.
    """
    stock, ours = pair
    blocks = {STOCK: stock, AGAIN: stock, OURS: ours, **(others or {})}
    yield from told(case, measured(blocks, calls, rounds), limit)


def told(case: str, samples: Mapping[str, Sequence[Sample]], limit: float | None) -> Iterator[dict[str, Any]]:
    """Yield a row for each client that was measured.

    Keys: case, client, wall (ratio to stock), low and high (of its interval), cpu (ratio), microseconds (per call),
    limit (of our cpu), ok (whether ours keeps to that and to `MOST_WALL`).
    """
    for name, found in samples.items():
        yield judged(row(case, name, found, samples[STOCK]), limit if name == OURS else None)


def measured(
    blocks: Mapping[str, Block], calls: int, rounds: int, samples: dict[str, list[Sample]] | None = None, seed: int = 1
) -> dict[str, list[Sample]]:
    """Run all blocks in every round, in shuffled order; return what each took, round by round, after ``samples``."""
    samples = {} if samples is None else samples
    order, chance = list(blocks), random.Random(seed)
    for name in order:
        samples.setdefault(name, [])
        blocks[name]()  # connections, caches
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            samples[name].append(timed(blocks[name], calls))
    return samples


def timed(block: Block, calls: int) -> Sample:
    """Run a block, and return what a call of it took."""
    wall, cpu = perf_counter(), process_time()
    block()
    return (perf_counter() - wall) / calls, (process_time() - cpu) / calls


def row(case: str, name: str, found: Sequence[Sample], stock: Sequence[Sample]) -> dict[str, Any]:
    """Return the row of one client."""
    wall, cpu = ([mine[which] / its[which] for mine, its in zip(found, stock, strict=True)] for which in (0, 1))
    low, high = interval(wall)
    return {
        "case": case,
        "client": name,
        "wall": round(statistics.median(wall), 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "cpu": round(statistics.median(cpu), 3),
        "microseconds": round(statistics.median(seconds for seconds, _ in found) * 1e6, 1),
    }


def judged(row: dict[str, Any], limit: float | None) -> dict[str, Any]:
    """Return ``row`` with the limit that it has to keep to, and whether it does."""
    fine = row["client"] != OURS or ((limit is None or row["cpu"] <= limit) and row["low"] <= MOST_WALL)
    return {**row, "limit": limit, "ok": fine}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the bounds between which 95 % of the medians of resampled values lie (bootstrap)."""
    chance = random.Random(2)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]
