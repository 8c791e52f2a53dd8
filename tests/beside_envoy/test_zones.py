"""Which calls an Envoy keeps in its zone, svcmesh keeps there: it counts them by what it has decided."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from math import sqrt

import pytest

import svcmesh
from svcmesh import Endpoint, Health, Locality, Policy
from svcmesh.balance import Random, ZoneAware
from tests.servers.envoy_proxy import EnvoyProxy, cluster, host
from tests.servers.upstreams import Upstreams

ZONES = {name: Locality("eu", name) for name in "abcd"}
OWN = {"a": 1, "b": 2}
"""How many callers there are in each zone; this one is in the first."""

Scene = tuple[list[Endpoint], int]
"""Endpoints, and of how many it takes for zones to count."""


def scene(rng: random.Random, addresses: list[str]) -> Scene:
    """Return endpoints in some zones, mostly well."""
    left = rng.sample(addresses, len(addresses))
    endpoints = []
    for zone in rng.sample(sorted(ZONES), rng.choice([1, 2, 3, 3, 4])):
        for _ in range(rng.choice([1, 2, 3, 4])):
            health = rng.choice([*[Health.HEALTHY] * 4, Health.UNHEALTHY]) if endpoints else Health.HEALTHY
            endpoints.append(Endpoint(left.pop(), locality=ZONES[zone], health=health))
    return endpoints, rng.choice([6, 3, 1])


@pytest.fixture(scope="module")
def scenes() -> Iterator[dict[str, Scene]]:
    with Upstreams(16) as servers:
        rng = random.Random(1)
        found = {f"scene-{number}": scene(rng, servers.addresses) for number in range(30)}
        zones = "aabbbbbbcc"  # a third of the callers, and a fifth of the servers: 60 % stay, the others go to c
        found["example"] = [Endpoint(a, locality=ZONES[z]) for a, z in zip(servers.addresses, zones, strict=False)], 6
        yield found


@pytest.fixture(scope="module")
def proxy(scenes: dict[str, Scene], tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyProxy]:
    callers = [name for name, count in OWN.items() for _ in range(count)]
    clusters = [cluster("own", [host(f"127.0.0.9:{n + 1}", locality=ZONES[z]) for n, z in enumerate(callers)])]
    for name, (endpoints, least) in scenes.items():
        hosts = [host(each.address, locality=each.locality, health_status=each.health.name) for each in endpoints]
        common = {"zone_aware_lb_config": {"min_cluster_size": least}, "healthy_panic_threshold": {"value": 0}}
        clusters.append(cluster(name, hosts, lb_policy="RANDOM", common_lb_config=common))
    directory = tmp_path_factory.mktemp("envoy")
    with EnvoyProxy(directory, clusters, zone=ZONES["a"], own="own") as found:
        yield found


def decided(proxy: EnvoyProxy, name: str) -> str:
    """Return what an Envoy did with the calls of a cluster, by its own numbers."""
    lines = proxy.ask(f"stats?filter=^cluster.{name}.lb_zone_routing").splitlines()
    counts = {line.rpartition(".")[2].partition(":")[0]: int(line.rpartition(": ")[2]) for line in lines}
    if counts["lb_zone_routing_all_directly"]:
        return "all stay"
    return (
        "shared" if counts["lb_zone_routing_sampled"] + counts["lb_zone_routing_cross_zone"] else "zones do not count"
    )


def test_zones_count_where_they_count_for_envoy(proxy: EnvoyProxy, scenes: dict[str, Scene]) -> None:
    """In calls that stay, calls that are shared, and sets of endpoints in which zones are ignored."""
    seen = Counter()
    for name, (endpoints, least) in scenes.items():
        aware = ZoneAware(ZONES["a"], {ZONES[zone]: count for zone, count in OWN.items()}, min_cluster_size=least)
        policy = Policy(load_balancer=Random(), locality=aware)
        with svcmesh.Mesh({"orders": endpoints}, policy=policy) as mesh:
            assert mesh.service("orders").endpoints
            [level] = mesh.state()["services"]["orders"]["priorities"]
        shares = {place["locality"][1]: place["share"] for place in level["localities"]}
        ours = "zones do not count" if not shares else "all stay" if shares.get("a") == 1 else "shared"
        proxy.send(name)
        assert decided(proxy, name) == ours, (name, endpoints)
        seen[ours] += 1
    assert len(seen) == 3


def test_as_many_calls_stay_as_there_do(proxy: EnvoyProxy, scenes: dict[str, Scene]) -> None:
    endpoints, _ = scenes["example"]
    zone_of = {each.address: each.locality for each in endpoints}
    calls = 300
    found = Counter(zone_of[proxy.send("example") or ""] for _ in range(calls))
    aware = ZoneAware(ZONES["a"], {ZONES[zone]: count for zone, count in OWN.items()})
    route = aware.route(Counter(zone_of.values()))

    assert route is not None
    for zone, share in zip(route.order, route.shares(), strict=True):
        assert abs(found[zone] - calls * share) <= 6 * sqrt(calls * share * (1 - share))
