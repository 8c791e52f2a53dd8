"""Pickers made of pickers: the draw decides, and who is left when the part that was drawn has nobody."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from svcmesh import Endpoint
from svcmesh.balance import RoundRobin
from svcmesh.balance.cell import Cell
from svcmesh.balance.redraw import EmptyPicker
from svcmesh.balance.several import Several, Slotted
from svcmesh.core.clock import SYSTEM

ONE, TWO, THREE, FOUR = (Endpoint(f"10.0.0.{n}:80") for n in range(1, 5))


def part(*endpoints):
    return RoundRobin().over([Cell(endpoint) for endpoint in endpoints], random.Random(1), SYSTEM)


def chosen(picker, key=None, exclude=()):
    cell = picker.choose_from(key, exclude)
    return None if cell is None else cell.endpoint


def test_the_draw_decides():
    draws = iter([0, 1, 1, 0])
    picker = Several([part(ONE), part(TWO)], draws.__next__)

    assert [picker.pick() for _ in range(4)] == [ONE, TWO, TWO, ONE]
    assert {cell.endpoint for cell in picker.cells} == {ONE, TWO}


def test_who_is_excluded_is_passed_by_for_the_next_part_that_has_somebody():
    picker = Several([part(ONE), part(TWO), part(THREE)], lambda: 1)

    assert chosen(picker, exclude=[TWO]) == ONE
    assert chosen(picker, exclude=[TWO, ONE]) == THREE
    assert chosen(picker, exclude=[ONE, TWO, THREE]) is None


def test_slots_are_whole_percents_by_chance():
    picker = Slotted([part(ONE), part(TWO)], [0] * 84 + [1] * 16, random.Random(1))
    found = Counter(picker.pick() for _ in range(20_000))

    assert found[TWO] == pytest.approx(3200, abs=260)  # five standard deviations


@pytest.mark.parametrize(("key", "expected"), [(0, ONE), (83, ONE), (84, TWO), (99, TWO), (100, ONE), (2**64 - 1, ONE)])
def test_a_key_has_its_own_percent(key, expected):
    """As Envoy has it: the hash modulo 100, plus 1, against the sums of the loads. 2**64 - 1 is 15 of those."""
    picker = Slotted([part(ONE), part(TWO)], [0] * 84 + [1] * 16, random.Random(1))

    assert chosen(picker, key) == expected
    assert picker.pick(key) == expected


def test_where_all_calls_go_to_one_part_nothing_stands_in_between():
    first = part(ONE, TWO)
    picker = Slotted([first, part(THREE)], [0] * 100, random.Random(1))

    assert picker.choose is first.choose
    assert chosen(picker, exclude=[ONE, TWO]) == THREE


def test_a_slot_of_nobody_is_nobody_although_others_are_there():
    picker = Slotted([part(ONE)], [None] * 50 + [0] * 50, random.Random(1))

    assert chosen(picker, 0) is None
    assert chosen(picker, 50) == ONE
    assert 300 < sum(picker.choose() is None for _ in range(1000)) < 700
    assert Slotted([], [None] * 100, random.Random(1)).pick() is None


def test_an_empty_part_passes_its_calls_on():
    picker = Several([EmptyPicker(()), part(FOUR)], lambda: 0)

    assert chosen(picker) == FOUR
    assert picker.choose() is None, "a plain call asks no second time: the machine does"
