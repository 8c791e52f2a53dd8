"""Whom an Envoy ejects, svcmesh ejects in its reading: the same requests, one after the other, to the same servers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from svcmesh import HealthCheck, HttpHealthCheck, OutlierDetection
from tests.beside_envoy.ours import Ours
from tests.servers.consul_agent import until
from tests.servers.envoy_proxy import EnvoyProxy, cluster, session
from tests.servers.upstreams import Upstreams

IN_A_ROW: dict[str, dict[str, Any]] = {
    "defaults": {"max_ejection_percent": 80},
    "5xx": {"consecutive_5xx": 3},
    "gateway": {"consecutive_5xx": 4, "consecutive_gateway_failure": 2, "enforcing_consecutive_gateway_failure": 100},
    "both": {"consecutive_5xx": 2, "consecutive_gateway_failure": 2, "enforcing_consecutive_gateway_failure": 100},
    "found-only": {
        "consecutive_5xx": 2,
        "enforcing_consecutive_5xx": 0,
        "consecutive_gateway_failure": 3,
        "enforcing_consecutive_gateway_failure": 100,
    },
    "split": {"consecutive_5xx": 2, "consecutive_local_origin_failure": 2, "split_external_local_origin_errors": True},
    "few": {"consecutive_5xx": 2, "max_ejection_percent": 40},
    "one": {"consecutive_5xx": 2, "max_ejection_percent": 10, "always_eject_one_host": True},
}
LIMITS = [
    (1, 10, False),
    (2, 50, False),
    (3, 10, False),
    (3, 34, False),
    (3, 67, False),
    (4, 24, False),
    (4, 25, False),
]
LIMITS += [(8, 10, False), (8, 99, False), (1, 10, True), (3, 10, True), (5, 40, True), (3, 0, True), (2, 0, False)]
"""Hosts, ``max_ejection_percent``, ``always_eject_one_host``."""

INTERVAL = 1.0
REQUESTS = 5
FAILURES = [0, 0, 1, 2, 5]
"""Of the requests to each of five hosts, in an interval that is looked back at."""
NEITHER = {"consecutive_5xx": 1000, "success_rate_request_volume": REQUESTS, "enforcing_success_rate": 0}
RATE = NEITHER | {"enforcing_success_rate": 100}
SHARE = NEITHER | {"failure_percentage_request_volume": REQUESTS, "enforcing_failure_percentage": 100}
LOOKED_BACK_AT: dict[str, dict[str, Any]] = {
    "rate": RATE,
    "rate-of-too-few": RATE | {"success_rate_minimum_hosts": 6},
    "share": SHARE | {"failure_percentage_threshold": 40},
    "both": SHARE | RATE | {"success_rate_minimum_hosts": 3, "failure_percentage_threshold": 20},
}
SPLIT = NEITHER | {"split_external_local_origin_errors": True, "consecutive_local_origin_failure": 1000}
SPLIT |= {"enforcing_local_origin_success_rate": 100, "success_rate_minimum_hosts": 6}
APART: dict[str, dict[str, Any]] = {
    "local-rate": SPLIT,
    "local-rate-of-too-few": SPLIT | {"success_rate_minimum_hosts": 7},
    "local-share": SPLIT
    | SHARE
    | {
        "enforcing_local_origin_success_rate": 0,
        "failure_percentage_minimum_hosts": 6,
        "enforcing_failure_percentage_local_origin": 100,
    },
}
"""Of the same five, and one that refuses connections: what it fails is looked at apart. No fewer than all of them can
have anybody ejected, who would not be looked at any more."""
AGAIN = {"consecutive_5xx": 2, "base_ejection_time": 0.3}
UNEJECTS = [True, False]
CHECKS = {"timeout": "60s", "interval": "0.02s", "no_traffic_interval": "0.02s", "http_health_check": {"path": "/"}}
CHECKS |= {"unhealthy_threshold": 1, "healthy_threshold": 1, "reuse_connection": False}
CHECK = HealthCheck(http_health_check=HttpHealthCheck("/"), no_traffic_interval=10.0, timeout=1e9)


def by_checks(unejects: bool) -> dict[str, Any]:
    return {"consecutive_5xx": 2, "max_ejection_percent": 100, "successful_active_health_check_uneject_host": unejects}


def envoys(fields: dict[str, Any], interval: float) -> dict[str, Any]:
    """Return settings as Envoy takes them."""
    found = {"enforcing_success_rate": 0, "max_ejection_percent": 84, "interval": interval, **fields}
    return {name: f"{value}s" if isinstance(value, float) else value for name, value in found.items()}


def ours(fields: dict[str, Any], interval: float = 3600.0) -> OutlierDetection:
    """Return the same settings of ours."""
    return OutlierDetection.envoy(**{"max_ejection_percent": 84, "interval": interval, **fields})


def limited(percent: int, one: bool) -> dict[str, Any]:
    return {"consecutive_5xx": 1, "max_ejection_percent": percent, "always_eject_one_host": one}


@pytest.fixture(scope="module")
def servers() -> Iterator[Upstreams]:
    with Upstreams(8) as found:
        yield found


@pytest.fixture(scope="module")
def hosts(servers: Upstreams) -> list[str]:
    """Five that answer, and one that refuses connections."""
    return [*servers.addresses[:5], servers.refusing]


@pytest.fixture(scope="module")
def proxy(servers: Upstreams, hosts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyProxy]:
    clusters = [("row-" + name, hosts, envoys(fields, 3600.0)) for name, fields in IN_A_ROW.items()]
    clusters += [
        (f"limit-{count}-{percent}-{one}", servers.addresses[:count], envoys(limited(percent, one), 3600.0))
        for count, percent, one in LIMITS
    ]
    clusters += [(name, hosts[:5], envoys(fields, INTERVAL)) for name, fields in LOOKED_BACK_AT.items()]
    clusters += [(name, hosts, envoys(fields, INTERVAL)) for name, fields in APART.items()]
    clusters.append(("unanswered", hosts, envoys(IN_A_ROW["split"], 3600.0)))
    clusters.append(("again", hosts[:1], envoys(AGAIN | {"max_ejection_percent": 100}, 0.2)))
    made = [cluster(name, addresses, outlier_detection=outliers) for name, addresses, outliers in clusters]
    for unejects in UNEJECTS:
        outliers = envoys(by_checks(unejects), 3600.0)
        made.append(cluster(f"checked-{unejects}", hosts[:1], outlier_detection=outliers, health_checks=[CHECKS]))
    with EnvoyProxy(tmp_path_factory.mktemp("envoy"), made) as found:
        yield found


@pytest.mark.parametrize("name", IN_A_ROW)
def test_failures_in_a_row(proxy: EnvoyProxy, hosts: list[str], name: str) -> None:
    """Who answers which request is the same throughout, and so are those ejected, why, and in which order."""
    rng = random.Random(name)
    kinds = {"500": 8, "503": 5, "200": 2, "404": 1, "429": 1}
    kinds |= {} if name == "split" else {"drop": 4, "hang": 1}  # see below
    with Ours(hosts, ours(IN_A_ROW[name])) as service:
        for number in range(30):
            address, [answer] = rng.choice(hosts), rng.choices([*kinds], [*kinds.values()])
            headers = {"endpoint": session(address), "answer": answer}
            assert service.call(**headers) == proxy.call("row-" + name, **headers), (number, answer)
        assert service.ejected == proxy.ejected("row-" + name)
        assert service.ejected


def test_how_many_may_go(proxy: EnvoyProxy, servers: Upstreams) -> None:
    """Every host fails once, which is once too often; the percentage says how many of them go."""
    for count, percent, one in LIMITS:
        hosts = servers.addresses[:count]
        with Ours(hosts, ours(limited(percent, one))) as service:
            for address in hosts:
                headers = {"endpoint": session(address), "answer": "500"}
                service.call(**headers)
                proxy.call(f"limit-{count}-{percent}-{one}", **headers)
            assert service.ejected == proxy.ejected(f"limit-{count}-{percent}-{one}"), (count, percent, one)


@pytest.mark.parametrize("settings", [LOOKED_BACK_AT, APART], ids=["all", "split"])
def test_those_that_stand_out_when_it_is_looked_back(
    proxy: EnvoyProxy, hosts: list[str], settings: dict[str, dict[str, Any]]
) -> None:
    """By success rate, and by percentage of failures; those of too few requests or hosts count for nothing."""
    there = hosts if settings is APART else hosts[:5]
    calls = list(zip(there, [*FAILURES, 0], strict=False))
    answers = [(address, "500" if n < failures else "200") for address, failures in calls for n in range(REQUESTS)]
    left = set(settings)
    end = time.monotonic() + 120
    while left:
        assert time.monotonic() < end, f"an interval never had all requests: {left}"
        left -= _looked_back(proxy, left, answers)

    for name, fields in settings.items():
        with Ours(there, ours(fields, INTERVAL)) as service:
            for address, answer in answers:
                service.call(endpoint=session(address), answer=answer)
            service.clock.advance(1.5 * INTERVAL)
            service.call()
            assert service.out() == proxy.out(name), name


def _looked_back(proxy: EnvoyProxy, names: set[str], answers: list[tuple[str, str]]) -> set[str]:
    """Have so many answers given; return the clusters whose interval had all of them, and wait for the next one.

    Where an interval ends between the requests, neither it nor the next one has enough of them.
    """
    for name in names:
        for address, answer in answers:
            proxy.send(name, endpoint=session(address), answer=answer)
    seen, end = set[str](), time.monotonic() + 1.5 * INTERVAL
    while time.monotonic() < end and seen != names:
        seen |= {name for name in names if _judged(proxy, name)}
        time.sleep(INTERVAL / 50)
    return seen


def _judged(proxy: EnvoyProxy, name: str) -> bool:
    """Whether every host had enough requests in the interval that is over."""
    field = "local_origin_success_rate" if name in APART else "success_rate"
    return all(field in host for host in proxy.hosts(name).values())


def test_the_way_back(proxy: EnvoyProxy, hosts: list[str]) -> None:
    """Not before its time, with the first look back after that, and with a clean slate."""
    failure = {"endpoint": session(hosts[0]), "answer": "500"}
    with Ours(hosts[:1], ours(AGAIN | {"max_ejection_percent": 100}, 0.2)) as service:
        for _ in range(2):
            began = time.monotonic()
            service.call(**failure)
            proxy.call("again", **failure)
        assert service.out() == set(hosts[:1])
        service.clock.advance(0.29)
        service.call()
        assert service.out() == set(hosts[:1])
        until(lambda: not proxy.out("again"))
        assert time.monotonic() - began >= 0.3
        service.clock.advance(0.31)
        service.call()
        assert service.out() == set()

        for expected in (1, 2):
            service.call(**failure)
            proxy.call("again", **failure)
            assert len(service.ejected) == len(proxy.ejected("again")) == expected


@pytest.mark.parametrize("unejects", UNEJECTS)
def test_whether_a_check_that_is_passed_ends_an_ejection(proxy: EnvoyProxy, hosts: list[str], unejects: bool) -> None:
    """And where it does, what was counted until then is forgotten."""
    name, failure = f"checked-{unejects}", {"endpoint": session(hosts[0]), "answer": "500"}
    until(lambda: _passed(proxy, name))  # until then Envoy calls nobody
    with Ours(hosts[:1], ours(by_checks(unejects), interval=1e9), CHECK) as service:
        service.call()  # which begins the checks
        until(lambda: service.checked)
        for ejections in (0, 0, 1, 1)[: 4 if unejects else 2]:
            assert len(service.ejected) == proxy.counted(name, "ejections_enforced_total") == ejections
            service.call(**failure)
            proxy.call(name, **failure)
            _check_again(service, proxy, name)
        assert (service.out() == set()) == (proxy.out(name) == set()) == unejects


def _check_again(service: Ours, proxy: EnvoyProxy, name: str) -> None:
    """Return when a check that began now has been passed here and there."""
    ours, theirs = service.checked, _passed(proxy, name)

    def checked() -> bool:
        service.clock.advance(1.2 * CHECK.interval)  # the time of the next one may not have been set yet
        return service.checked > ours

    until(checked)
    until(lambda: _passed(proxy, name) > theirs + 1)


def _passed(proxy: EnvoyProxy, name: str) -> int:
    """Return how many health checks were passed."""
    return int(proxy.ask(f"stats?filter=^cluster.{name}.health_check.success$").rpartition(": ")[2])


def test_without_an_answer_in_a_row_where_they_are_split_off(proxy: EnvoyProxy, hosts: list[str]) -> None:
    """Calls that find a server and get no answer: to Envoy each begins with a success, the connection."""
    with Ours(hosts, ours(IN_A_ROW["split"])) as service:
        for answer in ("drop", "hang", "drop"):
            headers = {"endpoint": session(hosts[4]), "answer": answer}
            service.call(**headers)
            proxy.call("unanswered", **headers)
        assert service.ejected == [("consecutive_local_origin_failure", hosts[4])]
        assert proxy.ejected("unanswered") == []
