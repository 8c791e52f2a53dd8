"""The circuit breakers of one policy in one service: those of the service, and one for each endpoint that may need it.

Most endpoints never fail, and a breaker that is closed has nothing to say: so an endpoint gets its breaker at the
first end that may count against it, and costs nothing until then. Where the state is shared by a storage, others may
have opened a circuit at which no call of ours has failed; it is made, and its storage followed, from the first call on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from svcmesh.core.outcome import Outcome
from svcmesh.engine.circuits import Knocker, follow, new_breaker
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.member import Member, Permits
from svcmesh.policy.breaker import Breaker
from svcmesh.policy.circuit import CircuitBreaker
from svcmesh.policy.policy import Policy


class Breakers:
    """What refuses calls of one view. Breakers of equal settings are the same ones in all views of a service.

    Args:
        members: returns all endpoints that calls may go to.

    Attributes:
        of_service: none or one. unfollowed: somebody else's storage is not followed yet, so calls ask here first.

    Threads: any.
    """

    def __init__(self, cluster: Cluster, policy: Policy, members: Callable[[], list[Member]]) -> None:
        self._cluster = cluster
        self._members = members
        self._of_endpoints = tuple(config for config in policy.breakers if config.scope == "endpoint")
        self._of_service = tuple(config for config in policy.breakers if config.scope == "service")
        self._stored = tuple(config for config in self._of_endpoints if config.storage is not None)
        self._timed = any(config.slow is not None for config in policy.breakers)
        self._knocker = Knocker(cluster)
        self.unfollowed = any(config.storage is not None for config in policy.breakers)
        self.of_service = tuple(
            cluster.shared(config, partial(new_breaker, cluster, config, None)) for config in self._of_service
        )

    def of(self, member: Member) -> list[Breaker]:
        """Return the breakers of ``member``, as far as it has ever failed."""
        return [member.breakers[config] for config in self._of_endpoints if config in member.breakers]

    # -- what calls ask and tell -----------------------------------------------------------------------------------

    def admit(self, member: Member, now: float) -> Permits | None:
        """Ask the endpoint's breakers for permits; None when one of them refuses."""
        if self.unfollowed:
            self._follow()
        permits: list[tuple[Breaker, int]] = []
        for config in self._of_endpoints:
            breaker = member.breakers.get(config)
            if breaker is None:
                continue  # it never failed, nor is its state shared with others, so it is closed
            permit = breaker.admit(now)
            if permit is None:
                self.release(tuple(permits), member, now)
                return None
            permits.append((breaker, permit))
        return tuple(permits)

    def release(self, permits: Permits, member: Member, now: float) -> None:
        """Give permits back unused."""
        for breaker, permit in permits:
            breaker.settle(permit, None, now, member)

    def settle(
        self, member: Member, permits: Permits, outcome: Outcome, good: bool | None, now: float, seconds: float
    ) -> None:
        """Tell the endpoint's breakers how an attempt ended; ``good`` is None where it says nothing of the endpoint."""
        held = dict(permits)
        for config in self._of_endpoints:
            breaker = member.breakers.get(config)
            if breaker is None:
                if not outcome.blames and config.slow is None:
                    continue
                with self._cluster.lock:
                    breaker = self._made(config, member)
            breaker.settle(held.get(breaker), good, now, member, outcome.error, seconds)
            if outcome.refused and breaker.state == "open":
                self._knocker.knock(breaker, member)

    # -- what a new picker asks ------------------------------------------------------------------------------------

    def states(self, member: Member, now: float) -> set[str]:
        """Return the states of the breakers of ``member``, half-open where it is time."""
        return {self._woken(breaker, now) for breaker in self.of(member)}

    def want_all_calls(self, now: float) -> bool:
        """Whether every call has to ask or to tell: a circuit of the service is not closed, or slow ones count."""
        self.unfollowed |= any(config not in m.breakers for config in self._stored for m in self._members())
        states = {self._woken(breaker, now) for breaker in self.of_service}
        return self.unfollowed or self._timed or bool(states - {"closed"})

    def _woken(self, breaker: Breaker, now: float) -> str:
        """Return the state of ``breaker``, half-open if it is time; see to it that we look again when it will be."""
        breaker.wake(now)
        if breaker.half_opens_at is not None:
            self._cluster.look_at(breaker.half_opens_at)
        return breaker.state

    # -- making them -----------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Follow the storages of all breakers, with one for each endpoint."""
        cluster = self._cluster
        for config, breaker in zip(self._of_service, self.of_service, strict=True):
            if config.storage is not None:
                cluster.shared(("followed", config), partial(follow, cluster.runtime, breaker))
        with cluster.lock:
            for member in self._members():
                for config in self._stored:
                    self._made(config, member)
        self.unfollowed = False
        cluster.rebuild()

    def _made(self, config: CircuitBreaker, member: Member) -> Breaker:
        """Return the breaker of ``member``, made now if there is none. The cluster's lock is held."""
        found = member.breakers.get(config)
        if found is None:
            found = member.breakers[config] = new_breaker(self._cluster, config, member)
            if config.storage is not None:
                follow(self._cluster.runtime, found)
        return found
