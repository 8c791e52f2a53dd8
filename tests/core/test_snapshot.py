"""Snapshots refuse what cannot hold, and differences are by address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import ConfigError, Endpoint, Snapshot
from svcmesh.core.snapshot import difference, sharing

A, B, C = (Endpoint(f"10.0.0.{n}:80") for n in (1, 2, 3))
HEAVY_B = Endpoint("10.0.0.2:80", weight=5)

sets = st.dictionaries(st.integers(1, 9), st.sampled_from([1, 2, 3]), max_size=9).map(
    lambda weights: [Endpoint(f"10.0.0.{n}:80", weight=w) for n, w in weights.items()]
)


def test_any_iterable_becomes_a_tuple():
    assert Snapshot(iter([A, B])).endpoints == (A, B)


@pytest.mark.parametrize(("endpoints", "says"), [([A, Endpoint(A.address, weight=3)], "twice"), (["a:1"], "Endpoint")])
def test_bad_lists_are_refused(endpoints, says):
    with pytest.raises(ConfigError, match=says):
        Snapshot(endpoints)


def test_difference_names_what_came_went_and_changed():
    found = difference([A, B], [HEAVY_B, C])

    assert (found.added, found.removed, found.changed) == ((C,), (A,), (HEAVY_B,))
    assert found


def test_order_is_no_change():
    assert not difference([A, B, C], [C, A, B])


@given(sets, sets)
def test_applying_a_difference_to_the_old_gives_the_new(old, new):
    found = difference(old, new)
    state = {e.address: e for e in old}
    for endpoint in found.removed:
        del state[endpoint.address]
    state |= {e.address: e for e in (*found.added, *found.changed)}

    assert state == {e.address: e for e in new}
    assert bool(found) == (set(old) != set(new) or any(e not in new for e in old))


@given(sets, sets)
def test_a_snapshot_that_shares_is_the_same_one_with_known_objects(old, new):
    """Equal endpoints are the very objects of before, so that whoever compares again compares by identity."""
    before, after = Snapshot(old, version=1), Snapshot(new, version=2, authoritative=True)
    shared, change = sharing(before, after)

    assert shared == after
    assert change == difference(old, new)
    assert {id(e) for e in shared.endpoints} >= {id(e) for e in old if e in new}
    assert after.endpoints == tuple(new), "the one that was given stays as it is"
