"""How far counts are from expected shares, and how far chance may take them."""

from __future__ import annotations

from math import sqrt


def chi_square(counts, weights):
    """Return the chi-square statistic of counts against shares in proportion to weights."""
    total, weight = sum(counts.values()), sum(weights.values())
    expected = {key: total * share / weight for key, share in weights.items()}
    return sum((counts.get(key, 0) - mean) ** 2 / mean for key, mean in expected.items())


def critical(freedom):
    """Return a bound that chance passes about once in a million (Wilson and Hilferty's approximation)."""
    if freedom == 0:
        return 1e-9
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + 4.75 * sqrt(spread)) ** 3
