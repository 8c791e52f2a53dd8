"""What svcmesh says where it refuses: which service, which endpoint, why, and until when or what to do."""

from __future__ import annotations

import math

from svcmesh.core.endpoint import PICKED
from svcmesh.core.errors import CircuitOpen, ConfigError, DeadlineExceeded, DiscoveryError, NoEndpoints
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.exchange import Attempt
from svcmesh.engine.view import HeldBack


def check_deadline(cluster: Cluster, deadline: float) -> None:
    """Refuse a deadline that is later than no instant and earlier than none: it would limit nothing."""
    if math.isnan(deadline):
        raise ConfigError(f"the timeout of a call to service {cluster.name!r} must be a number of seconds, not nan")


def service_open(cluster: Cluster, wait: float) -> CircuitOpen:
    """The breaker of the whole service is open for ``wait`` seconds more; 0: until its probes have ended."""
    text = f"the circuit breaker of service {cluster.name!r} is open, {_until(wait)}"
    return CircuitOpen(text, retry_after=wait or None)


def endpoints_open(cluster: Cluster, held_back: HeldBack) -> CircuitOpen:
    """No endpoint is left whose breaker lets a call through."""
    known, wait = len(cluster.members), held_back.wait
    if PICKED.address in cluster.members:  # no service: a policy around one function
        return CircuitOpen(f"the circuit breaker of {cluster.name!r} is open, {_until(wait)}", retry_after=wait)
    whom = f"all {known}"
    if 0 < held_back.breaking < known:
        ejected = f", ejections from {held_back.ejected}" if held_back.ejected else ""
        whom = f"{held_back.breaking}{ejected} of the {known}"
    text = f"circuit breakers keep calls from {whom} endpoints of service {cluster.name!r}, {_until(wait)}"
    return CircuitOpen(text, retry_after=wait)


def no_endpoints(cluster: Cluster, failing: int = 0, lacking: str = "") -> NoEndpoints:
    """There is nobody to ask, and waiting would not help.

    Args:
        failing: so many do not pass their health check. lacking: what none of them has, if that is why.
    """
    if cluster.runtime.closed:
        return NoEndpoints(f"the mesh of service {cluster.name!r} has been closed; make its calls before that")
    known = len(cluster.members)
    what = f"has {lacking}" if lacking else "may take traffic"
    why = f"none of its {known} endpoints {what}" if known else "its discovery lists none"
    why += f", {failing} fail their health check" if failing else ""
    failure = f"; discovery fails: {cluster.failure}" if cluster.failure else ""
    return NoEndpoints(
        f"service {cluster.name!r} has no endpoint: {why}{failure}. Is the name right, and does an instance run?"
    )


def out_of_time(cluster: Cluster, waited: float) -> DeadlineExceeded:
    """The call's time was used up before an attempt could be made."""
    why = "before an attempt was made" if cluster.ready else "waiting for its endpoints"
    failure = f" (discovery fails: {cluster.failure})" if cluster.failure else ""
    advice = "" if cluster.ready else cluster.advice
    error = DeadlineExceeded(
        f"the time of a call to service {cluster.name!r} ended after {round(waited, 3):g} s, {why}{failure}{advice}"
    )
    if cluster.failure and not cluster.ready:
        error.__cause__ = DiscoveryError(cluster.failure)
    return error


def no_answer(cluster: Cluster, attempt: Attempt) -> DeadlineExceeded:
    """An attempt used up its time."""
    took, endpoint = attempt.until - attempt.started, attempt.member.endpoint
    whom = f"{cluster.name!r}" if endpoint is PICKED else f"service {cluster.name!r} at {endpoint.address}"
    return DeadlineExceeded(f"attempt {attempt.number} of a call to {whom} got no answer within {took:.3g} s")


def _until(wait: float | None) -> str:
    return f"for {wait:.3g} s more" if wait else "and probes are under way"
