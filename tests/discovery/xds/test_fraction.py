"""Parts of a hundred, of ten thousand and of a million, as numbers."""

from __future__ import annotations

import pytest

from svcmesh._proto import svcmesh_xds_pb2 as wire
from svcmesh.discovery.xds.fraction import share_of
from svcmesh.discovery.xds.invalid import Invalid


@pytest.mark.parametrize(
    ("numerator", "denominator", "share"),
    [(0, 0, 0.0), (25, 0, 0.25), (100, 0, 1.0), (250, 1, 0.025), (1, 2, 0.000001), (1_000_000, 2, 1.0), (101, 0, 1.0)],
)
def test_a_part_is_a_number_from_0_to_1(numerator, denominator, share):
    assert share_of(wire.FractionalPercent(numerator=numerator, denominator=denominator)) == share


def test_a_part_of_nothing_known_is_refused():
    with pytest.raises(Invalid, match="parts of 7, which is no denominator"):
        share_of(wire.FractionalPercent(numerator=1, denominator=7))
