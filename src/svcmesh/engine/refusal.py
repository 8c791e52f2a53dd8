"""What svcmesh says where it refuses: which service, which endpoint, why, and until when or what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator

from svcmesh.balance.stateful_session import Pinned
from svcmesh.core.endpoint import PICKED, Health
from svcmesh.core.errors import CircuitOpen, ConfigError, DeadlineExceeded, DiscoveryError, NoEndpoints
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.exchange import Attempt
from svcmesh.engine.view import HeldBack, View


def check_deadline(cluster: Cluster, deadline: float) -> None:
    """Refuse a deadline that is later than no instant and earlier than none: it would limit nothing."""
    if math.isnan(deadline):
        raise ConfigError(f"the timeout of a call to service {cluster.name!r} must be a number of seconds, not nan")


def service_open(cluster: Cluster, wait: float) -> CircuitOpen:
    """The breaker of the whole service is open for ``wait`` seconds more; 0: until its probes have ended."""
    text = f"the circuit breaker of service {cluster.name!r} is open, {_until(wait)}"
    return CircuitOpen(text, retry_after=wait or None)


def nobody(view: View, key: int | None, now: float, held_back: HeldBack | None) -> NoEndpoints | CircuitOpen:
    """There is nobody to ask for a call with this key; ``held_back``: what keeps calls away, where breakers do."""
    if isinstance(key, Pinned) and key.strict and view.picker.cells:
        return _session_stranded(view, key.address, now)
    if held_back is not None:
        return _endpoints_open(view.cluster, held_back)
    return no_endpoints(view.cluster, len(view.failing()), view.selection.lacking)


def none_to_pick(view: View, now: float) -> NoEndpoints:
    """There is nobody whom a call would go to now, for whatever reason; it looks as `nobody` to who only picks."""
    held_back = view.held_back(now)
    if held_back.breaking:
        opened = _endpoints_open(view.cluster, held_back)
        return NoEndpoints(*opened.args, retry_after=opened.retry_after)
    return no_endpoints(view.cluster, len(view.failing()), view.selection.lacking)


def _session_stranded(view: View, address: str, now: float) -> NoEndpoints | CircuitOpen:
    """Others may be called, but a strict session names this one."""
    named = f"the session of a call to service {view.cluster.name!r} names the endpoint {address!r}, "
    member = next((member for member in view.members() if member.endpoint.address == address), None)
    opened = [] if member is None else [b for b in view.breakers.of(member) if b.state != "closed"]
    if opened:
        wait = max(breaker.retry_after(now) for breaker in opened)
        return CircuitOpen(f"{named}whose circuit breaker is open, {_until(wait)}", retry_after=wait or None)
    why = f": it is not among the {len(view.members())} that there are" if member is None else ""
    return NoEndpoints(f"{named}which may take no calls{why}. A strict session goes to no other: begin a new one")


def _endpoints_open(cluster: Cluster, held_back: HeldBack) -> CircuitOpen:
    """No endpoint is left whose breaker lets a call through."""
    known, wait = len(cluster.members), held_back.wait
    if PICKED.address in cluster.members:  # no service: a policy around one function
        return CircuitOpen(f"the circuit breaker of {cluster.name!r} is open, {_until(wait)}", retry_after=wait)
    if known == 1:
        text = f"the circuit breaker of the only endpoint of service {cluster.name!r} is open, {_until(wait)}"
        return CircuitOpen(text, retry_after=wait)
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
    expired = cluster.follower is not None and cluster.follower.state.expired
    why = f"none of its {known} endpoints {what}" if known else "its discovery lists none"
    if not known and expired:
        why = "its registry could not be asked for too long"
    if known == 1:
        why = f"its only endpoint lacks {lacking}" if lacking else "its only endpoint may take no traffic"
    why += f", {failing} fail{'s its' if failing == 1 else ' their'} health check" if failing else ""
    why += "".join(_kept_away(cluster)) if known and not lacking else ""
    failure = f"; discovery fails: {cluster.failure}" if cluster.failure else ""
    advice = "Mesh.explain tells of each" if known else "Is the name right, and does an instance run?"
    advice = "Does the registry run, and is it reached?" if not known and expired else advice
    return NoEndpoints(f"service {cluster.name!r} has no endpoint: {why}{failure}. {advice}")


def _kept_away(cluster: Cluster) -> Iterator[str]:
    """Yield what the registry says of endpoints that take no traffic for it."""
    endpoints = [member.endpoint for member in list(cluster.members.values())]
    unhealthy = sum(endpoint.health is Health.UNHEALTHY for endpoint in endpoints)
    idle = sum(not endpoint.weight for endpoint in endpoints)
    if unhealthy:
        yield f", discovery calls {unhealthy} unhealthy"
    if idle:
        yield f", {idle} {'has' if idle == 1 else 'have'} weight 0"


def out_of_time(cluster: Cluster, waited: float) -> DeadlineExceeded:
    """The call's time was used up before an attempt could be made."""
    text = f"the time of a call to service {cluster.name!r} ended after {round(waited, 3):g} s, "
    if not cluster.ready:
        return _unheard(cluster, f"{text}waiting for its endpoints")
    failure = f" (discovery fails: {cluster.failure})" if cluster.failure else ""
    return DeadlineExceeded(f"{text}before an attempt was made{failure}")


def not_found(cluster: Cluster, allowed: float) -> DeadlineExceeded:
    """The call may wait ``allowed`` seconds for somebody to connect to, and these are over."""
    text = f"discovery named no endpoint of service {cluster.name!r} in the {allowed:.3g} s that connecting may take"
    return _unheard(cluster, text)


def _unheard(cluster: Cluster, text: str) -> DeadlineExceeded:
    """Discovery has not said anything yet, for which there may be a reason and a remedy."""
    failure = f" (discovery fails: {cluster.failure})" if cluster.failure else ""
    error = DeadlineExceeded(f"{text}{failure}{cluster.advice}")
    if cluster.failure:
        error.__cause__ = DiscoveryError(cluster.failure)
    return error


def no_answer(cluster: Cluster, attempt: Attempt) -> DeadlineExceeded:
    """An attempt used up its time."""
    took, endpoint = attempt.until - attempt.started, attempt.member.endpoint
    whom = f"{cluster.name!r}" if endpoint is PICKED else f"service {cluster.name!r} at {endpoint.address}"
    return DeadlineExceeded(f"attempt {attempt.number} of a call to {whom} got no answer within {took:.3g} s")


def _until(wait: float | None) -> str:
    return f"for {wait:.3g} s more" if wait else "and probes are under way"
