"""Whom an Envoy calls for what metadata are wanted, and whom where nobody has them: svcmesh the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from svcmesh import Endpoint
from svcmesh.balance import RoundRobin, Subset, SubsetSelector
from tests.servers.envoy_proxy import EnvoyProxy, cluster, host
from tests.servers.upstreams import Upstreams

METADATA = [
    {"stage": "prod", "version": "1"},
    {"stage": "prod", "version": "2"},
    {"stage": "dev", "version": "3"},
    {"stage": "dev"},
    {},
]
WANTED = {
    "all": {"stage": "prod", "version": "2"},
    "nobody": {"stage": "prod", "version": "3"},
    "neither": {"stage": "qa", "version": "9"},
    "stage": {"stage": "prod"},
    "no-stage": {"stage": "qa"},
}
STAGE, VERSION, BOTH = ["stage"], ["version"], ["stage", "version"]
LESS = {"fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": STAGE}
ANY, DEFAULT, NONE = ({"fallback_policy": name} for name in ("ANY_ENDPOINT", "DEFAULT_SUBSET", "NO_FALLBACK"))
SELECTORS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "plain": (NONE, [{"keys": STAGE}, {"keys": BOTH}]),
    "any": (ANY, [{"keys": STAGE}, {"keys": BOTH}]),
    "default": (DEFAULT, [{"keys": STAGE} | NONE, {"keys": BOTH}]),
    "less": (NONE, [{"keys": STAGE}, {"keys": BOTH} | LESS]),
    "less-or-any": (NONE, [{"keys": STAGE} | ANY, {"keys": BOTH} | LESS]),
    "less-or-default": (DEFAULT, [{"keys": STAGE}, {"keys": VERSION} | NONE, {"keys": BOTH} | LESS]),
    "less-of-nothing": (ANY, [{"keys": STAGE} | NONE, {"keys": BOTH} | LESS | {"fallback_keys_subset": VERSION}]),
}
"""The fallback of all, and the selectors; Envoy forgets that of one whose names begin those of one before it."""

STANDARD = {"stage": "dev", "version": "3"}


@pytest.fixture(scope="module")
def servers() -> Iterator[Upstreams]:
    with Upstreams(len(METADATA)) as found:
        yield found


@pytest.fixture(scope="module")
def proxy(servers: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyProxy]:
    hosts = [
        host(address, metadata={"filter_metadata": {"envoy.lb": metadata}})
        for address, metadata in zip(servers.addresses, METADATA, strict=True)
    ]
    clusters = [
        cluster(name, hosts, lb_subset_config=fallback | {"default_subset": STANDARD, "subset_selectors": selectors})
        for name, (fallback, selectors) in SELECTORS.items()
    ]
    with EnvoyProxy(tmp_path_factory.mktemp("envoy"), clusters, WANTED) as found:
        yield found


@pytest.mark.parametrize("name", SELECTORS)
def test_the_same_endpoints_are_called(proxy: EnvoyProxy, servers: Upstreams, name: str) -> None:
    fallback, selectors = SELECTORS[name]
    chosen = {fallback["fallback_policy"], *(each.get("fallback_policy") for each in selectors)}
    endpoints = [Endpoint(a, metadata=metadata) for a, metadata in zip(servers.addresses, METADATA, strict=True)]
    for wanted, criteria in WANTED.items():
        config = Subset(
            criteria,
            RoundRobin(),
            **fallback,
            default_subset=STANDARD if "DEFAULT_SUBSET" in chosen else (),
            subset_selectors=[SubsetSelector(**each) for each in selectors],
        )
        picker = config.picker(endpoints)
        found = {None if (one := picker.pick()) is None else one.address for _ in range(2 * len(endpoints))}
        assert found == {proxy.send(name, subset=wanted) for _ in range(2 * len(endpoints))}, wanted
