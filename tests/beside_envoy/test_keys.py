"""Where an Envoy sends a key, svcmesh sends it: tables, priorities, panic and localities, all by the same hash."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import svcmesh
from svcmesh import Endpoint, Health, Locality, Policy
from svcmesh.balance import LocalityWeighted, Maglev, Priorities, RingHash, RoundRobin, hash_key
from tests.servers.envoy_proxy import MOST_RETRIES, EnvoyProxy, cluster, host
from tests.servers.upstreams import Upstreams

BOUNDS = [100, 150]
HEALTH = {"HEALTHY": Health.HEALTHY, "DEGRADED": Health.DEGRADED, "UNHEALTHY": Health.UNHEALTHY}
KEYS = [f"key {number}" for number in range(12)]


@dataclass
class Scene:
    """Endpoints, and how they are chosen from, in both languages.

    Attributes:
        endpoints: of the service. fields: of Envoy's cluster. policy: ours.
    """

    endpoints: list[Endpoint]
    fields: dict[str, Any]
    policy: Policy

    def cluster(self, name: str) -> dict[str, Any]:
        """Return it as Envoy has it."""
        weights = self.policy.locality.weights if isinstance(self.policy.locality, LocalityWeighted) else ()
        hosts = [
            host(
                each.address,
                priority=each.priority,
                locality=each.locality,
                health_status=each.health.name,
                load_balancing_weight=each.weight,
                metadata={"filter_metadata": {"envoy.lb": dict(each.metadata)}},
            )
            for each in self.endpoints
        ]
        return cluster(name, hosts, weights=dict(weights), **self.fields)


def of_tables(rng: random.Random, addresses: list[str]) -> Scene:
    """Return a scene of any ring or table, over weights, names and places of all kinds."""
    places = rng.sample([Locality("eu", zone) for zone in "abc"], 3)
    endpoints = [
        Endpoint(
            address,
            weight=rng.choice([1, 1, 2, 7]),
            locality=rng.choice(places[: rng.choice([1, 3])]),
            metadata=rng.choice([{}, {}, {"hash_key": f"shard {rng.random()}"}]),
            health=HEALTH[rng.choice(["HEALTHY", "HEALTHY", "UNHEALTHY"])],
        )
        for address in rng.sample(addresses, rng.choice([1, 3, 8]))
    ]
    endpoints.sort(key=lambda each: places.index(each.locality or Locality()))  # as Envoy must be told of them
    least, function = rng.choice([5, 64, 1024]), rng.choice(["XX_HASH", "MURMUR_HASH_2"])
    most, size, threshold = rng.choice([least, 8_388_608]), rng.choice([13, 251, 1009]), rng.choice([0, 50])
    weights = {place: rng.choice([1, 2, 100]) for place in places}
    ring = {"minimum_ring_size": least, "maximum_ring_size": most, "hash_function": function}
    fields: dict[str, Any] = {"common_lb_config": {"healthy_panic_threshold": {"value": threshold}}}
    balancer: RingHash | Maglev
    if rng.random() < 0.6:
        balancer, fields["lb_policy"], fields["ring_hash_lb_config"] = RingHash(**ring), "RING_HASH", ring
    else:
        balancer, fields["lb_policy"], fields["maglev_lb_config"] = Maglev(size), "MAGLEV", {"table_size": size}
    policy = Policy(load_balancer=balancer, panic_threshold=threshold / 100)
    if rng.random() < 0.5:
        return Scene(endpoints, fields, policy)
    fields["common_lb_config"]["locality_weighted_lb_config"] = {}
    return Scene(endpoints, fields, policy.replace(locality=LocalityWeighted(weights)))


def of_priorities(rng: random.Random, addresses: list[str]) -> Scene:
    """Return a scene of some priorities, in any health."""
    left = rng.sample(addresses, len(addresses))
    endpoints = []
    for priority in range(rng.choice([1, 2, 3])):
        states = rng.choice(["H", "HHHU", "HUUU", "HDU", "DU", "U", "HD", "D"])
        for state in rng.choices(states, k=rng.choice([1, 3, 5])):
            [health] = [found for name, found in HEALTH.items() if name[0] == state]
            endpoints.append(Endpoint(left.pop(), priority=priority, weight=rng.choice([1, 1, 3]), health=health))
    threshold, weighted = rng.choice([0, 30, 50, 70]), rng.random() < 0.3
    fields: dict[str, Any] = {"common_lb_config": {"healthy_panic_threshold": {"value": threshold}}}
    fields |= {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 251}, "weighted": weighted}
    priorities = Priorities(weighted_priority_health=weighted)
    return Scene(
        endpoints, fields, Policy(load_balancer=Maglev(251), panic_threshold=threshold / 100, priorities=priorities)
    )


@pytest.fixture(scope="module")
def scenes() -> Iterator[dict[str, Scene]]:
    with Upstreams(15) as servers:
        rng = random.Random(5)
        found = {f"table-{number}": of_tables(rng, servers.addresses) for number in range(20)}
        found |= {f"priority-{number}": of_priorities(rng, servers.addresses) for number in range(25)}
        closing = Priorities(fail_traffic_on_panic=True)
        common = {"zone_aware_lb_config": {"fail_traffic_on_panic": True}}
        one, two = Endpoint(servers.addresses[0]), Endpoint(servers.addresses[1], health=Health.UNHEALTHY)
        three = Endpoint(servers.addresses[2], health=Health.UNHEALTHY)
        for name, balancer in (("RING_HASH", RingHash()), ("ROUND_ROBIN", RoundRobin())):
            policy = Policy(load_balancer=balancer, panic_threshold=0.5, priorities=closing)
            found[f"closing-{name}"] = Scene([one, two, three], {"lb_policy": name, "common_lb_config": common}, policy)
        for factor in BOUNDS:
            bounded = {"consistent_hashing_lb_config": {"hash_balance_factor": factor}}
            five = [Endpoint(address, weight=1 + place % 2) for place, address in enumerate(servers.addresses[:5])]
            for name, balancer in (
                ("RING_HASH", RingHash(1024, 8_388_608, hash_balance_factor=factor)),
                ("MAGLEV", Maglev(hash_balance_factor=factor)),
            ):
                fields = {"lb_policy": name, "common_lb_config": bounded}
                found[f"bounded-{name}-{factor}"] = Scene(five, fields, Policy(load_balancer=balancer))
        weighed = [Endpoint(address, weight=1 + place % 3) for place, address in enumerate(servers.addresses[:8])]
        for name, fields, balancer in (
            ("ring", {"lb_policy": "RING_HASH"}, RingHash(1024, 8_388_608)),
            ("table", {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 251}}, Maglev(251)),
        ):
            found[f"repeated-{name}"] = Scene(weighed, fields, Policy(load_balancer=balancer))
        yield found


@pytest.fixture(scope="module")
def proxy(scenes: dict[str, Scene], tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyProxy]:
    clusters = [scene.cluster(name) for name, scene in scenes.items()]
    with EnvoyProxy(tmp_path_factory.mktemp("envoy"), clusters) as found:
        yield found


def test_every_key_goes_where_envoy_sends_it(proxy: EnvoyProxy, scenes: dict[str, Scene]) -> None:
    """But those that Envoy has nobody for where all of a priority that are well are degraded: these take them here."""
    degraded, nobody = 0, 0
    for name, scene in scenes.items():
        if name.startswith(("closing", "bounded", "repeated")):
            continue
        with svcmesh.Mesh({"orders": scene.endpoints}, policy=scene.policy) as mesh:
            for key in KEYS:
                found, expected = picked(mesh.service("orders"), key), proxy.send(name, key=key)
                if expected is None and found is not None and found.health is Health.DEGRADED:
                    degraded += 1
                    continue
                nobody += expected is None
                assert (found and found.address) == expected, (name, key, scene)
    assert degraded
    assert nobody


@pytest.mark.parametrize("name", ["ring", "table"])
def test_a_call_that_is_repeated_goes_where_envoy_repeats_it(
    proxy: EnvoyProxy, scenes: dict[str, Scene], name: str
) -> None:
    """Along the path of its key, to those that were not tried yet."""
    scene = scenes[f"repeated-{name}"]
    assert scene.policy.load_balancer is not None
    picker = scene.policy.load_balancer.picker(scene.endpoints)
    for key in KEYS:
        tried: list[Endpoint] = []
        for retries in range(MOST_RETRIES + 1):
            found = picker.pick(hash_key(key), exclude=tried)
            assert found is not None
            tried.append(found)
            assert found.address == proxy.send(f"repeated-{name}", key=key, retries=str(retries), answer="503"), key


def test_what_is_too_much_for_one_goes_where_envoy_sends_it(proxy: EnvoyProxy, scenes: dict[str, Scene]) -> None:
    """Calls of one key, none of which ends: its owner has its share, the others come in an order that is the key's."""
    for name, scene in scenes.items():
        if name.startswith("bounded"):
            assert scene.policy.load_balancer is not None
            picker, ours = scene.policy.load_balancer.picker(scene.endpoints), []
            for _ in range(12):
                endpoint = picker.pick(hash_key(name))
                assert endpoint is not None
                picker.started(endpoint)
                ours.append(endpoint.address)
            with proxy.held(name, 12, key=name) as theirs:
                assert theirs == ours, name
            assert len(set(ours)) > 2


def test_who_closes_in_a_panic(proxy: EnvoyProxy, scenes: dict[str, Scene]) -> None:
    """``fail_traffic_on_panic`` holds for all balancers here; with rings and tables Envoy knows nothing of it."""
    for name, answered in (("ROUND_ROBIN", False), ("RING_HASH", True)):
        scene = scenes[f"closing-{name}"]
        with svcmesh.Mesh({"orders": scene.endpoints}, policy=scene.policy) as mesh:
            assert picked(mesh.service("orders"), "a key") is None
        assert (proxy.send(f"closing-{name}", key="a key") is not None) == answered


def picked(service: svcmesh.Service, key: str) -> Endpoint | None:
    """Return the endpoint that a key belongs to, if there is any."""
    try:
        return service.pick(hash_key(key))
    except svcmesh.NoEndpoints:
        return None
