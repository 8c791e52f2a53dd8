"""A part of something as Envoy writes it: so many of a hundred, of ten thousand or of a million."""

from __future__ import annotations

from typing import TYPE_CHECKING

from svcmesh.discovery.xds.invalid import Invalid

if TYPE_CHECKING:
    from svcmesh._proto import svcmesh_xds_pb2 as wire

_PARTS = (100, 10_000, 1_000_000)  # by DenominatorType


def share_of(part: wire.FractionalPercent) -> float:
    """Return a part as a number from 0 to 1; what is more than all is all.

    Raises:
        Invalid: it is of nothing known.
    """
    if part.denominator not in range(len(_PARTS)):
        raise Invalid(f"parts of {part.denominator}, which is no denominator")
    return min(part.numerator / _PARTS[part.denominator], 1.0)
