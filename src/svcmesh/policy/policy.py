"""All that is done for the calls to one service, as one frozen value.

A policy is written down once, checked as a whole when it is built, and shared; what changes while calls are made
lives in the service. `Policy()` turns nothing on, so that what a policy does is what it says; `Policy.standard()` is
what a service gets when nobody said anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, Self

from svcmesh.balance import hash_on
from svcmesh.balance.configuration import check_balancer
from svcmesh.balance.locality_failover import LocalityFailover
from svcmesh.balance.locality_weighted import LocalityWeighted
from svcmesh.balance.picker import LoadBalancer
from svcmesh.balance.priority import Priorities
from svcmesh.balance.slow_start import SlowStart, slowed
from svcmesh.balance.stateful_session import StatefulSession
from svcmesh.balance.zone_aware import ZoneAware
from svcmesh.core import checks
from svcmesh.core.errors import ConfigError
from svcmesh.policy.circuit import CircuitBreaker
from svcmesh.policy.fault import Fault
from svcmesh.policy.health.check import HealthCheck
from svcmesh.policy.methods import check_idempotent, is_listed
from svcmesh.policy.outlier import OutlierDetection
from svcmesh.policy.retry import Retry

HashOn = hash_on.Rule | Callable[..., str | bytes | int | None]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is done for the calls to one service. Everything is optional, and off by default.

    Args:
        timeout: seconds that a call has in all, retries and waits included; more than 0; None: no limit of ours.
        per_try_timeout: seconds that each attempt has; at most ``timeout``; None: what is left of the call's.
        retry: when to make another attempt; None: never, not even of a request that was not sent.
        circuit_breaker: a breaker, or two: one of scope ``endpoint`` and one of scope ``service``.
        outlier_detection: when to take an endpoint out of rotation; None: never.
        health_check: how endpoints are asked, beside the calls, whether they are well; None: they are not asked.
        load_balancer: a configuration from `svcmesh.balance`; None: the less loaded of two (`LeastRequest()`).
        hash_on: what the key of a call is made of, for balancers that go by one (`RingHash`, `Maglev`): a rule such as
            ``svcmesh.balance.Header("x-user")``, a function, or several of them, which are combined as Envoy does. A
            call of which none finds anything goes to a random endpoint. Default: none.
        idempotent: whether calls may be repeated though they may have been executed: for all methods of gRPC and all
            functions, or for a set of ``"/pkg.Service/Method"`` and ``"/pkg.Service/*"``. HTTP goes by its method: no
            policy has a POST repeated.
        faults: faults to put in on purpose, one or several.
        panic_threshold: share of the endpoints of a priority, from 0 to 1, below which its ejections and bad health are
            ignored rather than sending all to the few that are left; never while all priorities together can take all
            calls; 0: never at all; default 0.
        priorities: how endpoints of several priorities, and degraded ones, share the calls; default `Priorities()`.
        locality: how calls are shared between localities: `LocalityWeighted`, `ZoneAware` or `LocalityFailover` of
            `svcmesh.balance`; None: not by localities.
        stateful_session: how callers come back to the endpoint that answered them, on HTTP and gRPC; None: they do not.
        slow_start: how the weight of an endpoint that has just come rises; None: it has its full weight at once.
        timeout_ends_streams: whether ``timeout`` holds for a stream to its last message (default) or, if False, until
            its headers or its first message have come.

    Raises:
        ConfigError: a field out of range or of the wrong kind, or two fields that contradict each other.

    Threads: any; it never changes.
    """

    timeout: float | None = None
    per_try_timeout: float | None = None
    retry: Retry | None = None
    circuit_breaker: CircuitBreaker | tuple[CircuitBreaker, ...] | list[CircuitBreaker] | None = None
    outlier_detection: OutlierDetection | None = None
    health_check: HealthCheck | None = None
    load_balancer: LoadBalancer | None = None
    hash_on: HashOn | Sequence[HashOn] | None = None
    idempotent: bool | Collection[str] = False
    faults: Fault | Iterable[Fault] = ()
    panic_threshold: float = 0.0
    priorities: Priorities = field(default_factory=Priorities)
    locality: LocalityWeighted | ZoneAware | LocalityFailover | None = None
    slow_start: SlowStart | None = None
    stateful_session: StatefulSession | None = None
    timeout_ends_streams: bool = True

    def __post_init__(self) -> None:
        """Check every field, then the fields against each other."""
        checks.seconds("timeout", self.timeout)
        checks.seconds("per_try_timeout", self.per_try_timeout)
        if self.timeout is not None and self.per_try_timeout is not None and self.per_try_timeout > self.timeout:
            raise ConfigError(
                f"per_try_timeout must be at most timeout ({self.timeout!r}), not {self.per_try_timeout!r}"
            )
        checks.optional("retry", self.retry, Retry)
        checks.optional("outlier_detection", self.outlier_detection, OutlierDetection)
        checks.optional("stateful_session", self.stateful_session, StatefulSession)
        checks.optional("health_check", self.health_check, HealthCheck)
        if self.load_balancer is not None:
            check_balancer("load_balancer", self.load_balancer)
        object.__setattr__(self, "hash_on", hash_on.rules(self.hash_on) or None)
        _check_affinity(self.load_balancer, self.hash_on)
        checks.between("panic_threshold", self.panic_threshold, 0, 1)
        checks.optional("slow_start", self.slow_start, SlowStart)
        _check_selection(self.priorities, self.locality, self.slow_start, self.load_balancer)
        checks.flag("timeout_ends_streams", self.timeout_ends_streams)
        object.__setattr__(self, "circuit_breaker", _check_breakers(self.circuit_breaker))
        object.__setattr__(self, "idempotent", check_idempotent(self.idempotent))
        object.__setattr__(self, "faults", _check_faults(self.faults))

    @classmethod
    def standard(cls) -> Policy:
        """Return the policy of a service for which nothing else was said; always the same object.

        10 s in all (streams: until their first sign of life), 3 s per try, three attempts, a retry budget of 20 %
        and 10 a second, the less loaded of two endpoints, ejection, a breaker per endpoint, panic below a half.
        """
        return _standard()

    def replace(self, /, **changes: Any) -> Self:
        """Return a copy with some fields changed. A new ``timeout`` holds for streams too, unless told otherwise.

        Raises:
            ConfigError: a field that does not exist, or a copy that would not be valid.
        """
        known = [each.name for each in fields(self)]
        for name in changes:
            if name not in known:
                raise ConfigError(f"{name} is not a field of Policy; there are {', '.join(known)}")
        if "timeout" in changes:
            changes.setdefault("timeout_ends_streams", True)
        return replace(self, **changes)

    def as_sent(self, sent: object) -> Policy:
        """Return what becomes of this policy where discovery sends something: a policy, or some fields of one.

        A ``timeout`` alone also shortens a longer ``per_try_timeout``, which would be no limit any more.
        ``faults`` come to those that are there.

        Raises:
            ConfigError: it is neither, or no valid policy comes of it.
        """
        if sent is None or isinstance(sent, Policy):
            return self if sent is None else sent
        if not isinstance(sent, Mapping) or not all(isinstance(name, str) for name in sent):
            raise ConfigError(f"discovery sends a Policy or a dict of its fields, not {sent!r}")
        timeout, per_try = sent.get("timeout", self.timeout), sent.get("per_try_timeout", self.per_try_timeout)
        numbers = isinstance(timeout, int | float) and isinstance(per_try, int | float)
        fields = {**sent, **({"per_try_timeout": timeout} if numbers and per_try > timeout else {})}
        if "faults" in sent:
            fields["faults"] = (*self.all_faults, *_check_faults(sent["faults"]))
        return self.replace(**fields)

    def is_idempotent(self, method: str) -> bool:
        """Return whether the gRPC method ``/pkg.Service/Method`` may be repeated though it may have been executed."""
        idempotent = self.idempotent
        return idempotent if isinstance(idempotent, bool) else is_listed(method, idempotent)

    @property
    def breakers(self) -> tuple[CircuitBreaker, ...]:
        """The circuit breakers, none, one or two."""
        breakers = self.circuit_breaker
        if breakers is None:
            return ()
        return (breakers,) if isinstance(breakers, CircuitBreaker) else tuple(breakers)

    @property
    def all_faults(self) -> tuple[Fault, ...]:
        """The faults to put in, however many."""
        return (self.faults,) if isinstance(self.faults, Fault) else tuple(self.faults)


