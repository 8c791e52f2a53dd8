"""Names in Consul's domain, as its documentation and its router read them."""

from __future__ import annotations

import pytest

from svcmesh.testing.consul.dns_names import Asked, asked_by


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("orders.service", Asked("service", "orders")),
        ("blue.orders.service", Asked("service", "orders", "blue")),
        ("v1.2.orders.service", Asked("service", "orders", "v1.2")),
        ("orders.service.eu", Asked("service", "orders", datacenter="eu")),
        ("blue.orders.service.eu.dc", Asked("service", "orders", "blue", "eu")),
        ("_orders._tcp.service", Asked("service", "orders")),
        ("_orders._blue.service.eu", Asked("service", "orders", "blue", "eu")),
        ("service.service", Asked("service", "service")),
        ("n1.node.eu", Asked("node", "n1", datacenter="eu")),
        ("7f000001.addr.dc1", Asked("addr", "7f000001", datacenter="dc1")),
        ("a.b.query", Asked("query", "a.b")),
    ],
)
@pytest.mark.parametrize("srv", [False, True])
def test_a_name_is_read_from_its_end(name, expected, srv):
    assert asked_by(name, srv=srv) == expected


def test_the_kind_may_be_left_out_where_srv_records_are_asked_for():
    assert asked_by("_orders._tcp", srv=True) == Asked("service", "orders")
    assert asked_by("_orders._blue.eu", srv=True) == Asked("service", "orders", "blue", "eu")
    assert asked_by("_orders._tcp", srv=False) is None


@pytest.mark.parametrize("name", ["", "orders", "service", "orders.service.a.b.c", "orders.virtual"])
def test_what_asks_for_nothing_is_a_name_that_is_not_there(name):
    assert asked_by(name, srv=False) is None
