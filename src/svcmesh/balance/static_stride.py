"""gRPC's static stride scheduler for weights that change by the second: exact, spread in time, and without a lock.

In each generation every endpoint is looked at once, and served if its multiples of the generation have just come round.
`svcmesh.balance.weighted_round_robin` writes such a schedule down for a whole period, which pays where weights stay.
Weights that were measured have periods of 65,535 generations and are others the next second. So of theirs only the next
few generations are ever written down: a lap. A pick is then a step of a C iterator, nearly always.

Source: gRPC, static_stride_scheduler.cc, whose numbers these are, its bounds included: grpc-go has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from math import ceil
from typing import TypeVar

from svcmesh.balance.picker import Rng

SCALE = 65_535
"""What the largest weight is scaled to."""

MOST = 10.0
"""No weight counts for more than so many times the mean: else generations pass in which hardly anybody is served."""

LEAST = 0.01
"""Nor for less than this part of it, so that everybody is met, and can report anew."""

LONG = 256
"""Looks in a lap, at least."""

T = TypeVar("T")


def scaled(weights: Sequence[float]) -> list[int]:
    """Return weights from 1 to 65,535 in these ratios, within bounds; the mean for weights of 0: they are not known."""
    known = [weight for weight in weights if weight > 0]
    if not known:
        return [SCALE] * len(weights)
    most = max(known)
    mean = sum(weight / most for weight in known) / len(known) * most  # no sum of large floats
    top = min(most, MOST * mean)
    usual = int(mean / top * SCALE + 0.5)
    least = max(1, int(usual * LEAST + 0.5))
    found = [
        usual if weight <= 0 else SCALE if weight >= top else int(weight / top * SCALE + 0.5) for weight in weights
    ]
    return found if min(found) >= least else [max(least, weight) for weight in found]


def laps(members: Sequence[T], weights: Sequence[int], rng: Rng) -> Callable[[], Iterator[T]]:
    """Return a function that returns the next lap of the schedule on each call; no lap is empty.

    Args:
        members: at least one. weights: theirs, of which the largest must be 65,535.
        rng: draws the generation that it begins with.

    Threads: any; each lap is given out once.
    """
    half = SCALE // 2
    rows = [(m, w, n * half, SCALE - w) for n, (m, w) in enumerate(zip(members, weights, strict=True))]
    together = ceil(LONG / len(rows))
    begin = count(int(rng.random() * SCALE), together).__next__

    def lap() -> Iterator[T]:
        first = begin()
        generations = range(first, first + together)
        return iter([m for g in generations for m, w, offset, least in rows if (w * g + offset) % SCALE >= least])

    return lap
