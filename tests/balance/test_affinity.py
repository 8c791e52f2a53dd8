"""What pickers with affinity share: who is placed where, for which part, and which keys are keys."""

from __future__ import annotations

import gc
import random
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import Endpoint
from svcmesh.balance import LoadBalancer, Maglev, RingHash
from svcmesh.balance.affinity import AffinityPicker, host_key, normalized
from svcmesh.balance.cell import Cell

BOTH = pytest.mark.parametrize("config", [RingHash(), Maglev(table_size=101)], ids=["ring", "maglev"])


def cells(*weights: float) -> list[Cell]:
    return [Cell(Endpoint(f"10.0.0.{n}:80", weight=weight)) for n, weight in enumerate(weights)]


@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        ([1, 3], [0.25, 0.75]),
        ([1e308, 1e308], [0.5, 0.5]),
        ([1.5e308, 0.5e308], [0.75, 0.25]),
        ([10**308, 10**308, 0.0], [0.5, 0.5, 0]),
        ([10**308] * 8, [0.125] * 8),
    ],
    ids=["small", "their sum is no float", "nor is this", "nor that of whole ones, with a float", "nor without"],
)
def test_parts_add_up_to_one(weights: list[float], parts: list[float]) -> None:
    """Weights come from registries, and may be as large as a float can be."""
    assert normalized(cells(*weights)) == pytest.approx(parts)


@pytest.mark.parametrize(("named", "placed"), [("pod-7", "pod-7"), ("", "10.0.0.1:80"), (7, "10.0.0.1:80")])
def test_an_endpoint_is_placed_by_its_hash_key_if_that_is_a_text(named: object, placed: str) -> None:
    assert host_key(Cell(Endpoint("10.0.0.1:80", metadata={"hash_key": named}))) == placed


@BOTH
def test_a_call_without_a_key_gets_a_random_endpoint(config: LoadBalancer) -> None:
    endpoints = [cell.endpoint for cell in cells(1, 1, 1)]
    picker = config.picker(endpoints, rng=random.Random(1))

    assert {picker.pick() for _ in range(50)} == set(endpoints)
    assert {picker.pick(7) for _ in range(50)} == {picker.pick(7)}


@BOTH
@given(st.integers(-(2**70), 2**70))
def test_every_number_is_a_key_and_belongs_to_the_first_on_its_path(config: LoadBalancer, key: int) -> None:
    """It is looked up without walking; who is excluded is walked past."""
    picker = config.picker([cell.endpoint for cell in cells(1, 1, 1, 1)])
    assert isinstance(picker, AffinityPicker)
    first, second, *_ = picker.path(key)

    assert picker.choose_from(key, ()) is first
    assert picker.choose_from(key, [first.endpoint]) is second


@BOTH
@pytest.mark.parametrize("exclude", [(), (Endpoint("10.0.0.0:80"),)], ids=["plain", "excluding"])
def test_what_is_no_key_is_said(config: LoadBalancer, exclude: tuple[Endpoint, ...]) -> None:
    picker = config.picker([cell.endpoint for cell in cells(1, 1)])

    with pytest.raises(TypeError, match=r"hash_key\(\) makes one"):
        picker.pick("user-7", exclude)  # type: ignore[arg-type]


@BOTH
@given(st.integers(-(2**70), 2**70))
def test_a_number_stands_for_its_low_64_bits(config: LoadBalancer, key: int) -> None:
    """Signed hashes and wider ones mean one endpoint, whether somebody is excluded or not, and one path."""
    endpoints = [cell.endpoint for cell in cells(1, 1, 1, 1)]
    picker, low = config.picker(endpoints), key % 2**64
    path: list[Endpoint] = []
    for _ in endpoints:
        found = picker.pick(key, exclude=path)
        assert found is not None
        assert found == picker.pick(low, exclude=path)
        path.append(found)

    assert picker.pick(key) == picker.pick(key, exclude=[Endpoint("9.9.9.9:1")]) == path[0]


@BOTH
def test_a_table_that_was_replaced_is_gone_at_once(config: LoadBalancer) -> None:
    """And all endpoints with it that have left: the garbage collector would look through them in every other thread."""
    picker = config.picker([cell.endpoint for cell in cells(1, 1)])
    assert picker.pick(1) is not None
    assert picker.choose_from(1, ()) is not None
    gone = weakref.ref(picker)
    gc.disable()
    try:
        del picker
        assert gone() is None
    finally:
        gc.enable()
