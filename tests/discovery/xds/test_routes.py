"""From a listener to the route that all calls take."""

from __future__ import annotations

import pytest

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.xds.kinds import Kind
from tests.discovery.xds.decoded import decoded, good
from tests.servers.xds import resources
from tests.servers.xds.resources import route, table, to_cluster, to_clusters
from tests.servers.xds.wire import encode


def routes(*found, domains=("*",)):
    return good(Kind.ROUTES, encode(table("r", found, domains)))


def hosts(**domains):
    """Return routes whose hosts lead to a cluster of their own name."""
    listed = [{1: name, 2: some, 3: [route(to_cluster(name))]} for name, some in domains.items()]
    return good(Kind.ROUTES, encode({1: "r", 2: listed}))


def test_a_listener_names_its_routes_or_has_them():
    assert good(Kind.LISTENER, resources.listener("orders", "r")).routes == "r"
    within = good(Kind.LISTENER, resources.listener("orders", table("r", [route(to_cluster("c"))])))
    assert within.routes.of("orders").shares == (("c", 1.0),)


@pytest.mark.parametrize("prefix", ["", "/"])
def test_the_route_that_takes_all_calls_counts(prefix):
    host = routes(route(to_cluster("special"), path="/x"), route(to_cluster("c"), prefix=prefix)).of("orders")

    assert (host.shares, host.skipped) == ((("c", 1.0),), 1)


@pytest.mark.parametrize(
    "narrowed",
    [
        route(to_cluster("c"), prefix="/v1"),
        route(to_cluster("c"), path="/"),
        {1: {1: "", 6: [{1: "x-user"}]}, 2: to_cluster("c")},
        {1: {1: "", 7: [{1: "debug"}]}, 2: to_cluster("c")},
        {1: {1: "", 8: {}}, 2: to_cluster("c")},
        {1: {1: "", 9: {1: {1: 50}}}, 2: to_cluster("c")},
        {1: {1: "", 9: {1: {1: 100, 2: 1}}}, 2: to_cluster("c")},
        {1: {1: "", 9: {2: "key"}}, 2: to_cluster("c")},
        {1: {1: "", 6: [{1: "x-user"}], 9: {1: {1: 100}}}, 2: to_cluster("c")},
        {1: {1: "", 11: {1: {1: 1}}}, 2: to_cluster("c")},
        {1: {1: "", 13: [{1: "filter"}]}, 2: to_cluster("c")},
        {1: {1: "", 16: [{1: "key"}]}, 2: to_cluster("c")},
        {1: {10: {2: ".*"}}, 2: to_cluster("c")},
    ],
)
def test_a_table_whose_routes_take_only_some_calls_is_an_error_that_says_so(narrowed):
    with pytest.raises(DiscoveryError, match="virtual host 'all' has no route that takes all calls"):
        routes(narrowed).of("orders")


@pytest.mark.parametrize("fraction", [{1: 100}, {1: 10_000, 2: 1}, {1: 1_000_000, 2: 2}, {1: 101}])
def test_a_route_that_takes_all_of_all_calls_takes_them_all(fraction):
    """As it stands at the end of a change that was rolled out step by step."""
    first = {1: {1: "", 9: {1: fraction}}, 2: to_cluster("new")}
    host = routes(first, route(to_cluster("old"))).of("orders")

    assert (host.shares, host.skipped) == ((("new", 1.0),), 0)


def test_a_route_that_takes_a_part_of_nothing_known_is_refused():
    content = encode(table("r", [{1: {1: "", 9: {1: {1: 1, 2: 9}}}, 2: to_cluster("c")}]))

    assert "parts of 9, which is no denominator" in decoded(Kind.ROUTES, content).why


@pytest.mark.parametrize("action", [{}, {2: "x-cluster"}, {37: "plugin"}])
def test_a_route_that_names_no_cluster_is_an_error_that_says_so(action):
    with pytest.raises(DiscoveryError, match="leads to no cluster that it names"):
        routes(route(action)).of("orders")


def test_weighted_clusters_have_their_shares_and_those_of_none_are_left_out():
    assert routes(route(to_clusters(a=1, b=3, c=0))).of("orders").shares == (("a", 0.25), ("b", 0.75))
    assert "0 together" in decoded(Kind.ROUTES, encode(table("r", [route(to_clusters(a=0))]))).why


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("orders.prod", "exact"),
        ("ORDERS.prod", "exact"),
        ("stock.prod", "end"),
        ("stock.eu.prod", "longer_end"),
        ("orders.test", "beginning"),
        ("other", "any_one"),
    ],
)
def test_the_host_with_the_best_domain_counts(name, host):
    found = hosts(
        any_one=["*"], beginning=["orders.*"], end=["*.prod"], longer_end=["*.eu.prod"], exact=["orders.prod", "x"]
    )

    assert found.of(name).shares == ((host, 1.0),)


def test_of_two_hosts_with_one_domain_the_first_counts():
    assert hosts(first=["x", "*"], second=["x", "*"]).of("x").shares == (("first", 1.0),)
    assert hosts(first=["x", "*"], second=["x", "*"]).of("y").shares == (("first", 1.0),)


def test_a_host_with_the_very_name_is_found_without_a_look_at_the_others(monkeypatch):
    """A thousand services that share a table of a thousand hosts would else be a million looks at each change of it."""
    looks = []
    monkeypatch.setattr("svcmesh.discovery.xds.routes._fit", lambda *asked: looks.append(asked) or (0, 0))
    found = hosts(**{f"h{number}": [f"h{number}", f"*.h{number}"] for number in range(10)})

    assert found.of("H7").shares == (("h7", 1.0),)
    assert looks == []
    with pytest.raises(DiscoveryError, match="no virtual host"):
        found.of("other")
    assert len(looks) == 10


def test_a_name_without_a_host_is_an_error_that_says_so():
    with pytest.raises(DiscoveryError, match="no virtual host for 'orders'"):
        hosts(other=["other"]).of("orders")


def test_a_listener_that_is_none_for_clients_is_refused():
    assert "its api_listener holds ''" in decoded(Kind.LISTENER, encode({1: "orders"})).why
    assert "neither route_config nor rds" in decoded(Kind.LISTENER, resources.listener("orders", "")).why


def test_a_host_without_domains_is_refused():
    assert "has no domains" in decoded(Kind.ROUTES, encode({1: "r", 2: [{1: "h"}]})).why