def check_policy(policy: object) -> Policy:
    """Return ``policy`` when it is one.

    Raises:
        ConfigError: otherwise.
    """
    if not isinstance(policy, Policy):
        raise ConfigError(f"policy must be a svcmesh.Policy, not {policy!r}")
    return policy


@cache
def _standard() -> Policy:
    return Policy(
        timeout=10.0,
        per_try_timeout=3.0,
        retry=Retry(),
        circuit_breaker=CircuitBreaker(),
        outlier_detection=OutlierDetection(),
        panic_threshold=0.5,
        timeout_ends_streams=False,
    )


def _check_affinity(balancer: object, rules: object) -> None:
    if rules is not None and not getattr(balancer, "affinity", balancer is not None):
        found = "the default one" if balancer is None else f"{balancer!r}"
        raise ConfigError(f"hash_on needs a load_balancer that goes by keys, RingHash() or Maglev(), not {found}")


def _check_selection(priorities: object, locality: object, slow_start: object, balancer: LoadBalancer | None) -> None:
    if not isinstance(priorities, Priorities):
        raise ConfigError(f"priorities must be a Priorities, not {priorities!r}")
    if not isinstance(locality, LocalityWeighted | ZoneAware | LocalityFailover | None):
        raise ConfigError(
            f"locality must be a LocalityWeighted, a ZoneAware, a LocalityFailover or None, not {locality!r}"
        )
    if isinstance(locality, ZoneAware) and getattr(balancer, "affinity", False):
        raise ConfigError(f"locality: {balancer!r} sends a key to one endpoint wherever it is, not to a zone")
    if slow_start is not None and balancer is not None and slowed(balancer) is None:
        raise ConfigError(f"slow_start needs a load_balancer that goes by weights alone, not {balancer!r}")


def _check_breakers(given: Any) -> CircuitBreaker | tuple[CircuitBreaker, ...] | None:
    if given is None or isinstance(given, CircuitBreaker):
        return given
    if not isinstance(given, tuple | list) or not all(isinstance(breaker, CircuitBreaker) for breaker in given):
        raise ConfigError(f"circuit_breaker must be a CircuitBreaker or a tuple of them, not {given!r}")
    scopes = [breaker.scope for breaker in given]
    if len(set(scopes)) < len(scopes):
        raise ConfigError(f"circuit_breaker has two of the same scope: {', '.join(scopes)}")
    return tuple(given)


def _check_faults(given: Any) -> tuple[Fault, ...]:
    if isinstance(given, Fault):
        return (given,)
    if isinstance(given, str | dict) or not isinstance(given, Iterable):
        raise ConfigError(f"faults must be a Fault or several, not {given!r}")
    faults = tuple(given)
    for fault in faults:
        if not isinstance(fault, Fault):
            raise ConfigError(f"faults must hold Fault objects, not {fault!r}")
    return faults
