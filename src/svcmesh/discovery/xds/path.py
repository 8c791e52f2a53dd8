"""The way from what is watched to endpoints, through whatever is known: where it ends, and what is missing on it.

Warming comes of itself: as long as something on the way has not come yet, there is nothing new to say, and what was
said holds. So a cluster that a route names from now on takes calls when its endpoints are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.xds.assignment import Assignment
from svcmesh.discovery.xds.clusters import Cluster
from svcmesh.discovery.xds.kinds import Key, Kind
from svcmesh.discovery.xds.resources import Resource
from svcmesh.discovery.xds.route_policy import within
from svcmesh.discovery.xds.routes import Listener, Routes

DEEPEST = 16
"""Clusters within clusters, as gRPC counts them."""

MOST = 1000
"""Clusters that one way may lead through."""


@dataclass(slots=True)
class Known:
    """What is known of a resource that somebody needs.

    Attributes:
        resource: the last good one. why: the last one was none, and why. absent: the control plane has none.
    """

    resource: Resource | None = None
    why: str = ""
    absent: bool = False

    @property
    def settled(self) -> bool:
        """Whether anything at all is known."""
        return self.resource is not None or bool(self.why) or self.absent


class Part(NamedTuple):
    """Endpoints at the end of a way. ``share`` of the calls, after all parts of a lower ``tier``."""

    assignment: Assignment
    share: float
    tier: int


@dataclass(slots=True)
class Path:
    """What a way leads through and to.

    Attributes:
        keys: all resources on it. pending: those that have not come. absent: those that do not exist.
        parts: its ends, by tier. refused: why resources on it are none, where there was no good one before.
        remarks: what people should know, though it stops nobody.
        policy: the fields of the policy that the route says.
    """

    keys: list[Key] = field(default_factory=list)
    pending: list[Key] = field(default_factory=list)
    absent: list[Key] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    policy: Mapping[str, Any] = field(default_factory=dict)


def path_of(root: Key, known: Callable[[Key], Known | None], name: str | None = None) -> Path:
    """Follow the way that begins at ``root``.

    Args:
        root: where it begins. known: says what is known of a resource.
        name: what is called, for routes to choose by; None: as ``root`` is.
    """
    tracer = _Tracer(known, root.name if name is None else name)
    tracer.follow(root)
    return tracer.path


class _Tracer:
    """Follows one way."""

    def __init__(self, known: Callable[[Key], Known | None], name: str) -> None:
        self.path = Path()
        self._known = known
        self._name = name
        self._tier = 0
        self._clusters = 0

    def follow(self, root: Key) -> None:
        found = self._find(root)
        try:
            if isinstance(found, Listener):
                self._listener(found)
            elif isinstance(found, Cluster):
                self._cluster(found, 1.0, ())
            elif isinstance(found, Assignment):
                self._end(found, 1.0)
        except DiscoveryError as error:
            self.path.refused.append(str(error))
        self.path.parts.sort(key=attrgetter("tier"))

    def _find(self, key: Key) -> Resource | None:
        """Return a resource, or take note of what is missing."""
        path, known = self.path, self._known(key)
        path.keys.append(key)
        if known is None or not known.settled:
            path.pending.append(key)
            return None
        if known.absent:
            path.absent.append(key)
        elif known.resource is None:
            path.refused.append(f"{key.shown}: {known.why}")
        elif known.why:
            path.remarks.append(f"{key.shown} stays as it was: {known.why}")
        return known.resource

    def _listener(self, listener: Listener) -> None:
        routes = listener.routes
        found = self._find(Key(Kind.ROUTES, routes)) if isinstance(routes, str) else routes
        if not isinstance(found, Routes):
            return
        host = found.of(self._name)
        if host.skipped:
            told = f"{host.skipped} routes of {found.name!r} that only some calls take are not followed"
            self.path.remarks.append(told)
        fields = host.policy.fields
        self.path.policy = fields if host.bounded else within(fields, listener.longest)
        if host.policy.left_out:
            told = f"what the route of {found.name!r} says is not applied: {', '.join(host.policy.left_out)}"
            self.path.remarks.append(told)
        for cluster, share in host.shares:
            self._tier = 0  # those that share the calls stand beside each other, whatever each has behind it
            self._to_cluster(cluster, share, ())

    def _to_cluster(self, name: str, share: float, above: tuple[str, ...]) -> None:
        self._clusters += 1
        if name in above or len(above) >= DEEPEST or self._clusters > MOST:
            raise DiscoveryError(f"cluster {name[:160]!r} stands within itself, or too deep, or beside too many others")
        found = self._find(Key(Kind.CLUSTER, name))
        if isinstance(found, Cluster):
            self._cluster(found, share, above)

    def _cluster(self, cluster: Cluster, share: float, above: tuple[str, ...]) -> None:
        held = cluster.held
        if isinstance(held, tuple):
            for name in held:
                self._to_cluster(name, share, (*above, cluster.name))
                self._tier += 1
            return
        found = self._find(Key(Kind.ENDPOINTS, held)) if isinstance(held, str) else held
        if isinstance(found, Assignment):
            self._end(found, share)

    def _end(self, assignment: Assignment, share: float) -> None:
        self.path.parts.append(Part(assignment, share, self._tier))
