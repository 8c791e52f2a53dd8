"""Faults as they meet a call: those of its policy and those that a test has armed, drawn once, and reported."""

from __future__ import annotations

from svcmesh.core.endpoint import Endpoint
from svcmesh.engine.view import View
from svcmesh.policy.fault import FaultTarget, Injection, Scope, draw


def injected(
    view: View, scope: Scope, method: str, endpoint: Endpoint | None = None, attempt: int = 1
) -> Injection | None:
    """Draw what happens to a call, or to an attempt of it at ``endpoint``; None for nothing, which is the rule."""
    faults = (*view.policy.all_faults, *view.cluster.faults)
    if not faults:
        return None
    injection = draw(faults, scope, FaultTarget(view.cluster.name, endpoint, method, attempt), view.runtime.rng)
    if injection is not None:
        for kind, happens in (("delay", injection.delay > 0), ("abort", injection.abort is not None)):
            if happens:
                view.runtime.events.emit("fault.injected", view.cluster.name, kind=kind)
    return injection
