"""What a control plane has clients drop of their calls (`drop_overloads`), as a fault of the policy.

A call is dropped before anything is done for it, and nobody repeats it: that is an abort of scope ``call``. Where a
route shares its calls among clusters, each cluster drops some of its part. Which cluster a call is for is not known
that early, so of all calls as many are dropped as of the parts together.

Source: Envoy, endpoint.proto; gRPC, proposal A27.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from svcmesh.discovery.xds.path import Part
from svcmesh.policy.fault import Abort, Fault

_EXACT = 6  # decimals of a percentage: what a part of a million needs, and two of them


def faults_for(share: float) -> tuple[Fault, ...]:
    """Return the faults that drop this share of all calls, from 0 to 1."""
    percent = round(100 * share, _EXACT)
    return (Fault(abort=Abort("UNAVAILABLE"), percent=percent),) if percent else ()


def faults_of(parts: Sequence[Part]) -> tuple[tuple[Fault, ...], tuple[str, ...]]:
    """Return the faults that clusters ask for together, and which of these wishes are not heeded, in words.

    Clusters that stand in for others have no say before those have no endpoints.
    """
    share: float | None = None
    told: list[str] = []
    for _, same in groupby(parts, key=lambda part: part.tier):
        tier = list(same)
        if share is None:
            if any(part.assignment.endpoints for part in tier):
                share = sum(part.share * part.assignment.drop for part in tier) / sum(part.share for part in tier)
        else:
            told += [
                f"what {part.assignment.name!r} wants dropped is not: it stands behind other clusters"
                for part in tier
                if 0 < part.assignment.drop < 1
            ]
    return faults_for(share or 0.0), tuple(told)
