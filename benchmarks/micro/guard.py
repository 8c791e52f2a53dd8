"""What the standard policy costs around an empty function: ``python -m benchmarks.micro.guard [--quick]``.

Everything is a multiple of a bare call (sync) or a bare await (async) of the same empty function, timed in turns with
it in the same run; of many short batches the fastest of each counts, since what is slower was disturbed. The loop
around the calls is part of both sides. Nothing fails and nobody subscribes; the pick among three endpoints, the count
in flight, the deadline and the budget are included. tenacity over pybreaker stands for what people build today.

Half of it is the deadline: a context variable is set and reset around the function, and for either Python copies a node
of what the context holds. It holds nothing else here; the row that says so is of a program in which somebody has set
another variable, as whoever uses `decimal` does.
"""

from __future__ import annotations

import asyncio
import sys
import timeit
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context, ContextVar
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import pybreaker
import tenacity

from svcmesh import PICKED, Endpoint, Mesh, Policy, resilient

BATCH = 4_000
ROUNDS = 60
RIVAL = "tenacity over pybreaker"

Function = Callable[[], Any]
AsyncFunction = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Limit:
    """What the issue allows: so many bare calls, and such a part of the rival."""

    bare: float
    rival: float = 1 / 12


LIMITS = {"sync": Limit(25), "async": Limit(15)}


def empty() -> None:
    """Do nothing."""


def empty_at(*, endpoint: Endpoint = PICKED) -> None:
    """Do nothing, at a picked endpoint."""


async def async_empty() -> None:
    """Do nothing, awaited."""


async def async_empty_at(*, endpoint: Endpoint = PICKED) -> None:
    """Do nothing, awaited, at a picked endpoint."""


def rows(rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Yield one row for each way to call and each colour.

    Keys: way, colour, ratio (to a bare call), rival (the part of what tenacity over pybreaker takes), nanoseconds,
    limit (None: there is none), ok.
    """
    yield from Context().run(list, _alone(rounds))
    crowded = Context()
    crowded.run(_OTHER.set, 1)
    yield from crowded.run(list, _crowded(rounds))


_OTHER: ContextVar[int] = ContextVar("other")


def _crowded(rounds: int) -> Iterator[dict[str, Any]]:
    way = "guard, beside another variable"
    with Mesh({"service": ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]}) as mesh:
        guard = mesh.service("service").guard(idempotent=True)
        rival = tenacity.retry(stop=_three)(pybreaker.CircuitBreaker()(empty))
        found = table("sync", fastest({"bare": empty, way: guard(empty), RIVAL: rival}, rounds))
        yield from (row for row in found if row["way"] == way)


def _alone(rounds: int) -> Iterator[dict[str, Any]]:
    with Mesh({"service": ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]}) as mesh:
        guard = mesh.service("service").guard(idempotent=True)
        alone = resilient(Policy.standard())
        ways: dict[str, Function] = {"bare": empty, "guard": guard(empty), "guard, endpoint": guard(empty_at)}
        ways |= {"resilient": alone(empty), RIVAL: tenacity.retry(stop=_three)(pybreaker.CircuitBreaker()(empty))}
        yield from table("sync", fastest(ways, rounds))
        awaited: dict[str, AsyncFunction] = {"bare": async_empty, "guard": guard(async_empty)}
        awaited |= {"guard, endpoint": guard(async_empty_at), "resilient": alone(async_empty), RIVAL: async_rival()}
        yield from table("async", asyncio.run(fastest_awaited(awaited, rounds)))


def async_rival() -> AsyncFunction:
    """Return tenacity's coroutine over pybreaker's context manager; its own `call_async` wants tornado."""
    breaker = pybreaker.CircuitBreaker()

    @tenacity.retry(stop=_three)
    async def call() -> None:
        with breaker.calling():
            await async_empty()

    return call


_three = tenacity.stop_after_attempt(3)


def fastest(ways: dict[str, Function], rounds: int) -> dict[str, float]:
    """Run all ways in turns, and return the seconds per call of the fastest batch of each."""
    timers = {name: timeit.Timer("call()", globals={"call": call}) for name, call in ways.items()}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, timer in timers.items():
            best[name] = min(best[name], timer.timeit(BATCH) / BATCH)
    return best


async def fastest_awaited(ways: dict[str, AsyncFunction], rounds: int) -> dict[str, float]:
    """Do the same with awaits, all in one task."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, call in ways.items():
            began = perf_counter()
            for _ in range(BATCH):
                await call()
            best[name] = min(best[name], (perf_counter() - began) / BATCH)
    return best


def table(colour: str, best: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one colour."""
    limit = LIMITS[colour]
    for way, seconds in best.items():
        ratio, rival = seconds / best["bare"], seconds / best[RIVAL]
        limited = way in {"guard", "resilient"}
        yield {
            "way": way,
            "colour": colour,
            "ratio": round(ratio, 2),
            "rival": round(rival, 4),
            "nanoseconds": round(seconds * 1e9, 1),
            "limit": limit.bare if limited else None,
            "ok": not limited or (ratio <= limit.bare and rival <= limit.rival),
        }


def main() -> None:
    """Print the table."""
    print(f"{'way':28}{'colour':8}{'ratio':>8}{'of rival':>10}{'ns':>9}{'limit':>8}")
    for found in rows(ROUNDS // 4 if "--quick" in sys.argv[1:] else ROUNDS):
        limit = "" if found["limit"] is None else f"{found['limit']:g}{'' if found['ok'] else ' !'}"
        part = f"1/{1 / found['rival']:.1f}" if found["rival"] < 1 else "1"
        print(
            f"{found['way']:28}{found['colour']:8}{found['ratio']:8.2f}{part:>10}{found['nanoseconds']:9.0f}{limit:>8}"
        )


if __name__ == "__main__":
    main()
