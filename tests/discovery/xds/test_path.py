"""The way from a name to endpoints, who shares it, and what lies at its end."""

from __future__ import annotations

import pytest

from svcmesh.core.emit import silent
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.xds.found import Reader
from svcmesh.discovery.xds.kinds import Key, Kind
from svcmesh.discovery.xds.path import DEEPEST
from svcmesh.discovery.xds.tree import Tree
from tests.discovery.xds.decoded import good
from tests.servers.xds import resources
from tests.servers.xds.resources import endpoint, place, route, table, to_cluster, to_clusters
from tests.servers.xds.wire import encode

A, B, C, D = (f"10.0.0.{number}:80" for number in range(1, 5))


class World:
    """A tree, and a control plane that answers at once."""

    def __init__(self, first=Kind.LISTENER):
        self.tree = Tree(first)

    def listener(self, name, *actions):
        content = resources.listener(name, table("r", [route(one) for one in actions]))
        return self.put(Kind.LISTENER, name, content)

    def cluster(self, name, *addresses, places=None, drops=()):
        assignment = resources.assignment(name, [place(addresses, weight=0)] if places is None else places, drops)
        return [*self.put(Kind.CLUSTER, name, resources.cluster(name)), *self.put(Kind.ENDPOINTS, name, assignment)]

    def put(self, kind, name, content):
        self.tree.put(Key(kind, name), good(kind, content))
        return self.tree.follow([Key(kind, name)])[1]

    def read(self, name="orders", emit=silent):
        return Reader(emit, name).read(self.tree.path(name), "1")

    def found(self, name="orders"):
        return {one.address: (one.weight, one.priority) for one in self.read(name).endpoints}


def test_nothing_is_said_until_everything_on_the_way_has_come():
    world = World()
    assert world.tree.add("orders") == [Key(Kind.LISTENER, "orders")]
    assert world.read() is None
    assert world.put(Kind.LISTENER, "orders", resources.listener("orders", "r")) == [Key(Kind.ROUTES, "r")]
    new = world.put(Kind.ROUTES, "r", encode(table("r", [route(to_cluster("c"))])))
    assert new == [Key(Kind.CLUSTER, "c")]
    assert world.put(Kind.CLUSTER, "c", resources.cluster("c", "e")) == [Key(Kind.ENDPOINTS, "e")]
    assert world.read() is None
    world.put(Kind.ENDPOINTS, "e", resources.assignment("e", [place([A])]))

    snapshot = world.read()
    assert [one.address for one in snapshot.endpoints] == [A]
    assert snapshot.authoritative


def test_what_was_said_holds_while_another_cluster_warms_up():
    world = World()
    world.tree.add("orders")
    world.listener("orders", to_cluster("old"))
    world.cluster("old", A)
    reader = Reader(silent, "orders")
    assert reader.read(world.tree.path("orders"), "1") is not None
    world.listener("orders", to_cluster("new"))
    assert reader.read(world.tree.path("orders"), "2") is None
    world.cluster("new", B)
    assert [one.address for one in reader.read(world.tree.path("orders"), "3").endpoints] == [B]


def test_weighted_clusters_share_the_calls_whatever_their_size():
    world = World()
    world.tree.add("orders")
    world.listener("orders", to_clusters(old=75, new=25))
    world.cluster("old", A, B, C)
    world.cluster("new", D)

    found = world.found()
    assert found[A] == found[B] == found[C]
    assert found[D][0] == pytest.approx((found[A][0] + found[B][0] + found[C][0]) / 3)


def test_an_address_in_two_clusters_has_the_weights_of_both():
    world = World()
    world.tree.add("orders")
    world.listener("orders", to_clusters(old=50, new=50))
    world.cluster("old", A)
    world.cluster("new", A, B)

    found = world.found()
    assert found[A][0] == pytest.approx(3 * found[B][0])


