"""How many calls an Envoy gives to an endpoint that has just come: as many as by our weights, which rise with time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from svcmesh.balance import SlowStart
from tests.servers.consul_agent import until
from tests.servers.envoy_proxy import EnvoyProxy, cluster
from tests.servers.upstreams import Upstreams

SETTINGS = SlowStart(0.8, aggression=2.0, min_weight_percent=20)


@pytest.fixture
def servers() -> Iterator[Upstreams]:
    with Upstreams(2) as found:
        yield found


def listed(file: Path, addresses: list[str]) -> None:
    """Let these be the hosts of the cluster; Envoy reads files that take the place of others."""
    load = cluster("orders", addresses)["load_assignment"]
    load["@type"] = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    written = file.with_suffix(".new")
    written.write_text(json.dumps({"resources": [load]}))
    written.replace(file)


def from_file(file: Path) -> dict[str, object]:
    """Return a cluster whose hosts are listed in ``file``."""
    starting = {
        "slow_start_window": f"{SETTINGS.slow_start_window}s",
        "aggression": {"default_value": SETTINGS.aggression, "runtime_key": "aggression"},
        "min_weight_percent": {"value": SETTINGS.min_weight_percent},
    }
    source = {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}
    return {
        "name": "orders",
        "type": "EDS",
        "eds_cluster_config": {"eds_config": source},
        "round_robin_lb_config": {"slow_start_config": starting},
        "common_lb_config": {"update_merge_window": "0s"},
    }


def share(elapsed: float) -> float:
    """Return the part of the calls that one gets who came so long ago, beside another one who is warm."""
    factor = SETTINGS.factor(max(0.0, elapsed))
    return factor / (1 + factor)


def test_it_gets_as_many_calls_as_there(servers: Upstreams, tmp_path: Path) -> None:
    """Nobody knows to the millisecond when Envoy has counted a call, but everybody that it was not before or after."""
    file, (warm, new) = tmp_path / "hosts.json", servers.addresses
    listed(file, [warm])
    with EnvoyProxy(tmp_path, [from_file(file)]) as proxy:
        assert proxy.send("orders") == warm
        time.sleep(SETTINGS.slow_start_window)
        earliest = time.monotonic()
        listed(file, [warm, new])
        until(lambda: new in proxy.hosts("orders"))
        latest = time.monotonic()
        until(lambda: proxy.send("orders") == new)  # its worker knows, too
        least = most = 0.0
        got = calls = 0
        while (began := time.monotonic()) < latest + SETTINGS.slow_start_window:
            got += proxy.send("orders") == new
            calls += 1
            least += share(began - latest)
            most += share(time.monotonic() - earliest)

    assert least - 3 <= got <= most + 3, calls
