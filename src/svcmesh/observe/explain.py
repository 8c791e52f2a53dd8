"""What the state of a service means, in words: the answer to "why did my call go there, or nowhere?"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from svcmesh.observe.explain_priorities import place, priorities, stands_by


def explain(state: Mapping[str, Any]) -> str:
    """Return a description of a service's state (as `Mesh.state` has it) for people; several lines."""
    lines = [f"service {state['service']}: {_verdict(state)}", f"  discovery: {_discovery(state['discovery'])}"]
    lines += [f"  {line}" for line in priorities(state["priorities"])]
    spared = _calls_ejected(state)
    lines += [f"  {_endpoint(endpoint, state, spared=spared)}" for endpoint in state["endpoints"]]
    if state["draining"]:
        lines.append(f"  {state['draining']} endpoints left discovery and are finishing their calls")
    lines.append(f"  policy: {_policy(state)}")
    lines += [f"  another policy: {_policy(other)}: {_elsewhere(other)}" for other in state["other_policies"]]
    if state["faults"]:
        lines.append(f"  {state['faults']} faults are armed: some calls fail or wait on purpose")
    return "\n".join(lines)


def _verdict(state: Mapping[str, Any]) -> str:
    endpoints = state["endpoints"]
    if state["closed"]:
        return "its mesh has been closed, so calls are refused"
    if not endpoints:
        answered = state["discovery"]["ready"]
        then = "calls are refused" if answered else "a call waits for the first answer of discovery"
        return f"no endpoint is known, so {then}"
    if "open" in state["breakers"]:
        return "its circuit breaker is open, so calls are refused"
    usable = [e for e in endpoints if _why_not(e) is None]
    if any(level["panic"] for level in state["priorities"]):
        well = [e for e in endpoints if not _ill(e) and not e["ejected"]]  # as priorities count: breakers are no reason
        return f"panic: only {len(well)} of {len(endpoints)} endpoints are well, so others that answer take calls too"
    if _calls_ejected(state):
        called = [e for e in endpoints if _why_not(e, spared=True) is None]
        return f"none of {len(endpoints)} endpoints is well, so {len(called)} that are only ejected take calls"
    called = [e for e in usable if not stands_by(e, state["priorities"])]
    panic = "; panic among those of a port: there others that answer take calls too" if state["panic"] else ""
    return f"{len(called)} of {len(endpoints)} endpoints take calls{panic}"


def _calls_ejected(state: Mapping[str, Any]) -> bool:
    """Whether calls go to ejected endpoints rather than to nobody, as they do where the policy wants no panic.

    Then priorities count some as well, although every endpoint is ill or ejected.
    """
    refused = state["closed"] or "open" in state["breakers"]
    well = not refused and any(level["healthy"] or level["degraded"] for level in state["priorities"])
    return well and all(_ill(endpoint) or endpoint["ejected"] for endpoint in state["endpoints"])


def _why_not(endpoint: Mapping[str, Any], *, spared: bool = False) -> str | None:
    """Return why an endpoint takes no calls; ``spared``: its ejection is no reason."""
    return _ill(endpoint) or (None if spared else _ejected(endpoint)) or _broken(endpoint)


def _ill(endpoint: Mapping[str, Any]) -> str | None:
    """Return why an endpoint takes no calls by what registry and checks say of it."""
    if endpoint["weight"] == 0:
        return "weight 0"
    if endpoint["health"] == "unhealthy":
        return "unhealthy in the registry"
    if endpoint["check"] is not None and not endpoint["check"]["takes_calls"]:
        return f"unhealthy by its check ({endpoint['check']['reason']})"
    return None


def _ejected(endpoint: Mapping[str, Any]) -> str | None:
    ejected = endpoint["ejected"]
    return None if ejected is None else f"ejected for {ejected['for']:.1f} s more ({ejected['reason']})"


def _broken(endpoint: Mapping[str, Any]) -> str | None:
    return "circuit breaker open" if "open" in endpoint["breakers"] else None


def _endpoint(endpoint: Mapping[str, Any], state: Mapping[str, Any], *, spared: bool) -> str:
    status = _status(endpoint, state, spared=spared)
    if len(state["priorities"]) > 1:
        status = f"priority {endpoint['priority']}, {status}"
    counts = (
        f"{endpoint['in_flight']} in flight, {endpoint['started']} started, {endpoint['unsuccessful']} unsuccessful"
    )
    where = "" if endpoint["locality"] is None else f" in {place(endpoint['locality'])}"
    return f"{endpoint['address']}{where}: {status}; {counts}"


def _status(endpoint: Mapping[str, Any], state: Mapping[str, Any], *, spared: bool) -> str:
    why_not = _why_not(endpoint, spared=spared)
    if why_not:
        return why_not
    if state["closed"] or "open" in state["breakers"]:
        return "well"  # and yet no call comes to it, as the first line says
    if "half-open" in endpoint["breakers"]:
        return "probed by its breaker"
    calls = "stands by" if stands_by(endpoint, state["priorities"]) else "takes calls"
    return f"{calls}, although {_ejected(endpoint)}" if endpoint["ejected"] else calls


def _elsewhere(other: Mapping[str, Any]) -> str:
    """Return what another policy of the service keeps calls from."""
    if "open" in other["breakers"]:
        return "its circuit breaker is open, so calls are refused"
    found = [f"{endpoint['address']} {_why_not(endpoint)}" for endpoint in other["held_back"]]
    panic = ["panic"] if other["panic"] else []
    return "; ".join([*panic, *found]) or "no endpoint is ejected or has an open breaker"


def _discovery(discovery: Mapping[str, Any]) -> str:
    if not discovery["ready"]:
        return "no answer yet" + (f"; it fails: {discovery['error']}" if discovery["error"] else "")
    if discovery["expired"]:
        why = f"; it fails: {discovery['error']}" if discovery["error"] else ""
        return f"no answer for {discovery['stale_for']:.1f} s, so what was known is not used any more (max_stale){why}"
    if discovery["cached"]:
        why = f"; it fails: {discovery['error']}" if discovery["error"] else ""
        return f"no answer yet{why}; what a cache knew {discovery['stale_for']:.1f} s ago is in force"
    text = f"last change {discovery['age']:.1f} s ago"
    if discovery["error"]:
        stale = "" if discovery["stale_for"] is None else f" for {discovery['stale_for']:.1f} s"
        text += f"; it fails{stale}: {discovery['error']}; what was known stays in force"
    return text


def _policy(state: Mapping[str, Any]) -> str:
    policy = state["policy"]
    tokens = "" if state["retry_tokens"] is None else f", {state['retry_tokens']:.1f} retries in the budget"
    locality = "" if policy["locality"] is None else f", {policy['locality']}"
    check = "" if policy["health_check"] is None else f", health check: {policy['health_check']}"
    sent = "sent by discovery: " if policy["sent_by_discovery"] else ""
    return (
        f"{sent}timeout {_seconds(policy['timeout'])}, per try {_seconds(policy['per_try_timeout'])}, "
        f"{policy['max_attempts']} attempts{tokens}, {policy['load_balancer']}{locality}{check}"
    )


def _seconds(value: float | None) -> str:
    return "none" if value is None else f"{value:g} s"