def test_who_is_unhealthy_takes_no_share_from_its_cluster():
    world = World()
    world.tree.add("orders")
    world.listener("orders", to_clusters(old=50, new=50))
    world.cluster("old", places=[place([A, endpoint(B, resources.UNHEALTHY)], weight=0)])
    world.cluster("new", C)

    found = world.found()
    assert found[A] == found[C]


def test_an_aggregate_uses_the_first_of_its_clusters_and_the_others_behind_it():
    world = World(Kind.CLUSTER)
    world.tree.add("all")
    world.put(Kind.CLUSTER, "all", resources.aggregate("all", "main", "spare", "last"))
    world.cluster("main", places=[place([A]), place([B], "z", priority=1)])
    world.cluster("spare", C, A)
    world.put(Kind.CLUSTER, "last", resources.fixed_cluster("last", [D]))

    assert {address: priority for address, (_, priority) in world.found("all").items()} == {A: 0, B: 1, C: 2, D: 3}


def test_an_aggregate_that_shares_the_calls_has_its_spare_clusters_behind_all_of_them():
    """Whichever of those that share the calls comes first in the table."""
    for names in (("all", "other"), ("other", "all")):
        world = World()
        world.tree.add("orders")
        world.listener("orders", to_clusters(**dict.fromkeys(names, 1)))
        world.put(Kind.CLUSTER, "all", resources.aggregate("all", "main", "spare"))
        world.cluster("main", A)
        world.cluster("spare", B)
        world.cluster("other", C, D)

        found = world.found()
        assert {address: priority for address, (_, priority) in found.items()} == {A: 0, B: 1, C: 0, D: 0}
        assert found[A][0] == pytest.approx(found[C][0] + found[D][0])


def test_a_cluster_within_itself_is_an_error():
    world = World(Kind.CLUSTER)
    world.tree.add("a")
    world.put(Kind.CLUSTER, "a", resources.aggregate("a", "b"))
    world.put(Kind.CLUSTER, "b", resources.aggregate("b", "a"))

    with pytest.raises(DiscoveryError, match="cluster 'a' stands within itself"):
        world.read("a")


def test_clusters_may_lie_in_each_other_sixteen_deep():
    world = World(Kind.CLUSTER)
    world.tree.add("c0")
    for number in range(DEEPEST + 1):
        world.put(Kind.CLUSTER, f"c{number}", resources.aggregate(f"c{number}", f"c{number + 1}"))

    with pytest.raises(DiscoveryError, match=f"cluster 'c{DEEPEST}' stands .* too deep"):
        world.read("c0")


def test_clusters_that_multiply_end_in_an_error_soon():
    """Twenty levels of ten each would be more than anybody can follow."""
    world = World(Kind.CLUSTER)
    world.tree.add("c0")
    for number in range(12):
        world.put(Kind.CLUSTER, f"c{number}", resources.aggregate(f"c{number}", *[f"c{number + 1}"] * 10))

    with pytest.raises(DiscoveryError, match="beside too many others"):
        world.read("c0")


def test_what_does_not_exist_is_nothing_and_nobody_is_sure_of_it():
    world = World()
    world.tree.add("orders")
    world.tree.lose(Key(Kind.LISTENER, "orders"))
    world.tree.follow([Key(Kind.LISTENER, "orders")])

    snapshot = world.read()
    assert snapshot.endpoints == ()
    assert not snapshot.authoritative


@pytest.mark.parametrize("kind", [Kind.LISTENER, Kind.CLUSTER])
def test_what_was_taken_away_is_a_failure_where_that_is_to_change_nothing(kind):
    """So that the engine goes on with what it knows, for as long as it lasts. Endpoints that never came are none."""
    world = World()
    reader = Reader(silent, "orders", keeping=True)
    world.tree.add("orders")
    world.listener("orders", to_cluster("orders"))
    world.put(Kind.CLUSTER, "orders", resources.cluster("orders"))
    world.tree.lose(Key(Kind.ENDPOINTS, "orders"))
    world.tree.follow([Key(Kind.ENDPOINTS, "orders")])
    assert reader.read(world.tree.path("orders"), "1").endpoints == ()

    world.tree.lose(Key(kind, "orders"))
    world.tree.follow([Key(kind, "orders")])
    with pytest.raises(DiscoveryError, match=f"{kind.shown} 'orders' does not exist; what was known stays"):
        reader.read(world.tree.path("orders"), "2")


