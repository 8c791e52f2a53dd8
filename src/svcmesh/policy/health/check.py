"""How often endpoints are asked whether they are well, and how many answers it takes to believe them.

Calls find out who is ill by failing. A health check finds it out beside them, and finds out who is well again without a
call that has to try; it costs requests to every endpoint from every client process, needed or not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from svcmesh.core import checks
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.policy.health.kinds import GrpcHealthCheck, HttpHealthCheck, TcpHealthCheck

CheckFunction = Callable[[Endpoint], bool | Awaitable[bool | None] | None]
"""A health check of one's own; see `HealthCheck`."""

_INTERVALS = ("interval", "no_traffic_interval")
_OTHER_INTERVALS = (
    "unhealthy_interval",
    "unhealthy_edge_interval",
    "healthy_edge_interval",
    "no_traffic_healthy_interval",
)
_KINDS = {
    "http_health_check": HttpHealthCheck,
    "grpc_health_check": GrpcHealthCheck,
    "tcp_health_check": TcpHealthCheck,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthCheck:
    """Ask every endpoint, again and again, whether it is well. Field names and meanings are Envoy's.

    Exactly one of the first four says what is asked.

    Args:
        http_health_check: a request by HTTP. grpc_health_check: gRPC's own service for it. tcp_health_check: a
            connection.
        custom_health_check: a function of the endpoint, plain or ``async``. True or None: it is well. False: it is not,
            and that is believed at once. What it raises counts like no answer. A plain one may block: it runs on a
            thread of its own, and is not called again for an endpoint before it has returned. `remaining` says in it
            how much time is left. One that refers to its mesh keeps it alive until it is closed.
        timeout: seconds that one check may take; more than 0; default 1.
        interval: seconds between the end of a check and the next one; more than 0; default 10.
        unhealthy_threshold: failures in a row that make a healthy endpoint unhealthy; at least 1; default 3. An answer
            that says no (a status that is not expected, ``NOT_SERVING``, False) does so at once.
        healthy_threshold: successes in a row that make an unhealthy one healthy; at least 1; default 2.
        initial_jitter: seconds up to which the first check waits, by chance; default 0.
        interval_jitter: seconds up to which every interval grows, by chance; default 0.
        interval_jitter_percent: percent of itself up to which every interval grows, by chance; default 10 (Envoy: 0),
            so that many clients do not ask at the same time.
        unhealthy_interval: instead of ``interval`` after a failure. None: ``interval``.
        unhealthy_edge_interval: after a failure that was not enough to make it unhealthy. None: ``unhealthy_interval``.
        healthy_edge_interval: after a success that was not enough to make it healthy. None: ``interval``.
        no_traffic_interval: instead of all of these while the service was never called; default 60.
        no_traffic_healthy_interval: the same after a success. None: ``no_traffic_interval``.
        reuse_connection: keep connections of HTTP and gRPC from one check to the next; default True.
        alt_port: a port to ask instead of the endpoint's; None: the endpoint's.
        ignore_new_hosts_until_first_hc: newcomers do not count among those of their priority before their first check,
            so that many of them at once make no panic; default False.

    The first check of an endpoint decides alone. Until then an endpoint takes calls where none has passed a check yet,
    as when a process starts; where one has, a newcomer waits for its first success.

    Raises:
        ConfigError: none or several of the four, or a field out of range.

    Source: Envoy, `HealthCheck` and health_checker_base_impl.cc.
    """

    http_health_check: HttpHealthCheck | None = None
    grpc_health_check: GrpcHealthCheck | None = None
    tcp_health_check: TcpHealthCheck | None = None
    custom_health_check: CheckFunction | None = None
    timeout: float = 1.0
    interval: float = 10.0
    unhealthy_threshold: int = 3
    healthy_threshold: int = 2
    initial_jitter: float = 0.0
    interval_jitter: float = 0.0
    interval_jitter_percent: float = 10.0
    unhealthy_interval: float | None = None
    unhealthy_edge_interval: float | None = None
    healthy_edge_interval: float | None = None
    no_traffic_interval: float = 60.0
    no_traffic_healthy_interval: float | None = None
    reuse_connection: bool = True
    alt_port: int | None = None
    ignore_new_hosts_until_first_hc: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        self._check_kind()
        checks.duration("timeout", self.timeout)
        for name in _INTERVALS:
            checks.duration(name, getattr(self, name))
        for name in _OTHER_INTERVALS:
            checks.seconds(name, getattr(self, name))
        for name in ("unhealthy_threshold", "healthy_threshold"):
            checks.whole(name, getattr(self, name), 1)
        for name in ("initial_jitter", "interval_jitter"):
            checks.duration(name, getattr(self, name), zero=True)
        checks.between("interval_jitter_percent", self.interval_jitter_percent, 0, 100)
        for name in ("reuse_connection", "ignore_new_hosts_until_first_hc"):
            checks.flag(name, getattr(self, name))
        if self.alt_port is not None and checks.whole("alt_port", self.alt_port, 1) > 65535:
            raise ConfigError(f"alt_port must be a port from 1 to 65535, not {self.alt_port!r}")

    def _check_kind(self) -> None:
        for name, kind in _KINDS.items():
            checks.optional(name, getattr(self, name), kind)
        custom = self.custom_health_check
        if custom is not None and (not callable(custom) or getattr(custom, "__hash__", None) is None):
            raise ConfigError(
                f"custom_health_check must be a function of an Endpoint that can be hashed, not {custom!r}"
            )
        given = [name for name in (*_KINDS, "custom_health_check") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(
                f"a HealthCheck needs exactly one of {', '.join(_KINDS)} and custom_health_check, "
                f"not {' and '.join(given) or 'none'}"
            )

    @property
    def asks(self) -> str:
        """What it asks, in a few words."""
        if self.http_health_check is not None:
            return f"{self.http_health_check.method} {self.http_health_check.path.partition('?')[0]}"
        if self.grpc_health_check is not None:
            return f"gRPC health {self.grpc_health_check.service_name}".rstrip()
        return "TCP" if self.tcp_health_check is not None else "a function"
