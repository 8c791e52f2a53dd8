"""Calls shared between localities by weight: so much to each zone, as long as its hosts can take it.

The weight of a locality counts in proportion to its healthy hosts and 40 % more, so a zone keeps its share until fewer
than 71.43 % of its hosts are well. Envoy walks the localities by earliest deadline, under a lock; here a counter and
gRPC's static stride arithmetic, over exact whole numbers, give the same shares without one.

Source: Envoy, locality_wrr.cc and, for keys, thread_aware_lb_impl.cc; gRPC, static_stride_scheduler.cc.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, count
from math import gcd, lcm

from svcmesh.balance.picker import Rng
from svcmesh.balance.weighted_round_robin import generation
from svcmesh.core import checks
from svcmesh.core.endpoint import Locality
from svcmesh.core.errors import ConfigError

Weights = tuple[tuple[Locality, int], ...]


@dataclass(frozen=True)
class LocalityWeighted:
    """Shares of the calls for each locality, within each priority.

    Args:
        weights: by locality, whole numbers; one of 0, or of a locality that is not named, takes no calls except in a
            panic, and with keys not even then. An endpoint without a locality belongs to ``Locality()``.

    Raises:
        ConfigError: something that is no locality or no weight, or weights that are all 0.
    """

    weights: Mapping[Locality, int] | Iterable[tuple[Locality, int]]

    def __post_init__(self) -> None:
        """Check the weights, and store them as pairs, which can be compared, hashed and pickled."""
        weights = pairs("weights", self.weights)
        object.__setattr__(self, "weights", weights)
        if not any(weight for _, weight in weights):
            raise ConfigError("weights of localities are all 0: no endpoint could ever be called")

    def weight_of(self, locality: Locality | None) -> int:
        """Return the weight of a locality."""
        return dict(self.weights).get(locality or Locality(), 0)

    def normalized(self, localities: Iterable[Locality]) -> dict[Locality, float]:
        """Return the weights of localities as parts of 1, for hashing; of one without a part none.

        Args:
            localities: where any host is, well or not; those that have none count for nothing, as in Envoy.
        """
        weights = {locality: self.weight_of(locality) for locality in localities}
        total = sum(weights.values())
        return {locality: weight / total for locality, weight in weights.items() if weight}


def pairs(field: str, given: object) -> Weights:
    """Return whole numbers by locality as pairs.

    Raises:
        ConfigError: they are not that.
    """
    found = checks.pairs(field, given, "whole numbers by Locality")
    for locality, number in found:
        if not isinstance(locality, Locality):
            raise ConfigError(f"{field} must be given by Locality, not by {locality!r}")
        checks.whole(f"{field} of {locality}", number, 0)
    return found


def effective(weight: int, eligible: int, counted: int, factor: int) -> Fraction:
    """Return what the weight of a locality is worth with so many of its hosts eligible, of those that count."""
    if counted <= 0:
        return Fraction(0)
    return weight * min(Fraction(1), Fraction(factor * eligible, 100 * counted))


def strides(weights: Sequence[Fraction], rng: Rng) -> Callable[[], int]:
    """Return a function that names a place in the list, each as often as its weight says; from a random start.

    The start is one of all that are served, not of all that are looked at: so the first place of many such functions is
    each as often as its weight says, too, which counts where endpoints change more often than calls come.

    Args:
        weights: more than 0 each.

    Threads: any; a step of `itertools.count` is one C call. Cost: O(largest / mean) on average.
    """
    counts = _whole(weights)
    size, most = len(counts), max(counts)
    sums = list(accumulate(counts))
    served = int(Fraction(rng.random()) * sums[-1])  # of whole numbers that no float may hold
    first = bisect_right(sums, served)
    begin = generation(sums[first] - served, counts[first], most, first)
    step = count(begin * size + first).__next__

    def place() -> int:
        while True:
            turn, number = divmod(step(), size)
            if (counts[number] * turn + number * (most // 2)) % most >= most - counts[number]:
                return number

    return place


def _whole(weights: Sequence[Fraction]) -> list[int]:
    scale = lcm(*(weight.denominator for weight in weights))
    counts = [int(weight * scale) for weight in weights]
    common = gcd(*counts)
    return [number // common for number in counts]