def test_a_cluster_of_several_that_does_not_exist_takes_nothing_from_the_others():
    world = World()
    world.tree.add("orders")
    world.listener("orders", to_clusters(there=1, gone=1))
    world.cluster("there", A)
    world.tree.lose(Key(Kind.CLUSTER, "gone"))
    world.tree.follow([Key(Kind.CLUSTER, "gone")])

    assert list(world.found()) == [A]
    assert not world.read().authoritative


@pytest.mark.parametrize("both", [to_clusters(good=1, broken=1), to_cluster("all")])
def test_a_cluster_of_several_that_is_refused_keeps_the_others_neither_from_coming_nor_from_changing(both, emitted):
    """As one that does not exist; else a mistake in a canary would hold all others as they were for ever."""
    world = World()
    world.tree.add("orders")
    world.listener("orders", both)
    world.put(Kind.CLUSTER, "all", resources.aggregate("all", "good", "broken"))
    world.tree.refuse(Key(Kind.CLUSTER, "broken"), "it is of no type")
    world.tree.follow([Key(Kind.CLUSTER, "broken")])
    reader = Reader(emitted, "orders")
    for version, address in (("1", A), ("2", B)):
        world.cluster("good", address)
        snapshot = reader.read(world.tree.path("orders"), version)
        assert [one.address for one in snapshot.endpoints] == [address]
        assert not snapshot.authoritative

    assert emitted.errors() == ["xDS: cluster 'broken': it is of no type"]
    world.cluster("good")
    with pytest.raises(DiscoveryError, match="cluster 'broken': it is of no type"):
        reader.read(world.tree.path("orders"), "3")


def test_what_was_refused_from_the_beginning_is_an_error_and_later_a_remark(emitted):
    world = World(Kind.ENDPOINTS)
    world.tree.add("c")
    key = Key(Kind.ENDPOINTS, "c")
    world.tree.refuse(key, "it is broken")
    world.tree.follow([key])
    with pytest.raises(DiscoveryError, match="endpoints of 'c': it is broken"):
        world.read("c")
    world.put(Kind.ENDPOINTS, "c", resources.assignment("c", [place([A])]))
    world.tree.refuse(key, "it is broken")
    world.tree.follow([key])

    assert [one.address for one in world.read("c", emitted).endpoints] == [A]
    assert emitted.errors() == ["xDS: endpoints of 'c' stays as it was: it is broken"]


def test_what_is_not_followed_and_not_applied_is_said_once(emitted):
    world = World()
    world.tree.add("orders")
    content = table("r", [route(to_cluster("x"), path="/x"), route(to_cluster("c") | {9: {1: "x"}, 23: {}})])
    world.put(Kind.LISTENER, "orders", resources.listener("orders", content))
    world.cluster("c", A)
    reader = Reader(emitted, "orders")
    for version in "12":
        reader.read(world.tree.path("orders"), version)

    first = "xDS: 1 routes of 'r' that only some calls take are not followed"
    second = "what the route of 'r' says is not applied: max_grpc_timeout, retry_on 'x'"
    assert emitted.errors() == [f"{first}; {second}"]


def test_what_a_route_says_of_the_policy_comes_with_the_endpoints_and_is_news_alone():
    world = World()
    world.tree.add("orders")
    world.listener("orders", to_cluster("c") | {8: {1: 2}})
    world.cluster("c", A)
    reader = Reader(silent, "orders")
    assert reader.read(world.tree.path("orders"), "1").policy == {"timeout": 2.0}
    world.listener("orders", to_cluster("c") | {8: {1: 2}})
    assert reader.read(world.tree.path("orders"), "2") is None
    for version, action, policy in (("3", {8: {1: 3}}, {"timeout": 3.0}), ("4", {}, None)):
        world.listener("orders", to_cluster("c") | action)
        snapshot = reader.read(world.tree.path("orders"), version)
        assert (snapshot.policy, [one.address for one in snapshot.endpoints]) == (policy, [A])


