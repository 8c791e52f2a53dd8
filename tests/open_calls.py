"""What the services of this process hold for calls: attempts in flight, and permits for probes of breakers.

A count that does not come back to zero steers pickers away from an endpoint for good, and a permit that nobody gives
back keeps a circuit half-open for its lease. Results of calls show neither, so counts are looked at after each test.

Services are remembered while a test runs, also those of a mesh that it has closed or dropped: a service keeps no mesh
alive, so that is seen by nobody.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svcmesh.engine.cluster import Cluster
    from svcmesh.policy.breaker import Breaker

_made: list[Cluster] = []
_watched: set[type] = set()


def remember() -> None:
    """Forget the services of before, and remember those that are made from now on, if svcmesh is loaded at all."""
    _made.clear()
    module = sys.modules.get("svcmesh.engine.cluster")
    if module is None or module.Cluster in _watched:
        return
    _watched.add(module.Cluster)
    real = module.Cluster.__init__

    @functools.wraps(real)
    def made(self: Cluster, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        _made.append(self)

    module.Cluster.__init__ = made


def forget() -> None:
    """Let go of all services: what is theirs may go away with them."""
    _made.clear()


def held() -> list[str]:
    """Describe what the services that are remembered hold for calls; empty when nothing is."""
    return [each for cluster in list(_made) for each in _held_by(cluster)]


def _held_by(cluster: Cluster) -> Iterator[str]:
    cluster.runtime.reapers.forget_closed()  # as everybody does who looks: calls on closed loops end once collected
    breakers: list[Breaker] = [each for each in cluster._shared.values() if hasattr(each, "_permits")]
    for member in {*cluster.members.values(), *cluster.draining}:
        breakers += member.breakers.values()
        if member.in_flight:
            yield f"service {cluster.name!r} still counts {member.in_flight} in flight at {member.endpoint.address}"
    for breaker in breakers:
        if breaker._permits:
            held, name = len(breaker._permits), breaker.circuit.name
            yield f"service {cluster.name!r} still counts {held} under way as probes of the breaker of {name!r}"
