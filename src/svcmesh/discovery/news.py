"""What of a registry's answers is news: the same endpoints again are none, and neither is the same complaint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from svcmesh.core.emit import Emit
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.snapshot import Snapshot


class News:
    """Makes snapshots of what one watch of ``service`` finds at ``whose``."""

    def __init__(self, emit: Emit, service: str, whose: str) -> None:
        self._emit = emit
        self._service = service
        self._whose = whose
        self._known: tuple[tuple[Endpoint, ...], bool, Mapping[str, Any] | None] | None = None
        self._left_out: tuple[str, ...] = ()

    def of(
        self,
        endpoints: tuple[Endpoint, ...],
        left_out: tuple[str, ...],
        *,
        version: str | int | None,
        authoritative: bool,
        policy: Mapping[str, Any] | None = None,
        ordered: bool = False,
    ) -> Snapshot | None:
        """Return a snapshot, or None if that was known; say what is ``left_out`` when that is another."""
        if left_out != self._left_out:
            self._left_out = left_out
            if left_out:
                told = f"{len(left_out)} instances that {self._whose} lists cannot be used; {left_out[0]}"
                self._emit("config.warning", service=self._service, error=told)
        known = endpoints, authoritative, policy
        if known == self._known:
            return None
        self._known = known
        return Snapshot(endpoints, version=version, policy=policy, authoritative=authoritative, ordered=ordered)
