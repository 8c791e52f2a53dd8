"""Weighted round robin: each endpoint as often as its weight says, spread as evenly in time as can be.

Schedulers by earliest deadline need a lock and a heap, and serve the heavy endpoints first after each rebuild, so that
with frequent changes the light ones may starve for hours (envoyproxy/envoy#31378). gRPC's static stride scheduler has
neither trouble: it is arithmetic over a counter. The weights do not change while a picker lives, so here its sequence
is written down once, one full period of it, and walked from a random point: a pick is then one step of a C iterator.

Source: gRPC, static_stride_scheduler.cc; gRFC A58.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

from svcmesh.balance.cell import Cell
from svcmesh.balance.configuration import Configuration
from svcmesh.balance.picker import Picker, Rng
from svcmesh.balance.redraw import EmptyPicker, equal_weights, excluding, serving
from svcmesh.balance.round_robin import RotatingPicker, rotation
from svcmesh.core.clock import Clock

LONGEST = 1 << 16
"""Steps in a period at most, but never fewer than 16 for each endpoint: half a megabyte, and some ten milliseconds."""

_DENOMINATORS = 1000


@dataclass(frozen=True)
class WeightedRoundRobin(Configuration):
    """Each endpoint in its turn, the heavier ones more often; from a random start, so that first picks are fair too.

    Shares are exact over every period when the weights have small ratios: when, divided by what they have in common,
    they add up to 65,536 or less (16 per endpoint if that is more). Other weights are rounded to whole steps
    of a period of about that length, and each endpoint gets one step in it at least: very light ones get more than
    their part, and so thousands of them take up to 1/17 of the calls from the heavy ones. A weight of 0 takes no
    traffic.

    Cost: a pick is O(1), one step of a C iterator, which threads share without a lock. Building is
    O(steps * log(steps)).
    """

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:  # noqa: ARG002 - it measures no time
        """Return a picker over cells that live longer than it does."""
        ring = serving(cells)
        if not ring:
            return EmptyPicker(cells)
        steps = period(ring)
        choose = rotation(steps, rng)
        return RotatingPicker(cells, steps, choose, excluding(ring, choose, _turns()), rng)


def period(cells: Sequence[Cell]) -> list[Cell]:
    """Return one period of the schedule of cells of positive weight."""
    if equal_weights(cells):
        return list(cells)
    counts = whole([cell.endpoint.weight for cell in cells])
    size, most = len(cells), max(counts)
    steps: list[int] = []
    for number, count in enumerate(counts):
        steps += [generation(turn, count, most, number) * size + number for turn in range(1, count + 1)]
    steps.sort()
    return [cells[step % size] for step in steps]


def generation(turn: int, count: int, most: int, number: int) -> int:
    """Return the generation, out of ``most``, in which what is of weight ``count`` is served for the ``turn``-th time.

    gRPC serves it in generation g when ``(count * g + number * (most // 2)) % most`` has just come round, or would with
    the next step; so the j-th time is the first g at which ``count * (g + 1) + offset`` reaches ``j * most``.
    """
    offset = number * (most // 2) % most
    return -((offset - turn * most) // count) - 1


def whole(weights: Sequence[float]) -> list[int]:
    """Return whole numbers from 1 in the ratios of the weights, or nearly so where they would be too large."""
    longest = max(LONGEST, 16 * len(weights))
    exact = {weight: _plain(weight) for weight in set(weights)}  # thousands of endpoints have a few different weights
    if all(exact.values()):
        scale = lcm(*(part.denominator for part in exact.values() if part))
        scaled_up = {weight: int(part * scale) for weight, part in exact.items() if part}
        counts = _reduced([scaled_up[weight] for weight in weights])
        if sum(counts) <= longest:
            return counts
    most = max(weights)
    parts = [weight / most for weight in weights]
    scaled = longest / sum(parts)
    return _reduced([max(1, round(part * scaled)) for part in parts])


def _reduced(counts: list[int]) -> list[int]:
    common = gcd(*counts)
    return [count // common for count in counts]


def _plain(weight: float) -> Fraction | None:
    """Return it as a fraction of small numbers, as people write weights; None for an outcome of arithmetic."""
    if weight > LONGEST:
        return None
    fraction = Fraction(weight).limit_denominator(_DENOMINATORS)
    return fraction if float(fraction) == weight else None


def _turns() -> Callable[[Sequence[Cell]], Cell]:
    """Return a weighted rotation over lists that differ from call to call."""
    turns = 0

    def among(allowed: Sequence[Cell]) -> Cell:
        nonlocal turns
        turns += 1
        steps = period(allowed)
        return steps[turns % len(steps)]

    return among
