"""The ejections of one service: when one begins, how long it lasts, and when it is over.

A run of failures is judged when a failure comes in, and so is a share of them where nobody else's matters. What has to
be compared is judged once per interval, of what came in it: successes are only known as totals, so an interval is the
difference of two of them, and costs calls nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from svcmesh.balance.picker import Rng
from svcmesh.core.outcome import Outcome
from svcmesh.policy.outlier.detection import OutlierDetection
from svcmesh.policy.outlier.ejection import (
    CONSECUTIVE_5XX,
    CONSECUTIVE_GATEWAY_FAILURE,
    CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
    FAILURE_PERCENTAGE,
    FAILURE_PERCENTAGE_LOCAL_ORIGIN,
    SUCCESS_RATE,
    SUCCESS_RATE_LOCAL_ORIGIN,
    Ejection,
    passed,
)
from svcmesh.policy.outlier.fault import Fault, fault_of
from svcmesh.policy.outlier.rates import Count
from svcmesh.policy.outlier.record import Faults, Host, Record

_NONE = Faults()


class Tick(NamedTuple):
    """What a look at the past interval led to.

    Attributes:
        restored: addresses that are back. ejected: those that went after that.
        idle: there was nothing to see, and will be nothing until calls come.
    """

    restored: list[str]
    ejected: list[Ejection]
    idle: bool


class OutlierDetector:
    """The ejections of one service.

    Invariant: an endpoint is ejected only while ``config.allows`` it; in the standard reading never the last one.

    Threads: none of its own safety; the caller holds one lock round every method.

    Args:
        hosts: the endpoints that are there already, whose past is not looked at.
    """

    def __init__(self, config: OutlierDetection, rng: Rng, hosts: Mapping[str, Host] | None = None) -> None:
        self._config = config
        self._reading = config.read
        self._rng = rng
        self._records: dict[str, Record] = {}
        self._ejected: dict[str, Ejection] = {}
        self._well = {address: host.succeeded - host.faulty for address, host in (hosts or {}).items()}
        self._consecutive = [
            (reason, limit)
            for reason, limit in (
                (CONSECUTIVE_GATEWAY_FAILURE, config.consecutive_gateway_failure),
                (CONSECUTIVE_5XX, config.consecutive_5xx),
                (CONSECUTIVE_LOCAL_ORIGIN_FAILURE, config.consecutive_local_origin_failure),
            )
            if limit is not None
        ]
        self.ejected: Mapping[str, Ejection] = MappingProxyType(self._ejected)

    # -- when a failure comes in -----------------------------------------------------------------------------------

    def failed(
        self, address: str, host: Host, outcome: Outcome, now: float, population: Callable[[], int]
    ) -> Ejection | None:
        """Count a failure of ``address``; return the ejection when it was one too many.

        Args:
            address: whose failure.
            host: its successes.
            outcome: the failure; one that does not count is ignored.
            now: the current instant.
            population: counts the endpoints that could be chosen if none were ejected; asked where that matters.
        """
        fault = fault_of(outcome)
        if fault is None:
            return None
        record = self._records.get(address)
        if record is None:
            record = self._records[address] = Record(self._config)
        record.count(fault, host, now, refused=outcome.refused)
        if address in self._ejected:
            return None
        too_long = [reason for reason, limit in self._consecutive if record.run(reason).length >= limit]
        too_often = fault is not Fault.SERVER and self._fails_too_often(record, host, now)
        if not too_long and not too_often:
            return None
        room = self._config.allows(len(self._ejected), population())
        for reason in too_long:
            run = record.run(reason)
            if room and self._enforces(reason):
                return self._eject(address, reason, now, run.began)
            if room or self._reading.ticks:
                run.end()  # found and dealt with; in the standard reading one without room goes when there is some
        if not room or not too_often:
            return None
        if self._enforces(FAILURE_PERCENTAGE):
            return self._eject(address, FAILURE_PERCENTAGE, now, now - self._config.interval)
        record.clear()
        return None

    def due(self, now: float) -> list[str]:
        """Restore those whose time is over, where that is no matter of ticks, and return their addresses."""
        return [] if self._reading.ticks else self._return(now)

    def next_return(self) -> float | None:
        """Return the instant at which `due` has something to do; None for never."""
        if self._reading.ticks:
            return None
        return min((ejection.until for ejection in self._ejected.values()), default=None)

    def connected(self, address: str) -> bool:
        """Take note that ``address`` accepts connections; return whether that restored it."""
        if not self.awaits_connection(address):
            return False
        self._restore(address, None)
        return True

    def passed_check(self, address: str, now: float) -> bool:
        """Take note that a health check found ``address`` well; return whether that restored it."""
        if address not in self._ejected or not self._config.successful_active_health_check_uneject_host:
            return False
        self._restore(address, now if self._reading.ticks else None)
        return True

    def awaits_connection(self, address: str) -> bool:
        """Whether a connection that ``address`` accepts would restore it."""
        ejection = self._ejected.get(address)
        return ejection is not None and ejection.refusing and not self._reading.ticks

    def resize(self, population: int) -> list[str]:
        """Restore those due soonest until no more are ejected than ``population`` allows; return their addresses.

        For when endpoints left: the share that was right of ten may be all of the three that stayed. Envoy and gRPC
        leave it at that.
        """
        if not self._reading.spares:
            return []
        surplus = max(0, len(self._ejected) - self._config.most(population))
        soonest = sorted(self._ejected.values(), key=lambda ejection: ejection.until)[:surplus]
        for ejection in soonest:
            self._restore(ejection.address, None)
        return [ejection.address for ejection in soonest]

    def forget(self, address: str) -> None:
        """Drop everything about an endpoint that left discovery: should it come back, it starts afresh."""
        self._records.pop(address, None)
        self._ejected.pop(address, None)
        self._well.pop(address, None)

    # -- once per interval -----------------------------------------------------------------------------------------

    @property
    def compares(self) -> bool:
        """Whether a tick finds anything that no failure has found before."""
        return self._config.compares

    @property
    def waits_for_tick(self) -> bool:
        """Whether there is something that only ticks end."""
        return self._reading.ticks and (bool(self._ejected) or any(r.multiplier for r in self._records.values()))

    def tick(self, hosts: Mapping[str, Host], now: float, population: int) -> Tick:
        """Look at the interval since the last tick: judge all ``hosts``, and end what is over."""
        taken = self._take(hosts) if self.compares else []
        if self._reading.returns_first:
            restored = self._return(now) if self._reading.ticks else []
            ejected = self._judge(taken, now, population)
            self._forgive(now)
        else:
            ejected = self._judge(taken, now, population)
            self._forgive(now)
            restored = self._return(now)
        return Tick(restored, ejected, idle=not taken and not self.waits_for_tick)

    def _take(self, hosts: Mapping[str, Host]) -> list[tuple[str, int, Faults]]:
        """Return who was asked in the interval that ends now, with how many good answers and which faults."""
        taken = []
        for address, host in hosts.items():
            seen, well = self._well.get(address, 0), host.succeeded - host.faulty
            record = self._records.get(address)
            faults = _NONE if record is None else record.take()
            if well > seen:
                self._well[address] = well
            if well > seen or faults != _NONE:
                taken.append((address, max(0, well - seen), faults))
        return taken

    def _judge(self, taken: list[tuple[str, int, Faults]], now: float, population: int) -> list[Ejection]:
        if all(faults == _NONE for _, _, faults in taken):
            return []  # nobody is worse than another, or has a share
        if not self._config.split_external_local_origin_errors:
            counts = [Count(address, well, sum(faults)) for address, well, faults in taken]
            return self._compare(counts, (SUCCESS_RATE, FAILURE_PERCENTAGE), now, population)
        counts = [Count(address, well, faults.answered) for address, well, faults in taken]
        ejected = self._compare(counts, (SUCCESS_RATE, FAILURE_PERCENTAGE), now, population)
        counts = [Count(address, well + faults.answered, faults.local) for address, well, faults in taken]
        local = (SUCCESS_RATE_LOCAL_ORIGIN, FAILURE_PERCENTAGE_LOCAL_ORIGIN)
        return ejected + self._compare(counts, local, now, population)

    def _compare(self, counts: list[Count], reasons: tuple[str, str], now: float, population: int) -> list[Ejection]:
        """Eject who stands out, by success rate first."""
        config, reading = self._config, self._reading
        if not reading.repeats:
            counts = [count for count in counts if count.address not in self._ejected]
        rate, share = config.success_rate, config.failure_percentage
        found = [] if rate is None else [(a, reasons[0]) for a in rate.found(counts, reading.scale)]
        found += [] if share is None else [(a, reasons[1]) for a in share.found(counts, beyond=reading.beyond)]
        ejected = []
        for address, reason in found:
            if address in self._ejected and not reading.repeats:
                continue
            if config.allows(len(self._ejected), population) and self._enforces(reason):
                ejected.append(self._eject(address, reason, now, now - config.interval))
        return ejected

    def _forgive(self, now: float) -> None:
        """Forget one ejection of each that is back, if it has been for long enough."""
        at_once, interval = self._reading.forgives_at_once, self._config.interval
        for address, record in self._records.items() if self._reading.ticks else ():
            if record.multiplier and address not in self._ejected:
                record.forgive(int(at_once or passed(record.back_at, now, interval)))

    # -- one by one ------------------------------------------------------------------------------------------------

    def _fails_too_often(self, record: Record, host: Host, now: float) -> bool:
        """Whether its failures of the last seconds are too large a share, where it is judged by itself."""
        config = self._config
        threshold = config.failure_percentage_threshold
        if threshold is None or config.failure_percentage_minimum_hosts is not None:
            return False
        failures = record.since(now - config.interval)
        requests = failures + max(0, host.succeeded - host.succeeded_at(now - config.interval))
        return requests >= config.failure_percentage_request_volume and 100 * failures >= threshold * requests

    def _enforces(self, reason: str) -> bool:
        percent = self._config.enforcing(reason)
        return percent == 100 or (percent > 0 and int(self._rng.random() * 100) < percent)

    def _eject(self, address: str, reason: str, now: float, began: float) -> Ejection:
        """Eject ``address`` for failures of which the first may have come at ``began``."""
        config, record = self._config, self._records[address]
        seconds = record.sentence(began)
        jitter = seconds / 10 if config.max_ejection_time_jitter is None else config.max_ejection_time_jitter
        seconds += int(self._rng.random() * (round(jitter * 1000) + 1)) / 1000
        ejection = Ejection(address, now, seconds, reason, refusing=record.answered_at < began)
        record.back_at = ejection.until
        self._ejected[address] = ejection
        return ejection

    def _return(self, now: float) -> list[str]:
        """Restore those whose time is over, and return their addresses."""
        strictly = self._reading.overdue
        over = [ejection.address for ejection in self._ejected.values() if ejection.over(now, strictly=strictly)]
        for address in over:
            self._restore(address, now if self._reading.ticks else None)
        return over

    def _restore(self, address: str, now: float | None) -> None:
        """Let ``address`` back in; ``now``: its good conduct begins then, and not when its time is over."""
        del self._ejected[address]
        record = self._records[address]
        record.clear()
        if now is not None:
            record.back_at = now
