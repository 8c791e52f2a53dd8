"""The envoy reading beside a second detector, written from Envoy's documentation and source for this test alone.

It keeps counters where ours takes differences of totals, and looks at everybody in turn: two ways to the same
ejections, for the same reasons and at the same ticks, whatever comes.
"""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from svcmesh import OutlierDetection
from tests.policy.outlier.hosts import BROKEN, LATE, REFUSED, UNAVAILABLE, Fleet

ENDS = {"503": UNAVAILABLE, "500": BROKEN, "no connection": REFUSED, "no answer": LATE}
RATES = {"answers": ("success_rate", "failure_percentage")}
RATES["connections"] = tuple(f"{name}_local_origin" for name in RATES["answers"])
HISTORIES = 20
"""Histories in each of ten tests, of 120 steps each."""


class Host:
    """One host of the second detector: ``runs`` of failures, and good and bad ends of the interval by kind."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.ends = {kind: [0, 0] for kind in RATES}
        self.out = False
        self.went = self.came = -math.inf
        self.times = 0


class Second:
    """The second detector."""

    def __init__(self, config: OutlierDetection, addresses) -> None:
        self.config = config
        self.hosts = {address: Host() for address in addresses}
        self.now = 0.0
        self.ejected: list[tuple[str, str]] = []

    def take(self, address: str, end: str) -> None:
        """Take note of one end: that of `ENDS`, or a good one."""
        host, split = self.hosts[address], self.config.split_external_local_origin_errors
        if split and end in ("no connection", "no answer"):
            host.ends["connections"][1] += 1
            self._one_more(address, "consecutive_local_origin_failure")
            return
        if split:
            host.ends["connections"][0] += 1
            host.runs["consecutive_local_origin_failure"] = 0
        host.ends["answers"][end in ENDS] += 1
        if end not in ENDS:
            host.runs.clear()
            return
        if end == "500":
            host.runs["consecutive_gateway_failure"] = 0
        else:
            self._one_more(address, "consecutive_gateway_failure")
        self._one_more(address, "consecutive_5xx")

    def _one_more(self, address: str, reason: str) -> None:
        host = self.hosts[address]
        host.runs[reason] += 1
        if host.runs[reason] == getattr(self.config, reason) and not host.out:
            self._eject(address, reason)
            host.runs[reason] = 0

    def _eject(self, address: str, reason: str) -> None:
        config, host, out = self.config, self.hosts[address], sum(host.out for host in self.hosts.values())
        room = 100 * (out + 1) <= config.max_ejection_percent * len(self.hosts)
        if host.out or not (room or (config.always_eject_one_host and not out)) or not config.enforcing(reason):
            return
        host.out, host.went = True, self.now
        if host.times * config.base_ejection_time < config.max_ejection_time + config.base_ejection_time:
            host.times += 1
        self.ejected.append((address, reason))

    def tick(self) -> list[str]:
        """Let an interval pass; return who is back."""
        config, back = self.config, []
        self.now += config.interval
        for address, host in self.hosts.items():
            seconds = min(config.base_ejection_time * host.times, config.max_ejection_time)
            if host.out and self.now - host.went >= seconds:
                host.out, host.came = False, self.now
                host.runs.clear()
                back.append(address)
        for kind, reasons in RATES.items():
            self._judge(kind, *reasons)
        for host in self.hosts.values():
            host.ends = {kind: [0, 0] for kind in RATES}
            if host.times and not host.out and self.now - host.came >= config.interval:
                host.times -= 1
        return back

    def _judge(self, kind: str, by_rate: str, by_share: str) -> None:
        config = self.config
        asked = {address: host.ends[kind] for address, host in self.hosts.items() if not host.out}
        rates = {address: 100.0 * good / (good + bad) for address, (good, bad) in asked.items() if good + bad}
        comparable = [a for a in rates if sum(asked[a]) >= config.success_rate.request_volume]
        if comparable and len(comparable) >= config.success_rate.minimum_hosts:
            mean = sum(rates[a] for a in comparable) / len(comparable)
            deviation = math.sqrt(sum((rates[a] - mean) ** 2 for a in comparable) / len(comparable))
            limit = mean - config.success_rate.stdev_factor / 1000 * deviation
            for address in comparable:
                if rates[address] < limit:
                    self._eject(address, by_rate)
        counted = [a for a in rates if sum(asked[a]) >= config.failure_percentage_request_volume]
        if len(counted) >= config.failure_percentage_minimum_hosts:
            for address in counted:
                if 100.0 - rates[address] >= config.failure_percentage_threshold:
                    self._eject(address, by_share)


def any_settings(draw: random.Random) -> dict[str, object]:
    """Return settings small enough for a history of some dozens of calls to meet them all."""
    enforcing = [name for name in OutlierDetection.__dataclass_fields__ if name.startswith("enforcing_")]
    return {
        **{name: draw.choice([0, 100]) for name in enforcing},
        **{name: draw.randrange(1, 6) for name in ("consecutive_5xx", "consecutive_gateway_failure")},
        "consecutive_local_origin_failure": draw.randrange(1, 5),
        "split_external_local_origin_errors": draw.random() < 0.5,
        "success_rate_minimum_hosts": draw.randrange(5),
        "success_rate_request_volume": draw.randrange(1, 8),
        "success_rate_stdev_factor": draw.choice([1100, 1500, 1900]),  # of two hosts 1000 is all but a tie
        "failure_percentage_threshold": draw.choice([1, 30, 50, 85, 100]),
        "failure_percentage_request_volume": draw.randrange(1, 8),
        "failure_percentage_minimum_hosts": draw.randrange(5),
        "max_ejection_percent": draw.choice([0, 10, 34, 50, 67, 100]),
        "always_eject_one_host": draw.random() < 0.5,
        "base_ejection_time": draw.choice([5.0, 10.0, 12.5, 30.0]),
        "max_ejection_time": draw.choice([30.0, 45.0, 300.0]),
    }


def history(seed: int) -> set[str]:
    """Let both detectors see the same; return the reasons that there were."""
    draw = random.Random(seed)
    config = OutlierDetection.envoy(**any_settings(draw))
    fleet = Fleet(config, draw.randrange(1, 9))
    second = Second(config, fleet.hosts)
    told: list[str] = []
    reasons = set()
    for _ in range(120):
        second.ejected.clear()
        if draw.random() < 0.12:
            told.append("tick")
            back, tick = second.tick(), fleet.tick()
            assert sorted(tick.restored) == back, told
            found = tick.ejected
        else:
            address, end, times = (
                draw.choice(list(fleet.hosts)),
                draw.choice(["200", "200", *ENDS]),
                draw.randrange(1, 4),
            )
            told.append(f"{times} times {end} of {address}")
            for _ in range(times):
                second.take(address, end)
            good = times if end not in ENDS else 0
            found = fleet.serve(address, good, times - good, ENDS.get(end, UNAVAILABLE))
        assert [(ejection.address, ejection.reason) for ejection in found] == second.ejected, told
        reasons.update(ejection.reason for ejection in found)
    return reasons


@pytest.mark.parametrize("first", range(0, 10 * HISTORIES, HISTORIES))
def test_both_eject_the_same_for_the_same_reasons(first: int) -> None:
    reasons = set().union(*(history(seed) for seed in range(first, first + HISTORIES)))
    assert len(reasons) >= 6, "nearly all types are met"
