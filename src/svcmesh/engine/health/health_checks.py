"""The health checks of one service: one `Checking` for each way that a policy asks for.

Views whose policies check in the same way share what is found, as they share ejections. Those with another way have
checks and findings of their own, and those with none are not concerned.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from svcmesh.engine.health.checking import Checking, Host, Wanting
from svcmesh.engine.member import Member
from svcmesh.policy.health.check import HealthCheck
from svcmesh.policy.outlier import OutlierDetection


class HealthChecks:
    """All health checks of one cluster. Threads: any."""

    def __init__(self, cluster: Host) -> None:
        self._cluster = cluster
        self._all: dict[HealthCheck, Checking] = {}
        self._all_started = True

    def join(self, config: HealthCheck, view: Wanting) -> Checking:
        """Return the checks by ``config``, which go on as long as some view that joined them lives."""
        with self._cluster.lock:
            self._all = {other: checking for other, checking in self._all.items() if not checking.ended}
            checking = self._all.get(config)
            if checking is None:
                checking = self._all[config] = Checking(self._cluster, config)
                checking.follow(self._cluster.members)
                self._all_started = False
            checking.wanted.add(view)
            return checking

    def start(self) -> None:
        """Start to check: there are calls. Cost once that is done: one comparison."""
        if self._all_started:
            return
        with self._cluster.lock:
            self._all_started = True
            for checking in self._all.values():
                checking.start()
        self._cluster.rebuild()  # plain calls may go straight from now on

    def follow(self, members: Mapping[str, Member]) -> None:
        """Take note of who is there now. The cluster's lock is held."""
        for checking in self._all.values():
            checking.follow(members)

    def failing(self, ejecting: OutlierDetection) -> list[Collection[str]]:
        """Return who fails the checks of policies that eject so, for each way to check. The cluster's lock is held."""
        unwell = [checking for checking in self._all.values() if checking.failing]
        return [checking.failing.keys() for checking in unwell if ejecting in checking.ejecting()]

    def close(self) -> None:
        """Stop all of them. Takes no lock, because a finalizer may call it."""
        for checking in list(self._all.values()):
            checking.stop()
