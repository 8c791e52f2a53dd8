"""Blocks: all places in their order, in parts of one length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from svcmesh.balance.blocks import BLOCK, blocks


@given(st.integers(1, 50_000))
def test_blocks_are_all_places_in_their_order(size):
    places = range(size)

    assert [place for block in blocks(size) for place in places[block]] == list(places)


@given(st.integers(1, 50_000))
def test_blocks_are_of_nearly_one_length_and_none_is_short(size):
    lengths = [block.stop - block.start for block in blocks(size)]

    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= min(size, BLOCK)
    assert max(lengths) < 2 * BLOCK


def test_a_change_of_as_many_makes_no_new_ones():
    assert blocks(10_000) is blocks(10_000)
