"""The endpoints at the end of a way, as one list: clusters by their shares of the calls, those that stand in behind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from svcmesh.core.emit import Emit
from svcmesh.core.endpoint import Endpoint, Health
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.news import News
from svcmesh.discovery.xds.overload import faults_of
from svcmesh.discovery.xds.path import Part, Path

_TOLD = 5  # remarks that one warning shows


class Reader:
    """Makes snapshots of the way that one service's name leads.

    Args:
        emit: told of what cannot be used, and of what is asked for in vain. service: its name.
        keeping: a listener or cluster that is taken away leaves the service as it was.
    """

    def __init__(self, emit: Emit, service: str, *, keeping: bool = False) -> None:
        self._emit = emit
        self._service = service
        self._keeping = keeping
        self._news = News(emit, service, "xDS")
        self._remarks: list[str] = []

    def read(self, path: Path, version: str) -> Snapshot | None:
        """Return what lies at the end of ``path``; None if that was known, or is not there yet.

        Raises:
            DiscoveryError: nothing leads to endpoints, and something on the way is refused, and was never good, or was
                taken away, and that is to change nothing.
        """
        if not any(part.assignment.endpoints for part in path.parts):
            self._check_way(path)
        if path.pending:
            return None
        faults, unheeded = faults_of(path.parts)
        self._remark([*path.remarks, *unheeded, *path.refused])
        left_out = tuple(told for part in path.parts for told in part.assignment.left_out)
        sure = bool(path.parts) and not (path.absent or path.refused or left_out)
        policy = {**path.policy, **({"faults": faults} if faults else {})} or None
        return self._news.of(endpoints_of(path.parts), left_out, version=version, authoritative=sure, policy=policy)

    def _check_way(self, path: Path) -> None:
        """Raise where a way that leads to no endpoints does not say that there are none."""
        if path.refused:
            raise DiscoveryError(f"xDS: {path.refused[0]}")
        gone = [key for key in path.absent if key.kind.listed_whole] if self._keeping else []
        if gone:
            raise DiscoveryError(
                f"xDS: {gone[0].shown} does not exist; what was known stays, as ignore_resource_deletion says"
            )

    def _remark(self, remarks: list[str]) -> None:
        """Tell what people should know, when that is another than before."""
        if remarks == self._remarks:
            return
        self._remarks = remarks
        if remarks:
            more = len(remarks) - _TOLD
            told = "; ".join(remarks[:_TOLD]) + (f" (and {more} more)" if more > 0 else "")
            self._emit("config.warning", service=self._service, error=f"xDS: {told}")


def endpoints_of(parts: Sequence[Part]) -> tuple[Endpoint, ...]:
    """Return the endpoints of all parts, each address once: where it is used first, and its weights there added up."""
    if len(parts) == 1:
        return parts[0].assignment.endpoints
    found: dict[str, Endpoint] = {}
    behind = 0
    for _, same in groupby(parts, key=lambda part: part.tier):
        tier = [one for part in _shared(list(same)) for one in part]
        for one in tier:
            known = found.get(one.address)
            if known is None:
                found[one.address] = _like(one, weight=one.weight, priority=one.priority + behind)
            elif known.priority == one.priority + behind:
                found[one.address] = _like(known, weight=known.weight + one.weight, priority=known.priority)
        behind += max((one.priority + 1 for one in tier), default=0)
    return tuple(found.values())


def _shared(parts: Sequence[Part]) -> Iterable[Sequence[Endpoint]]:
    """Yield the endpoints of parts that share the calls, their weights such that each part has its share of them."""
    if len(parts) == 1:
        yield parts[0].assignment.endpoints
        return
    usable = sum(len(part.assignment.endpoints) for part in parts)
    for part in parts:
        ordered = sorted(part.assignment.endpoints, key=lambda one: one.priority)
        for priority, same in groupby(ordered, key=lambda one: one.priority):
            group = list(same)
            weights = sum(one.weight for one in group if one.health is not Health.UNHEALTHY)
            scale = part.share * usable / (weights or sum(one.weight for one in group))
            yield [_like(one, weight=one.weight * scale, priority=priority) for one in group]


def _like(one: Endpoint, *, weight: float, priority: int) -> Endpoint:
    return Endpoint(
        one.address, weight=weight, locality=one.locality, priority=priority, metadata=one.metadata, health=one.health
    )
