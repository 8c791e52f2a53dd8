"""The state of one service as plain values, for `Mesh.state`, `explain` and whoever exports it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from svcmesh.balance.wrapping import named
from svcmesh.core.endpoint import Endpoint, Locality
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.member import Member
from svcmesh.engine.selection import Level
from svcmesh.engine.view import View
from svcmesh.policy.outlier import Ejection
from svcmesh.policy.policy import Policy


def describe(view: View) -> dict[str, Any]:
    """Return what JSON can hold of a service: its endpoints, their health, its budget and where it all comes from.

    Seconds are floats; times of the past are ages, so that the reader needs no clock of ours. Cost: O(endpoints), and
    for each other policy of the service what it keeps calls from.
    """
    cluster, policy = view.cluster, view.policy
    now = view.clock.now()
    with cluster.lock:
        members = dict(cluster.members)
        draining = len(cluster.draining)
        others = [
            other for other in cluster.views if isinstance(other, View) and other is not view and other.current is other
        ]
    own, *elsewhere = _by_policy([view, *others])
    ejected = _ejected(view)
    return {
        "service": cluster.name,
        "closed": view.runtime.closed,
        "discovery": _discovery(cluster, now),
        "endpoints": [_member(view, member, ejected, now) for member in members.values()],
        "draining": draining,
        "in_flight": sum(member.in_flight for member in members.values()),
        **_under(own, now),
        "priorities": [_level(level) for level in view.selection.plan.levels],
        "faults": len(policy.all_faults) + len(cluster.faults),
        "other_policies": _other_policies(elsewhere, members, now),
    }


def _discovery(cluster: Cluster, now: float) -> dict[str, Any]:
    """Return how old what is in force may be, and why nothing newer is."""
    watched = cluster.follower.state if cluster.follower is not None else None
    stale_for, error = None if watched is None else watched.age(now), cluster.failure
    lag = cluster.follower.lag if cluster.follower is not None else None
    if lag is not None:
        stale_for, error = max(stale_for or 0.0, now - lag.since), error or lag.error
    return {
        "ready": cluster.ready,
        "age": None if cluster.changed_at is None else now - cluster.changed_at,
        "stale_for": stale_for,
        "cached": watched is not None and watched.cached_at is not None,
        "expired": watched is not None and watched.expired,
        "error": error,
    }


def _under(views: Sequence[View], now: float) -> dict[str, Any]:
    """Return what is particular to one policy of a service, but for its endpoints. ``views``: all that it has."""
    view = views[0]
    policy = view.policy
    return {
        "panic": any(each.panicking for each in views),
        "breakers": [breaker.state for breaker in view.breakers.of_service],
        "retry_tokens": None if policy.retry is None else view.budget.tokens(now),
        "policy": {
            "sent_by_discovery": view.sent,
            "timeout": policy.timeout,
            "per_try_timeout": policy.per_try_timeout,
            "max_attempts": 1 if policy.retry is None else int(policy.retry.max_attempts),
            "load_balancer": named(view.selection.balancer),
            "locality": None if policy.locality is None else type(policy.locality).__name__,
            "panic_threshold": policy.panic_threshold,
            "health_check": None if policy.health_check is None else policy.health_check.asks,
        },
    }


def _by_policy(views: Iterable[View]) -> list[list[View]]:
    """Return the views in groups of one policy each, that of the first one first.

    But for a panic the views of one policy, and of some ports of it, stand alike.
    """
    groups: list[list[View]] = []
    hashed: dict[Policy, list[View]] = {}
    for view in views:
        try:
            group = hashed.setdefault(view.policy, [])
        except TypeError:  # it holds something of the user's that cannot be hashed
            group = next((each for each in groups if each[0].policy == view.policy), [])
        if not group:
            groups.append(group)
        group.append(view)
    return groups


def _other_policies(
    groups: Iterable[Sequence[View]], members: Mapping[str, Member], now: float
) -> list[dict[str, Any]]:
    """Return how a service stands under its other policies: that of a function, of a client by `with_policy`.

    Of the endpoints only those that each keeps calls from, and no more are looked at: there may be many policies, and
    many endpoints.
    """
    places = {address: place for place, address in enumerate(members)}
    broken = [address for address, member in members.items() if _has_open_breaker(member)]
    found = []
    for views in groups:
        view, ejected = views[0], _ejected(views[0])
        suspects = places.keys() & {*ejected, *view.failing(), *broken}
        asked = [members[address] for address in sorted(suspects, key=places.__getitem__)]
        reasons = [(member.endpoint, _held_back(view, member, ejected, now)) for member in asked]
        held_back = [{**_endpoint(endpoint), **why} for endpoint, why in reasons if _is_held_back(why)]
        found.append({**_under(views, now), "held_back": held_back})
    return found


def _has_open_breaker(member: Member) -> bool:
    return bool(member.breakers) and any(breaker.state == "open" for breaker in list(member.breakers.values()))


def _is_held_back(why: Mapping[str, Any]) -> bool:
    return bool(why["ejected"] or "open" in why["breakers"] or (why["check"] and not why["check"]["takes_calls"]))


def _ejected(view: View) -> dict[str, Ejection]:
    """Return who is ejected under a policy, asked once for all endpoints."""
    with view.cluster.lock:
        return dict(view.ejections())


def _member(view: View, member: Member, ejected: Mapping[str, Ejection], now: float) -> dict[str, Any]:
    return {
        **_endpoint(member.endpoint),
        "priority": view.selection.priority_of(member.endpoint),
        "in_flight": member.in_flight,
        "started": member.started,
        "unsuccessful": member.unsuccessful,
        **_held_back(view, member, ejected, now),
    }


def _held_back(view: View, member: Member, ejected: Mapping[str, Ejection], now: float) -> dict[str, Any]:
    """Return what may keep calls from an endpoint under one policy."""
    ejection = ejected.get(member.endpoint.address)
    return {
        "ejected": None if ejection is None else {"reason": ejection.reason, "for": max(0.0, ejection.until - now)},
        "breakers": [breaker.state for breaker in view.breakers.of(member)],
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
        "degraded": checked.degraded,
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
