"""From keys to snapshots: each address once, in one order, and nothing decoded twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.emit import silent
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.etcd.answers import Item
from svcmesh.discovery.etcd.watch import Reader


def reader(emit=silent):
    return Reader(b"apps/orders/", emit, "orders")


def items(**values):
    return {f"apps/orders/{key}".encode(): Item(1, value.encode()) for key, value in values.items()}


def addresses(snapshot):
    return [endpoint.address for endpoint in snapshot.endpoints]


def test_addresses_are_sorted_and_each_is_there_once_with_most_weight():
    heavy = '{"Addr":"a:1","Metadata":{"weight":5}}'
    snapshot = reader().read(items(z="b:1", y="a:1", x=heavy, w="a:1"), None, 7)

    assert addresses(snapshot) == ["a:1", "b:1"]
    assert (snapshot.endpoints[0].weight, snapshot.version, snapshot.authoritative) == (5, 7, True)


def test_of_equal_ones_the_first_key_counts():
    for order in ("ab", "ba"):
        found = items(**dict.fromkeys(order, "h:1"))
        assert reader().read(found, None, 1).endpoints[0].metadata["id"] == "a"


def test_an_empty_service_is_empty_and_not_to_be_believed_at_once():
    """Leases also run out when etcd cannot be reached by anybody."""
    snapshot = reader().read({}, None, 1)

    assert (snapshot.endpoints, snapshot.authoritative) == ((), False)


def test_what_did_not_change_is_no_news_and_the_same_object():
    one = reader()
    first = one.read(items(a="a:1", b="b:1"), None, 1)
    assert one.read(items(a="a:1", b="b:1"), None, 2) is None
    second = one.read(items(a="a:1", b="c:1"), None, 3)
    assert second.endpoints[0] is first.endpoints[0]


def test_what_cannot_be_read_is_told_once_until_it_is_another():
    told = []
    one = reader(lambda name, **fields: told.append((name, fields["error"])))
    one.read(items(a="a:1", b="{"), None, 1)
    one.read(items(a="a:2", b="{"), None, 2)
    assert [name for name, _ in told] == ["config.warning"]
    assert "'apps/orders/b'" in told[0][1]
    one.read(items(a="a:2", b="b:1"), [b"apps/orders/b"], 3)
    one.read(items(a="a:2", b="no address"), [b"apps/orders/b"], 4)
    assert len(told) == 2


def test_a_service_of_which_nothing_can_be_read_is_an_error_and_comes_back():
    one = reader()
    one.read(items(a="a:1"), None, 1)
    with pytest.raises(DiscoveryError, match="none of 1 values in etcd is an endpoint"):
        one.read(items(a="{"), [b"apps/orders/a"], 2)
    assert one.read(items(a="a:2"), [b"apps/orders/a"], 3).endpoints[0].address == "a:2"


values = st.sampled_from(["a:1", "b:1", "{", '{"Addr":"a:1","Metadata":{"weight":2}}', '{"Addr":"c:1"}'])
states = st.dictionaries(st.sampled_from("abcdef"), values)


@given(st.lists(st.tuples(states, st.booleans()), min_size=1, max_size=8))
def test_whichever_way_a_state_was_reached_it_looks_the_same(history):
    """By events or by a new list: the endpoints are those of the last state."""
    one, before, seen = reader(), {}, None
    for state, is_list in history:
        found = items(**state)
        changed = {key for key in {*before, *found} if before.get(key) != found.get(key)}
        before = found
        try:
            snapshot = one.read(found, None if is_list else changed, 1)
        except DiscoveryError:
            continue
        seen = seen if snapshot is None else snapshot.endpoints
        assert seen == reader().read(found, None, 1).endpoints
