"""Who stands out among the endpoints of a service: by success rate, and by percentage of failures.

All of it is double arithmetic in Envoy's order of operations, or gRPC's, so that the same counts give the same verdict
to the last bit. `sum` would not: since Python 3.12 it is more precise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Count(NamedTuple):
    """The requests of one endpoint in one interval."""

    address: str
    successes: int
    failures: int

    @property
    def requests(self) -> int:
        """All of them."""
        return self.successes + self.failures


class SuccessRate(NamedTuple):
    """Whose success rate is too far below the others'; fields as of `OutlierDetection`."""

    minimum_hosts: int
    request_volume: int
    stdev_factor: int

    def found(self, counts: Iterable[Count], scale: float) -> list[str]:
        """Return the addresses of those; ``scale``: what a rate without a failure is, 100 in Envoy and 1 in gRPC."""
        valid = [count for count in counts if count.requests and count.requests >= self.request_volume]
        if len(valid) < max(1, self.minimum_hosts):
            return []
        rates = [count.successes * scale / count.requests for count in valid]
        limit = threshold(rates, self.stdev_factor)
        return [count.address for count, rate in zip(valid, rates, strict=True) if rate < limit]


class FailurePercentage(NamedTuple):
    """Whose percentage of failures is too high, whatever the others' is; fields as of `OutlierDetection`."""

    minimum_hosts: int
    request_volume: int
    threshold: float

    def found(self, counts: Iterable[Count], *, beyond: bool) -> list[str]:
        """Return the addresses of those; ``beyond``: the threshold itself is not too high yet, as in gRPC."""
        valid = [count for count in counts if count.requests and count.requests >= self.request_volume]
        if len(valid) < self.minimum_hosts:
            return []
        if beyond:
            return [count.address for count in valid if count.failures / count.requests * 100.0 > self.threshold]
        return [count.address for count in valid if 100.0 - count.successes * 100.0 / count.requests >= self.threshold]


def threshold(rates: Sequence[float], stdev_factor: int) -> float:
    """Return the rate below which one is an outlier: the mean less ``stdev_factor`` thousandths of the deviation.

    Of 50, 100, 100, 100, 100 the mean is 90 and the standard deviation 20, so for a factor of 1900 it is 52.
    """
    total = 0.0
    for rate in rates:
        total += rate
    mean = total / len(rates)
    squares = 0.0
    for rate in rates:
        squares += (rate - mean) ** 2
    return mean - stdev_factor / 1000.0 * math.sqrt(squares / len(rates))
