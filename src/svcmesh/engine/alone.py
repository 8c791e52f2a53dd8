"""A policy's state where there is no discovery: one "endpoint", which is whatever the policy stands around."""

from __future__ import annotations

import atexit
import os
from weakref import WeakSet

from svcmesh.core.endpoint import PICKED
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.runtime import Runtime

_runtimes: WeakSet[Runtime] = WeakSet()
_clusters: WeakSet[Cluster] = WeakSet()


def alone(name: str, runtime: Runtime) -> Cluster:
    """Return a cluster that consists of one endpoint for ever; ``name`` is what errors call it.

    Its runtime is closed when the interpreter exits, and both start afresh in forked children.
    """
    cluster = Cluster(name, runtime, timers=False)  # nobody can listen, and each call looks for itself
    cluster.apply(Snapshot((PICKED,), authoritative=True))
    _runtimes.add(runtime)
    _clusters.add(cluster)
    return cluster


def _end() -> None:
    for runtime in list(_runtimes):
        runtime.close()
        runtime.worker.join()


def _reset() -> None:
    for runtime in list(_runtimes):
        runtime.reset_after_fork()
    for cluster in list(_clusters):
        cluster.reset_after_fork()


atexit.register(_end)
os.register_at_fork(after_in_child=_reset)
