"""How well pickers balance, in virtual time: ``python -m benchmarks.sim.balance [--quick]``.

1,000 clients, each with a picker of its own that knows only of its own calls, make 600,000 calls to 100 servers, open
loop. A server works on 4 calls at a time, a normal one for 10 ms each on average (exponential), and has a queue; one
refuses every call after 1 ms; 5 are slow. What is shown:

- ``slow`` and ``failing`` are the percent of the calls that the slow servers and the failing one got: 5 and 1 would be
  even. ``busiest`` is what the busiest of the others got, as a multiple of an even share.
- ``p50``, ``p99``, ``p99.9`` are milliseconds of the calls that were answered; ``ratio`` is p99 to that of RoundRobin,
  and ``limit`` what it may be. ``errors`` is the percent of the calls that failed. ``ok`` says that the limit is kept
  and that who fails fast gets little more than an even share.

Two worlds. ``swamped``: slow servers take five times as long and cannot take an even share, so that whoever shares
evenly lets their queues grow, for as long as the run lasts: its p99 is long because the run is. ``slower``: they take
three times as long and can just take it. A client then has 0.1 calls in flight, so that LeastRequest has nothing to
go by and is no better than a rotation; latencies tell more than calls in flight, and PeakEwma goes by them.

No ejection, no breaker, no retry: this is what the balancer does alone. Keys for RingHash and Maglev are random.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.sim.world import FAILING, NORMAL, SLOW, Found, World, simulate
from svcmesh.balance import (
    LeastRequest,
    LoadBalancer,
    Maglev,
    PeakEwma,
    PickFirst,
    Random,
    RingHash,
    RoundRobin,
    WeightedRoundRobin,
)

YARDSTICK = "RoundRobin"
PICKERS: dict[str, LoadBalancer] = {
    YARDSTICK: RoundRobin(),
    "Random": Random(),
    "LeastRequest": LeastRequest(),
    "PeakEwma": PeakEwma(),
    "WeightedRoundRobin": WeightedRoundRobin(),
    "RingHash": RingHash(),
    "Maglev": Maglev(),
    "PickFirst, shuffled": PickFirst(shuffle_address_list=True),
}
LIMITS = {"LeastRequest": 0.5, "PeakEwma": 0.5}
"""What p99 may be, as a part of RoundRobin's."""

ATTRACTED = 1.1
"""Times an even share: more says that failing fast attracts calls."""

SWAMPED, SLOWER = "swamped", "slower"
WORLDS = {SWAMPED: World(load=0.5, slowness=5.0), SLOWER: World(load=0.3, slowness=3.0)}
COMPARED = {SWAMPED: tuple(PICKERS), SLOWER: (YARDSTICK, "Random", "LeastRequest", "PeakEwma")}
QUICK = 10
"""So many times fewer calls and clients in a quick run: each client makes as many."""


def rows(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Yield one row for each picker in each world.

    Keys: world, picker, slow, failing, busiest, p50, p99, p99.9, errors, ratio, limit (None: there is none), ok.
    """
    for name, world in WORLDS.items():
        if quick:
            world = replace(world, calls=world.calls // QUICK, clients=world.clients // QUICK)  # noqa: PLW2901 - smaller
        yardstick = 0.0
        for picker in COMPARED[name]:
            found = simulate(world, PICKERS[picker])
            yardstick = yardstick or found.quantile(0.99)
            yield _row(name, world, picker, found, yardstick)


def _row(name: str, world: World, picker: str, found: Found, yardstick: float) -> dict[str, Any]:
    ratio = found.quantile(0.99) / yardstick
    limit = LIMITS.get(picker) if name == SWAMPED else None
    even = world.failing / world.servers
    failing = found.share(world, FAILING)
    return {
        "world": name,
        "picker": picker,
        "slow": round(found.share(world, SLOW) * 100, 2),
        "failing": round(failing * 100, 3),
        "busiest": round(found.most(world, NORMAL), 2),
        "p50": round(found.quantile(0.5) * 1e3, 1),
        "p99": round(found.quantile(0.99) * 1e3, 1),
        "p99.9": round(found.quantile(0.999) * 1e3, 1),
        "errors": round(found.failed / world.calls * 100, 3),
        "ratio": round(ratio, 4),
        "limit": limit,
        "ok": picker not in LIMITS or ((limit is None or ratio <= limit) and failing <= ATTRACTED * even),
    }


def plot(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw p50, p99 and p99.9 of every picker, and what the slow servers and the failing one got."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    labels = [f"{row['picker']} ({row['world']})" for row in found]
    figure, (times, shares) = plt.subplots(ncols=2, sharey=True, figsize=(11, 1 + len(labels) / 2.5))
    places = range(len(labels))
    for name, marker in (("p50", "o"), ("p99", "s"), ("p99.9", "d")):
        times.plot([row[name] for row in found], places, marker, label=name)
    times.set_xscale("log")
    times.set_xlabel("milliseconds of a call that was answered")
    for name, shift, even in (("slow", -0.2, 5), ("failing", 0.2, 1)):
        bars = shares.barh([place + shift for place in places], [row[name] for row in found], 0.4, label=name)
        shares.axvline(even, linestyle="--", linewidth=1, color=bars[0].get_facecolor())
    shares.set_xlabel("percent of the calls; dashed: an even share")
    times.set_yticks(list(places), labels)
    times.invert_yaxis()
    for axis in (times, shares):
        axis.grid(axis="x", alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Print the table."""
    columns = ("world", "picker", "slow", "failing", "busiest", "p50", "p99", "p99.9", "errors", "ratio", "ok")
    print("".join(f"{column:{20 if column == 'picker' else 10}}" for column in columns))
    for row in rows(quick="--quick" in sys.argv[1:]):
        print("".join(f"{row[c]!s:{20 if c == 'picker' else 10}}" for c in columns), flush=True)


if __name__ == "__main__":
    main()
