"""The order of turns is that of asking everybody in every round, to the bit; what is asked follows the slots."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from svcmesh.balance.turns import turns


def envoys(shares, slots):
    """Return the order as maglev_lb.cc has it: everybody is asked in every round."""
    order, taken, most = [], [0.0] * len(shares), max(shares)
    iteration = 1
    while len(order) < slots:
        for number, share in enumerate(shares):
            if iteration * share < taken[number]:
                continue
            taken[number] += most
            order.append(number)
        iteration += 1
    return order[:slots]


def parts(weights):
    total = sum(weights)
    return [weight / total for weight in weights]


WEIGHTS = st.one_of(
    st.integers(1, 12),
    st.integers(1, 2**32),
    st.floats(1e-9, 1e9),
    st.sampled_from([1e-320, 1e-300, 0.1, 1 / 3, 1e300]),
)


@given(st.lists(WEIGHTS, min_size=1, max_size=9).map(parts), st.sampled_from([2, 13, 101, 1009, 4001]))
@example(parts([2**32] + [1] * 50), 1009)
@example(parts([0.1, 0.2, 0.3, 0.7]), 4001)
@example(parts([1000, 999, 1, 1]), 4001)
@example(parts([1] * 10), 4001)
@example(parts([1] * 49), 1009)
@example([1 / 3, 1 / 7, 1 / 3, 0.19], 4001)
@example([0.0, 0.0], 13)
@example([0.0, 1.0, 5e-324], 13)
def test_the_order_is_that_of_asking_everybody_in_every_round(shares, slots):
    """For shares of any size, those included that localities have given and that are no parts of 1."""
    assert list(turns(shares, slots)) == envoys(shares, slots)


def test_the_order_stays_the_same_where_sums_have_been_rounded_many_times():
    """The thousandth sum of a third is not a thousand thirds."""
    shares = parts([3, 1, 1 / 3, 0.1, 0.7, 2.9999999])

    assert list(turns(shares, 65_537)) == envoys(shares, 65_537)


class Counted(float):
    """A share that counts how often it was compared by way of a product."""

    products = 0

    def __rmul__(self, number):
        Counted.products += 1
        return float(self) * number


@pytest.mark.parametrize("heavy", [1, 1000, 2**32])
def test_a_heavy_endpoint_does_not_have_the_others_asked_in_each_of_its_rounds(heavy):
    """A thousand endpoints, and slots times the heaviest weight through the mean: 65 million otherwise."""
    slots, Counted.products = 65_537, 0
    order = list(islice(turns([Counted(part) for part in parts([heavy] + [1] * 999)], slots), slots))

    assert len(order) == slots
    assert Counted.products < 4 * slots
