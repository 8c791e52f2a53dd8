"""The grpc reading beside a second detector that does what proposal A50 says, step by step and in its order."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest

from svcmesh import OutlierDetection
from tests.policy.outlier.hosts import BROKEN, LATE, REFUSED, UNAVAILABLE, Fleet

BAD = [UNAVAILABLE, BROKEN, REFUSED, LATE]
HISTORIES = 60
"""Histories in each of ten tests, of 150 steps each."""


@dataclass
class Host:
    """What A50 keeps of an address: the bucket of calls, when it was ejected, and how often of late."""

    good: int = 0
    bad: int = 0
    ejected_at: float | None = None
    times: int = 0

    @property
    def calls(self) -> int:
        return self.good + self.bad


class Second:
    """The second detector."""

    def __init__(self, config: OutlierDetection, addresses) -> None:
        self.config = config
        self.hosts = {address: Host() for address in addresses}
        self.now = 0.0
        self.ejected: list[tuple[str, str]] = []

    def tick(self) -> list[str]:
        """Let the timer fire; return who is back."""
        config, back = self.config, []
        self.now += config.interval
        self.ejected = []
        self._judge("success_rate", config.success_rate.minimum_hosts, config.success_rate.request_volume)
        hosts, volume = config.failure_percentage_minimum_hosts, config.failure_percentage_request_volume
        self._judge("failure_percentage", hosts, volume)
        longest = max(config.base_ejection_time, config.max_ejection_time)
        for address, host in self.hosts.items():
            if host.ejected_at is None:
                host.times = max(0, host.times - 1)
            elif self.now - host.ejected_at > min(config.base_ejection_time * host.times, longest):
                host.ejected_at = None
                back.append(address)
            host.good = host.bad = 0
        return back

    def _judge(self, algorithm: str, minimum_hosts: int, volume: int) -> None:
        asked = {address: host for address, host in self.hosts.items() if host.calls >= volume}
        if not asked or len(asked) < minimum_hosts:
            return
        rates = {address: host.good / host.calls for address, host in asked.items()}
        mean = sum(rates.values()) / len(rates)
        deviation = math.sqrt(sum((rate - mean) ** 2 for rate in rates.values()) / len(rates))
        limit = mean - deviation * self.config.success_rate.stdev_factor / 1000
        for address, host in asked.items():
            out = sum(each.ejected_at is not None for each in self.hosts.values())
            if 100 * out >= self.config.max_ejection_percent * len(self.hosts):
                return
            too_many = 100 * host.bad / host.calls > self.config.failure_percentage_threshold
            found = rates[address] < limit if algorithm == "success_rate" else too_many
            if found and self.config.enforcing(algorithm):
                host.ejected_at = self.now
                host.times += 1
                self.ejected.append((address, algorithm))


def history(seed: int) -> set[str]:
    """Let both detectors see the same; return the reasons that there were."""
    draw = random.Random(seed)
    config = OutlierDetection.grpc(
        success_rate_minimum_hosts=draw.randrange(5),
        success_rate_request_volume=draw.randrange(1, 8),
        success_rate_stdev_factor=draw.choice([1100, 1500, 1900]),  # of two hosts 1000 is all but a tie
        enforcing_success_rate=draw.choice([0, 100]),
        failure_percentage_minimum_hosts=draw.randrange(5),
        failure_percentage_request_volume=draw.randrange(1, 8),
        failure_percentage_threshold=draw.choice([0, 1, 30, 50, 85, 100]),
        enforcing_failure_percentage=draw.choice([0, 100]),
        max_ejection_percent=draw.choice([0, 10, 34, 50, 67, 100]),
        base_ejection_time=draw.choice([5.0, 10.0, 12.5, 30.0]),
        max_ejection_time=draw.choice([30.0, 45.0, 300.0]),
    )
    fleet = Fleet(config, draw.randrange(1, 9))
    second = Second(config, fleet.hosts)
    reasons = set()
    for step in range(150):
        if draw.random() < 0.12:
            back, tick = second.tick(), fleet.tick()
            assert sorted(tick.restored) == back, (seed, step)
            assert [(each.address, each.reason) for each in tick.ejected] == second.ejected, (seed, step)
            reasons.update(each.reason for each in tick.ejected)
            continue
        address, end, times = draw.choice(list(fleet.hosts)), draw.choice([None, *BAD]), draw.randrange(1, 4)
        if end is None:
            second.hosts[address].good += times
            fleet.serve(address, times)
        else:
            second.hosts[address].bad += times
            assert fleet.serve(address, bad=times, outcome=end) == [], "nobody goes before the timer fires"
    return reasons


@pytest.mark.parametrize("first", range(0, 10 * HISTORIES, HISTORIES))
def test_both_eject_the_same_for_the_same_reasons(first: int) -> None:
    reasons = set().union(*(history(seed) for seed in range(first, first + HISTORIES)))
    assert reasons == {"success_rate", "failure_percentage"}, "both are met"