@pytest.mark.parametrize(
    ("longest", "action", "timeout"),
    [
        (5, {}, 5.0),
        (0, {}, None),
        (5, {8: {1: 2}}, 2.0),
        (5, {8: {1: 9}}, 5.0),
        (5, {8: {}}, 5.0),
        (5, {36: {}}, 5.0),
        (5, {36: {1: {1: 9}}}, 9.0),
        (5, {36: {1: {}}}, None),
        (5, {36: {2: {1: 7}}}, 7.0),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_how_long_calls_may_take_says_the_listener_where_the_route_does_not(longest, action, timeout, named):
    """As to gRPC (A31), whether the routes stand in the listener or are asked for."""
    world = World()
    world.tree.add("orders")
    routes = table("r", [route(to_cluster("c") | action)])
    world.put(Kind.LISTENER, "orders", resources.listener("orders", "r" if named else routes, longest))
    world.put(Kind.ROUTES, "r", encode(routes))
    world.cluster("c", A)

    assert world.read().policy == {"timeout": timeout}


def test_a_try_that_may_take_longer_than_the_listener_lets_calls_has_no_limit_of_its_own():
    world = World()
    world.tree.add("orders")
    routes = table("r", [route(to_cluster("c") | {9: {1: "5xx", 3: {1: 6}}})])
    world.put(Kind.LISTENER, "orders", resources.listener("orders", routes, 5))
    world.cluster("c", A)

    policy = world.read().policy
    assert (policy["timeout"], policy["per_try_timeout"], policy["retry"].max_attempts) == (5.0, None, 2)


def test_what_several_need_is_kept_until_nobody_does():
    world = World(Kind.CLUSTER)
    for name in ("a", "b"):
        world.tree.add(name)
        world.put(Kind.CLUSTER, name, resources.cluster(name, "shared"))
    world.put(Kind.ENDPOINTS, "shared", resources.assignment("shared", [place([A])]))
    assert world.tree.wanted(Kind.ENDPOINTS) == {"shared"}

    world.tree.remove("a")
    world.tree.forget(Kind.ENDPOINTS)
    assert list(world.found("b")) == [A]
    world.tree.remove("b")
    assert world.tree.wanted(Kind.ENDPOINTS) == set()


def test_what_is_needed_again_before_the_control_plane_was_told_was_never_away():
    """It would not be sent once more."""
    world = World(Kind.CLUSTER)
    world.tree.add("c")
    world.cluster("c", A)
    world.tree.remove("c")
    assert world.tree.add("c") == []
    assert list(world.found("c")) == [A]

    world.tree.remove("c")
    world.tree.forget(Kind.CLUSTER)
    assert world.tree.add("c") == [Key(Kind.CLUSTER, "c")]
    assert world.read("c") is None


def test_only_those_whose_way_leads_through_a_change_follow_it_anew():
    world = World(Kind.CLUSTER)
    for name in ("a", "b"):
        world.tree.add(name)
        world.cluster(name, A)

    assert world.tree.follow([Key(Kind.ENDPOINTS, "a")])[0] == {"a"}
    assert world.tree.follow([Key(Kind.ENDPOINTS, "unknown")])[0] == set()


def test_a_resource_that_nobody_asked_for_is_not_kept():
    world = World(Kind.CLUSTER)
    world.put(Kind.CLUSTER, "c", resources.cluster("c"))
    world.tree.lose(Key(Kind.CLUSTER, "c"))
    world.tree.refuse(Key(Kind.CLUSTER, "c"), "why")

    assert world.tree.add("c") == [Key(Kind.CLUSTER, "c")]
