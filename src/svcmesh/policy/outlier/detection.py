"""When an endpoint is ejected and for how long: the settings, checked.

A sign that is given a number is looked for; one that is None is not. Envoy looks for all of them and says by
``enforcing_…`` which of them matter: `OutlierDetection.envoy` starts from there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

from svcmesh.core import checks
from svcmesh.core.errors import ConfigError
from svcmesh.policy.outlier.ejection import SUCCESS_RATE_LOCAL_ORIGIN
from svcmesh.policy.outlier.fault import Fault
from svcmesh.policy.outlier.rates import FailurePercentage, SuccessRate
from svcmesh.policy.outlier.reading import READINGS, Name, Reading

LONGEST = 300.0
_FLAGS = (
    "split_external_local_origin_errors",
    "always_eject_one_host",
    "successful_active_health_check_uneject_host",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class OutlierDetection:
    """When an endpoint is ejected and for how long. Field names and meanings are Envoy's.

    Which ends of attempts count, and as what, is in docs/reference/policies/outlier-detection.md.

    Args:
        consecutive_5xx: failures in a row that eject, each a gateway failure or any other 5xx or gRPC's UNKNOWN,
            INTERNAL, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED; at least 1; default None: not by their number.
        consecutive_gateway_failure: failures in a row that eject: no connection, reset, per-try timeout, HTTP 502,
            503, 504, gRPC UNAVAILABLE. At least 1; default 5; None: not by their number.
        split_external_local_origin_errors: count what never got an answer apart, under the names with
            ``local_origin``, and not among the other failures; default False.
        consecutive_local_origin_failure: failures without an answer in a row that eject where they are counted apart;
            at least 1; default 5; None: not by their number.
        success_rate_stdev_factor: thousandths of the standard deviation by which a success rate must be below the mean
            of all, at least 0. This, one of the next two or ``enforcing_success_rate`` turns that on; 1900 then.
        success_rate_minimum_hosts: endpoints with enough requests below which rates are not compared, at least 0; 5.
        success_rate_request_volume: requests to an endpoint in an interval that are enough, at least 0; 100.
        failure_percentage_threshold: share of failures, in percent, that ejects; more than 0, at most 100; default
            85; None: not by share. gRPC's reading has 0, too: any failure.
        failure_percentage_request_volume: requests to the endpoint in the interval below which no share counts; at
            least 1; default 20 (Envoy: 50).
        failure_percentage_minimum_hosts: endpoints with that many requests below which no share counts, at least 0
            (Envoy: 5); shares are then taken once per interval, of what ``consecutive_5xx`` counts. Default None: each
            endpoint by itself, when it fails, of what ``consecutive_gateway_failure`` counts, split or not.
        enforcing_consecutive_5xx, enforcing_consecutive_gateway_failure, enforcing_consecutive_local_origin_failure,
            enforcing_success_rate, enforcing_local_origin_success_rate, enforcing_failure_percentage,
            enforcing_failure_percentage_local_origin: percent of what is found that does eject, from 0 to 100; 100.
        interval: seconds over which shares and rates are taken, and after which one ejection is forgiven; default 10.
        base_ejection_time: seconds of the first ejection; each further one is that much longer; default 5 (Envoy:
            30, for it cannot tell that an endpoint is back before the time is over).
        max_ejection_time: seconds of the longest; at least ``base_ejection_time``; default 300.
        max_ejection_time_jitter: seconds up to which a random time is added, in milliseconds, at least 0; None: a
            tenth of the ejection, so that endpoints that went together do not come back together.
        max_ejection_percent: share of the endpoints, in percent, that may be ejected at once, from 0 to 100. None:
            all but one of fewer than ten, and half of ten or more.
        always_eject_one_host: one may be ejected whatever that percentage is; default False.
        successful_active_health_check_uneject_host: a check of ``Policy.health_check`` that finds an ejected endpoint
            well ends its ejection; default False (Envoy: True), since calls may fail where a health page does not.
        reading: how all that is read: ``"standard"`` (never ejects the last endpoint, whatever the fields say, and ends
            an ejection at its instant, or as soon as one that refused connections accepts one), ``"envoy"`` or
            ``"grpc"`` (A50), with their limits and their clock.

    Raises:
        ConfigError: a value outside its range, or nothing that could eject.

    Source: Envoy, `OutlierDetection`; gRPC, proposal A50.
    """

    consecutive_5xx: int | None = None
    enforcing_consecutive_5xx: int = 100
    consecutive_gateway_failure: int | None = 5
    enforcing_consecutive_gateway_failure: int = 100
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failure: int | None = 5
    enforcing_consecutive_local_origin_failure: int = 100
    success_rate_stdev_factor: int | None = None
    success_rate_minimum_hosts: int | None = None
    success_rate_request_volume: int | None = None
    enforcing_success_rate: int | None = None
    enforcing_local_origin_success_rate: int = 100
    failure_percentage_threshold: float | None = 85
    failure_percentage_request_volume: int = 20
    failure_percentage_minimum_hosts: int | None = None
    enforcing_failure_percentage: int = 100
    enforcing_failure_percentage_local_origin: int = 100
    interval: float = 10.0
    base_ejection_time: float = 5.0
    max_ejection_time: float = LONGEST
    max_ejection_time_jitter: float | None = None
    max_ejection_percent: float | None = None
    always_eject_one_host: bool = False
    successful_active_health_check_uneject_host: bool = False
    reading: Name = "standard"

    def __post_init__(self) -> None:
        """Check every field."""
        self._check_numbers()
        self._check_times()
        for field in _FLAGS:
            checks.flag(field, getattr(self, field))
        if self.max_ejection_percent is not None:
            checks.between("max_ejection_percent", self.max_ejection_percent, 0, 100)
        if not isinstance(self.reading, str) or self.reading not in READINGS:
            raise ConfigError(f"reading must be one of {', '.join(READINGS)}, not {self.reading!r}")
        local = self.consecutive_local_origin_failure if self.split_external_local_origin_errors else None
        consecutive = (self.consecutive_gateway_failure, self.consecutive_5xx, local)
        if {*consecutive, self.failure_percentage_threshold, self.success_rate} == {None}:
            raise ConfigError(
                "consecutive_gateway_failure and failure_percentage_threshold are both None, and nothing else is given "
                "that could eject"
            )

    def _check_numbers(self) -> None:
        for field in ("consecutive_5xx", "consecutive_gateway_failure", "consecutive_local_origin_failure"):
            _check_whole(field, getattr(self, field), 1)
        for field in ("success_rate_stdev_factor", "success_rate_minimum_hosts", "success_rate_request_volume"):
            _check_whole(field, getattr(self, field), 0)
        threshold = self.failure_percentage_threshold
        least = threshold is not None and checks.between("failure_percentage_threshold", threshold, 0, 100) == 0
        if least and self.reading != "grpc":  # to which it must be exceeded, so that 0 is any failure
            raise ConfigError("failure_percentage_threshold must be more than 0; None turns it off")
        checks.whole("failure_percentage_request_volume", self.failure_percentage_request_volume, 1)
        _check_whole("failure_percentage_minimum_hosts", self.failure_percentage_minimum_hosts, 0)
        for field in self.__dataclass_fields__:
            if field.startswith("enforcing_") and (field, getattr(self, field)) != ("enforcing_success_rate", None):
                checks.between(field, checks.whole(field, getattr(self, field), 0), 0, 100)

    def _check_times(self) -> None:
        for field in ("interval", "base_ejection_time", "max_ejection_time"):
            checks.duration(field, getattr(self, field))
        if self.max_ejection_time < self.base_ejection_time:
            raise ConfigError(
                f"max_ejection_time must be at least base_ejection_time ({self.base_ejection_time!r}), "
                f"not {self.max_ejection_time!r}"
            )
        checks.seconds("max_ejection_time_jitter", self.max_ejection_time_jitter, zero=True)

    @classmethod
    def envoy(cls, **changes: Any) -> Self:
        """Return what Envoy makes of an ``outlier_detection`` in which only ``changes`` are given.

        Raises:
            ConfigError: as of the class. TypeError: no such field.
        """
        base: dict[str, Any] = {
            "consecutive_5xx": 5,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_failure_percentage": 0,
            "enforcing_failure_percentage_local_origin": 0,
            "successful_active_health_check_uneject_host": True,
            "reading": "envoy",
        }
        return cls(**{**_COMMON, **base, **_longest(changes), **changes})

    @classmethod
    def grpc(cls, **changes: Any) -> Self:
        """Return what gRPC's A50 says where its success rate and failure percentage are both on, and ``changes``.

        Raises:
            ConfigError: as of the class. TypeError: no such field.
        """
        base: dict[str, Any] = {"consecutive_gateway_failure": None, "reading": "grpc"}
        return cls(**{**_COMMON, **base, **_longest(changes), **changes})

    # -- what follows from the fields ------------------------------------------------------------------------------

    @property
    def read(self) -> Reading:
        """How all that is read."""
        return READINGS[self.reading]

    @property
    def success_rate(self) -> SuccessRate | None:
        """How success rates are compared; None: not at all."""
        hosts, volume = self.success_rate_minimum_hosts, self.success_rate_request_volume
        factor = self.success_rate_stdev_factor
        if {hosts, volume, factor, self.enforcing_success_rate} == {None}:
            return None
        return SuccessRate(
            5 if hosts is None else hosts, 100 if volume is None else volume, 1900 if factor is None else factor
        )

    @property
    def failure_percentage(self) -> FailurePercentage | None:
        """How shares of failures are judged once per interval; None: not so."""
        hosts, threshold = self.failure_percentage_minimum_hosts, self.failure_percentage_threshold
        if hosts is None or threshold is None:
            return None
        return FailurePercentage(hosts, self.failure_percentage_request_volume, threshold)

    @property
    def compares(self) -> bool:
        """Whether there is anything to judge once per interval."""
        return self.success_rate is not None or self.failure_percentage is not None

    @property
    def ticks(self) -> bool:
        """Whether there is anything at all to do once per interval."""
        return self.compares or self.read.ticks

    def counts(self, fault: Fault) -> bool:
        """Whether a failure of that kind can have any consequence; where it has none, it breaks runs as a success."""
        return fault is not Fault.SERVER or self.consecutive_5xx is not None or self.compares

    def enforcing(self, reason: str) -> int:
        """Return the percent of what is found for ``reason`` that does eject."""
        field = "local_origin_success_rate" if reason == SUCCESS_RATE_LOCAL_ORIGIN else reason  # Envoy's own order
        percent: int | None = getattr(self, f"enforcing_{field}")
        return 100 if percent is None else percent

    def most(self, population: int) -> int:
        """Return how many of ``population`` endpoints the standard reading has ejected at once."""
        if self.max_ejection_percent is None:
            allowed = population // 2 if population >= 10 else population
        else:
            allowed = math.floor(population * self.max_ejection_percent / 100 + 1e-9)
        if self.always_eject_one_host:
            allowed = max(allowed, 1)
        return max(0, min(allowed, population - 1))

    def allows(self, ejected: int, population: int) -> bool:
        """Whether one more of ``population`` endpoints may be ejected, when ``ejected`` are."""
        if self.read.spares or self.max_ejection_percent is None:
            return ejected < self.most(population)
        one_at_least = self.always_eject_one_host and not ejected
        return one_at_least or self.read.allows(self.max_ejection_percent, ejected, population)


_COMMON: dict[str, Any] = {
    "success_rate_stdev_factor": 1900,
    "failure_percentage_minimum_hosts": 5,
    "failure_percentage_request_volume": 50,
    "base_ejection_time": 30.0,
    "max_ejection_time_jitter": 0.0,
    "max_ejection_percent": 10,
}
"""Where Envoy and gRPC agree, and not with the standard policy."""


def _longest(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the default of the longest ejection: never less than the first one."""
    base = changes.get("base_ejection_time", 0.0)
    return {"max_ejection_time": base if isinstance(base, int | float) and base > LONGEST else LONGEST}


def _check_whole(field: str, value: int | None, low: int) -> None:
    if value is not None:
        checks.whole(field, value, low)
