"""What a pick costs, in calls of an empty method: ``python -m benchmarks.micro.pickers``.

A nanosecond means little on somebody else's machine, so everything is a multiple of calling an empty bound method
with the signature of `Picker.pick`, timed in turns with it in the same run. Of many short batches the fastest counts:
what is slower was disturbed; and only time on the processor counts. The loop around the calls is part of both sides, as
with `timeit`; ``net`` is the ratio without it, which is higher and depends more on the machine. ``growth`` is the ratio
to that of the fewest endpoints, which take their turns in the same run; a `pick` may take 1.3 times as long among
10,000, except by `RingHash`.

``choose`` is what the engine calls, ``pick`` what users call, ``call`` is pick, started and finished together; pickers
with affinity are given a key that they have not seen before, and so is the empty method beside them. Endpoints lie in
memory in another order than in the list, as they do after some have come and gone; most of 10,000 are in no cache near
the processor. Whoever knows beforehand whose turn it is has fetched them by then (`svcmesh.balance.blocks`). Where
chance or a key says who it is, a pick waits for that one's count of references. Those of 10,000 take 640 KiB; next to
a core of this machine are 512, and the wait was of 30 to 100 nanoseconds, by what else the machine was doing: `Random`
took 1.2 to 1.8 times as long as among 3, and `Maglev` 1.3 to 1.7. To draw ahead and fetch a block of those who were
drawn took longer than to wait. Below that stands what building takes, and how much memory a picker has for each
endpoint, the endpoints themselves not counted.
"""

from __future__ import annotations

import gc
import random
import time
import timeit
import tracemalloc
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from svcmesh import Endpoint
from svcmesh.balance import (
    LeastRequest,
    LoadBalancer,
    LoadReport,
    Maglev,
    OrcaWeightedRoundRobin,
    PeakEwma,
    Picker,
    PickFirst,
    Random,
    RingHash,
    RoundRobin,
    WeightedRoundRobin,
)

SIZES = (3, 100, 10_000)
BUILT = (10, 100, 1_000, 10_000)
BATCH = 10_000  # as many as endpoints, so that all of them are met
ROUNDS = 40

PICKERS: dict[str, tuple[LoadBalancer, bool]] = {
    "RoundRobin": (RoundRobin(), False),
    "Random": (Random(), False),
    "LeastRequest": (LeastRequest(), False),
    "LeastRequest, of 3": (LeastRequest(choice_count=3), False),
    "Random, weighted": (Random(), True),
    "LeastRequest, weighted": (LeastRequest(), True),
    "WeightedRoundRobin": (WeightedRoundRobin(), True),
    "OrcaWeightedRoundRobin": (OrcaWeightedRoundRobin(blackout_period=0), False),
    "PeakEwma": (PeakEwma(), False),
    "PickFirst": (PickFirst(), False),
    "RingHash": (RingHash(), False),
    "Maglev": (Maglev(), False),
}

STATEMENTS = {
    "choose": "choose()",
    "pick": "picker.pick()",
    "call": "endpoint = picker.pick(); picker.started(endpoint); picker.finished(endpoint, 0.01, False)",
}
KEYED = {"pick": "picker.pick(key())"}
FRESH = "from random import getrandbits; key = iter([getrandbits(64) for _ in range(%d)]).__next__"

TARGETS = {
    ("RoundRobin", "pick"): 3,
    ("WeightedRoundRobin", "pick"): 3,
    ("Random", "pick"): 5,
    ("LeastRequest", "pick"): 5,
    ("Maglev", "pick"): 5,
    ("RingHash", "pick"): 10,
    ("PeakEwma", "pick"): 12,
    ("RoundRobin", "call"): 8,
    ("LeastRequest", "call"): 10,
    ("PeakEwma", "call"): 25,
}
GROWTH = 1.3
GROWING = {"RingHash"}


class Empty:
    """The yardstick: a method that does nothing, called as a pick is."""

    def pick(self, key: int | None = None, exclude: Collection[Endpoint] = ()) -> None:
        """Do nothing."""


