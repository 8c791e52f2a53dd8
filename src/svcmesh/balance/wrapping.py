"""Configurations around another one: they say which endpoints that one chooses from, and it chooses.

What they add is decided when a picker is built, never in a pick: the picker is that of the configuration inside, over
fewer endpoints.
"""

from __future__ import annotations

from svcmesh.balance.configuration import Configuration, check_balancer
from svcmesh.balance.picker import LoadBalancer


class Wrapping(Configuration):
    """Base of the configurations that have another one inside; what that one does with keys and tables, they do.

    Attributes:
        child_policy: the configuration inside.
    """

    child_policy: LoadBalancer

    def __post_init__(self) -> None:
        """Check what is inside."""
        check_balancer("child_policy", self.child_policy)

    @property
    def affinity(self) -> bool:  # type: ignore[override]  # of the class for others, of the object here
        """Whether the pickers go by the key."""
        return bool(getattr(self.child_policy, "affinity", False))

    @property
    def slow(self) -> bool:  # type: ignore[override]  # as above
        """Whether building one takes so long that no call should wait for it."""
        return bool(getattr(self.child_policy, "slow", False))


def innermost(balancer: LoadBalancer) -> LoadBalancer:
    """Return the configuration that chooses in the end: what learns of calls, and wants reports, is that one."""
    while isinstance(balancer, Wrapping):
        balancer = balancer.child_policy
    return balancer


def named(balancer: LoadBalancer) -> str:
    """Return what a configuration is called, and what those inside of it are: ``"Subset of RoundRobin"``."""
    name = type(balancer).__name__
    return f"{name} of {named(balancer.child_policy)}" if isinstance(balancer, Wrapping) else name
