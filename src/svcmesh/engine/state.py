"""The state of one service as plain values, for `Mesh.state`, `explain` and whoever exports it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from svcmesh.balance.wrapping import named
from svcmesh.core.endpoint import Endpoint, Locality
from svcmesh.engine.member import Member
from svcmesh.engine.selection import Level
from svcmesh.engine.view import View
from svcmesh.policy.policy import Policy


def describe(view: View) -> dict[str, Any]:
    """Return what JSON can hold of a service: its endpoints, their health, its budget and where it all comes from.

    Seconds are floats; times of the past are ages, so that the reader needs no clock of ours. Cost: O(endpoints).
    """
    cluster, policy = view.cluster, view.policy
    now = view.clock.now()
    with cluster.lock:
        members = list(cluster.members.values())
        draining = len(cluster.draining)
        others = [other for other in cluster.views if isinstance(other, View)]
    watched = cluster.follower.state if cluster.follower is not None else None
    return {
        "service": cluster.name,
        "closed": view.runtime.closed,
        "discovery": {
            "ready": cluster.ready,
            "age": None if cluster.changed_at is None else now - cluster.changed_at,
            "stale_for": None if watched is None else watched.age(now),
            "cached": watched is not None and watched.cached_at is not None,
            "error": cluster.failure,
        },
        "endpoints": [_member(view, member, now) for member in members],
        "draining": draining,
        "in_flight": sum(member.in_flight for member in members),
        **_under(view, now),
        "priorities": [_level(level) for level in view.selection.plan.levels],
        "faults": len(policy.all_faults) + len(cluster.faults),
        "other_policies": [_elsewhere(other, members, now) for other in _each_policy(others, policy)],
    }


def _under(view: View, now: float) -> dict[str, Any]:
    """Return what is particular to one policy of a service, but for its endpoints."""
    policy = view.policy
    return {
        "panic": bool(view.panicking),
        "breakers": [breaker.state for breaker in view.service_breakers],
        "retry_tokens": None if policy.retry is None else view.budget.tokens(now),
        "policy": {
            "timeout": policy.timeout,
            "per_try_timeout": policy.per_try_timeout,
            "max_attempts": 1 if policy.retry is None else int(policy.retry.max_attempts),
            "load_balancer": named(view.selection.balancer),
            "locality": None if policy.locality is None else type(policy.locality).__name__,
            "panic_threshold": policy.panic_threshold,
            "health_check": None if policy.health_check is None else policy.health_check.asks,
        },
    }


def _each_policy(views: list[View], known: Policy) -> list[View]:
    """Return a view of each policy but ``known``: those of one policy, and of some ports of it, stand alike."""
    found: list[View] = []
    for view in views:
        if all(view.policy != policy for policy in (known, *(other.policy for other in found))):
            found.append(view)
    return found


def _elsewhere(view: View, members: list[Member], now: float) -> dict[str, Any]:
    """Return how a service stands under another of its policies: that of a function, of a client by `with_policy`.

    Of the endpoints only those that it keeps calls from: there may be many policies, and many endpoints.
    """
    held_back = []
    for member in members:
        found = _held_back(view, member, now)
        if found["ejected"] or "open" in found["breakers"] or (found["check"] and not found["check"]["takes_calls"]):
            held_back.append({**_endpoint(member.endpoint), **found})
    return {**_under(view, now), "held_back": held_back}


def _member(view: View, member: Member, now: float) -> dict[str, Any]:
    return {
        **_endpoint(member.endpoint),
        "priority": view.selection.priority_of(member.endpoint),
        "in_flight": member.in_flight,
        "started": member.started,
        "unsuccessful": member.unsuccessful,
        **_held_back(view, member, now),
    }


def _held_back(view: View, member: Member, now: float) -> dict[str, Any]:
    """Return what may keep calls from an endpoint under one policy."""
    ejection = view.ejections().get(member.endpoint.address)
    return {
        "ejected": None if ejection is None else {"reason": ejection.reason, "for": max(0.0, ejection.until - now)},
        "breakers": [breaker.state for breaker in view.breakers_of(member)],
        "check": _check(view, member),
    }


def _check(view: View, member: Member) -> dict[str, Any] | None:
    """Return what our own health checks say of an endpoint; None where there are none."""
    checked = None if view.checking is None else view.checking.checked(member)
    if checked is None:
        return None
    return {
        "passed": None if checked.first else checked.ill is None,
        "takes_calls": checked.ill is None,
        "reason": None if checked.ill is None else checked.ill.reason,
    }


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "address": endpoint.address,
        "weight": endpoint.weight,
        "health": endpoint.health.value,
        "locality": None if endpoint.locality is None else _locality(endpoint.locality),
    }


def _locality(locality: Locality) -> list[str]:
    return [locality.region, locality.zone, locality.sub_zone]


def _level(level: Level) -> dict[str, Any]:
    return {
        **{field.name: getattr(level, field.name) for field in fields(level)},
        "localities": [{"locality": _locality(zone), "share": share} for zone, share in level.localities],
    }