def rows(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield one row for each picker, operation and number of endpoints.

    Keys: picker, operation, endpoints, ratio, growth, net (without the loop), nanoseconds (with it), target (of the
    ratio; None: there is none), ok.
    """
    for name, (config, weighted) in PICKERS.items():
        keyed = getattr(config, "affinity", False)
        found = {size: used(config.picker(endpoints(size, weighted=weighted), rng=random.Random(1))) for size in sizes}
        best: dict[tuple[int, str], dict[str, float]] = {}
        for operation, statement in (KEYED if keyed else STATEMENTS).items():
            timers = {
                str(size): timed(statement, {"picker": picker, "choose": picker.choose}, keyed=keyed)
                for size, picker in found.items()
            }
            times = fastest({**yardsticks(keyed=keyed), **timers}, rounds)
            best |= {(size, operation): {**times, operation: times[str(size)]} for size in sizes}
        for (size, operation), times in sorted(best.items(), key=lambda item: item[0][0]):
            yield row(name, operation, size, times, times[operation] / times[str(sizes[0])])


def used(picker: Picker) -> Picker:
    """Return the picker with latencies and loads known, as they soon are."""
    reported: Callable[[Endpoint, LoadReport], None] | None = getattr(picker, "reported", None)
    for number, cell in enumerate(picker.cells):
        picker.started(cell.endpoint)
        picker.finished(cell.endpoint, 0.01, False)
        if reported is not None:
            reported(cell.endpoint, LoadReport(100 * (1 + number % 3), cpu_utilization=0.5))
    return picker


def timed(statement: str, context: dict[str, Any], *, keyed: bool = False) -> timeit.Timer:
    """Return a timer; ``keyed``: with ``key()`` at hand, which returns another key each time."""
    return timeit.Timer(statement, FRESH % BATCH if keyed else "pass", time.thread_time, globals=context)


def building(sizes: Sequence[int] = BUILT, rounds: int = 3) -> Iterator[dict[str, Any]]:
    """Yield one row for each picker and number of endpoints: what building it takes.

    Keys: picker, endpoints, milliseconds, bytes (for each endpoint).
    """
    for name, (config, weighted) in PICKERS.items():
        for size in sizes:
            given = endpoints(size, weighted=weighted)
            seconds = min(timeit.repeat(lambda: config.picker(given), number=1, repeat=rounds))  # noqa: B023 - at once
            yield {
                "picker": name,
                "endpoints": size,
                "milliseconds": round(seconds * 1e3, 2),
                "bytes": round(memory(config, given) / size),
            }


def memory(config: LoadBalancer, given: list[Endpoint]) -> int:
    """Return the bytes that a picker takes."""
    gc.collect()
    tracemalloc.start()
    picker = config.picker(given)
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del picker
    return taken


def endpoints(size: int, *, weighted: bool) -> list[Endpoint]:
    """Return endpoints of weight 1 or, weighted, of 1 to 3, in an order that is not that of memory."""
    made = [Endpoint(f"10.0.{n // 250}.{n % 250}:80", weight=1 + n % 3 if weighted else 1) for n in range(size)]
    random.Random(size).shuffle(made)
    return made


def yardsticks(*, keyed: bool = False) -> dict[str, timeit.Timer]:
    """Return what the others are compared with: an empty method, and a loop without a body."""
    empty = timed("picker.pick(key())" if keyed else "picker.pick()", {"picker": Empty()}, keyed=keyed)
    return {"empty": empty, "loop": timed("key()" if keyed else "pass", {}, keyed=keyed)}


def fastest(timers: dict[str, timeit.Timer], rounds: int) -> dict[str, float]:
    """Run all timers in turns and return the seconds per execution of the fastest batch of each."""
    best = dict.fromkeys(timers, float("inf"))
    for _ in range(rounds):
        for name, timer in timers.items():
            best[name] = min(best[name], timer.timeit(BATCH) / BATCH)
    return best


def row(name: str, operation: str, size: int, best: dict[str, float], growth: float) -> dict[str, Any]:
    """Return the row of one operation."""
    ratio = best[operation] / best["empty"]
    target = TARGETS.get((name, operation))
    flat = operation != "pick" or target is None or name in GROWING or growth <= GROWTH
    return {
        "picker": name,
        "operation": operation,
        "endpoints": size,
        "ratio": round(ratio, 2),
        "growth": round(growth, 2),
        "net": round((best[operation] - best["loop"]) / (best["empty"] - best["loop"]), 2),
        "nanoseconds": round(best[operation] * 1e9, 1),
        "target": target,
        "ok": flat and (target is None or ratio <= target),
    }


def main() -> None:
    """Print the tables."""
    print(f"{'picker':24}{'operation':11}{'endpoints':>9}{'ratio':>8}{'growth':>8}{'net':>8}{'ns':>8}{'target':>8}")
    for found in rows():
        target = f"{found['target'] or ''}{'' if found['ok'] else ' !'}"
        print(
            f"{found['picker']:24}{found['operation']:11}{found['endpoints']:9,}{found['ratio']:8.2f}"
            f"{found['growth']:8.2f}{found['net']:8.2f}{found['nanoseconds']:8.1f}{target:>8}"
        )
    print(f"\n{'picker':24}{'endpoints':>9}{'ms to build':>14}{'bytes each':>12}")
    for found in building():
        print(f"{found['picker']:24}{found['endpoints']:9,}{found['milliseconds']:14.2f}{found['bytes']:12,}")


if __name__ == "__main__":
    main()
