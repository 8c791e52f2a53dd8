"""What a pick costs, in calls of an empty method: ``python -m benchmarks.micro.pickers``.

A nanosecond means little on somebody else's machine, so everything is a multiple of calling an empty bound method
with the signature of `Picker.pick`, timed in turns with it in the same run. Of many short batches the fastest counts:
what is slower was disturbed. The loop around the calls is part of both sides, as with `timeit`; ``net`` is the ratio
without it, which is higher and depends more on the machine.

``choose`` is what the engine calls, ``pick`` what users call, ``call`` is pick, started and finished together.
"""

from __future__ import annotations

import random
import timeit
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from svcmesh import Endpoint
from svcmesh.balance import LeastRequest, LoadBalancer, Random, RoundRobin

SIZES = (3, 100, 10_000)
BATCH = 10_000
ROUNDS = 40

PICKERS: dict[str, tuple[LoadBalancer, bool]] = {
    "RoundRobin": (RoundRobin(), False),
    "Random": (Random(), False),
    "LeastRequest": (LeastRequest(), False),
    "LeastRequest, of 3": (LeastRequest(choice_count=3), False),
    "Random, weighted": (Random(), True),
    "LeastRequest, weighted": (LeastRequest(), True),
}

STATEMENTS = {
    "choose": "choose()",
    "pick": "picker.pick()",
    "call": "endpoint = picker.pick(); picker.started(endpoint); picker.finished(endpoint, 0.01, False)",
}

TARGETS = {
    ("RoundRobin", "pick"): 3,
    ("Random", "pick"): 5,
    ("LeastRequest", "pick"): 5,
    ("RoundRobin", "call"): 8,
    ("LeastRequest", "call"): 10,
}


class Empty:
    """The yardstick: a method that does nothing, called as a pick is."""

    def pick(self, key: int | None = None, exclude: Collection[Endpoint] = ()) -> None:
        """Do nothing."""


def rows(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield one row for each picker, operation and number of endpoints.

    Keys: picker, operation, endpoints, ratio, net (without the loop), nanoseconds (with it), target (None: there is
    none), ok.
    """
    for name, (config, weighted) in PICKERS.items():
        for size in sizes:
            picker = config.picker(endpoints(size, weighted=weighted), rng=random.Random(1))
            context = {"picker": picker, "choose": picker.choose}
            for operation, statement in STATEMENTS.items():
                timer = timeit.Timer(statement, globals=context)
                yield row(name, operation, size, fastest({**yardsticks(), operation: timer}, rounds))


def endpoints(size: int, *, weighted: bool) -> list[Endpoint]:
    """Return endpoints of weight 1 or, weighted, of 1 to 3."""
    return [Endpoint(f"10.0.{n // 250}.{n % 250}:80", weight=1 + n % 3 if weighted else 1) for n in range(size)]


def yardsticks() -> dict[str, timeit.Timer]:
    """Return what the others are compared with: an empty method, and a loop without a body."""
    return {"empty": timeit.Timer("picker.pick()", globals={"picker": Empty()}), "loop": timeit.Timer("pass")}


def fastest(timers: dict[str, timeit.Timer], rounds: int) -> dict[str, float]:
    """Run all timers in turns and return the seconds per execution of the fastest batch of each."""
    best = dict.fromkeys(timers, float("inf"))
    for _ in range(rounds):
        for name, timer in timers.items():
            best[name] = min(best[name], timer.timeit(BATCH) / BATCH)
    return best


def row(name: str, operation: str, size: int, best: dict[str, float]) -> dict[str, Any]:
    """Return the row of one operation."""
    ratio = best[operation] / best["empty"]
    target = TARGETS.get((name, operation))
    return {
        "picker": name,
        "operation": operation,
        "endpoints": size,
        "ratio": round(ratio, 2),
        "net": round((best[operation] - best["loop"]) / (best["empty"] - best["loop"]), 2),
        "nanoseconds": round(best[operation] * 1e9, 1),
        "target": target,
        "ok": target is None or ratio <= target,
    }


def main() -> None:
    """Print the table."""
    print(f"{'picker':24}{'operation':11}{'endpoints':>9}{'ratio':>8}{'net':>8}{'ns':>8}{'target':>8}")
    for found in rows():
        target = "" if found["target"] is None else f"{found['target']}{'' if found['ok'] else ' !'}"
        print(
            f"{found['picker']:24}{found['operation']:11}{found['endpoints']:9,}{found['ratio']:8.2f}"
            f"{found['net']:8.2f}{found['nanoseconds']:8.1f}{target:>8}"
        )


if __name__ == "__main__":
    main()
