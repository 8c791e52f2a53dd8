"""Services by name: one object for a name, what a host may be spelled like, and what is let go again."""

from __future__ import annotations

import gc
import threading
from weakref import ref

import pytest

from svcmesh import Abort, ConfigError, Endpoint, Event, Fault, Mesh, NoEndpoints, Policy
from svcmesh.discovery import poll
from svcmesh.discovery.static import StaticDiscovery

SERVERS = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]


def test_the_same_name_is_the_same_service_and_a_second_policy_an_error() -> None:
    with Mesh({"a": SERVERS}, services={"b": Policy()}) as mesh:
        assert mesh.service("a") is mesh.service("a")
        assert mesh.service("a", policy=Policy.standard()) is mesh.service("a")
        assert mesh.service("b").policy == Policy()
        for name in ("a", "b"):
            with pytest.raises(ConfigError, match="another policy"):
                mesh.service(name, policy=Policy(timeout=1.0))


def test_settings_by_service_may_name_another_discovery() -> None:
    with Mesh({"a": SERVERS}, services={"b": ("static://127.0.0.1:9", Policy())}) as mesh:
        assert [endpoint.address for endpoint in mesh.service("b").endpoints] == ["127.0.0.1:9"]


def test_a_service_by_uri_needs_no_discovery() -> None:
    with Mesh({}) as mesh:
        service = mesh.service("static://127.0.0.1:9")
        assert service.endpoints == (Endpoint("127.0.0.1:9"),)
        assert mesh.state()["services"]["static://127.0.0.1:9"]["discovery"]["ready"]


def test_a_service_by_uri_shows_no_secret() -> None:
    uri = "consul://user:hunter2@127.0.0.1:8500/web"
    with Mesh({}) as mesh:
        service = mesh.service(uri)

        assert "hunter2" not in f"{service!r} {service.name} {mesh.state()} {mesh.explain(uri)}"
        with pytest.raises(ConfigError) as caught:
            mesh.explain(uri.replace("8500", "8501"))
        assert "hunter2" not in str(caught.value)


def test_a_host_is_found_in_any_case_and_exactly_where_two_names_differ_only_in_it() -> None:
    with Mesh({"Orders": SERVERS, "users": SERVERS, "Users": SERVERS}) as mesh:
        assert mesh.by_host("ORDERS") is mesh.service("Orders")
        assert mesh.by_host("users") is mesh.service("users") is not mesh.service("Users")
        with pytest.raises(NoEndpoints, match=r"'USERS' may be service 'Users', 'users'.*rename one of them"):
            mesh.by_host("USERS")


def test_faults_find_a_service_in_any_case_and_never_guess() -> None:
    with Mesh({"Orders": SERVERS, "users": SERVERS, "Users": SERVERS}) as mesh:
        with mesh.faults.inject("orders", Fault(abort=Abort(503))):
            assert mesh.state()["services"]["Orders"]["faults"] == 1
        with pytest.raises(ConfigError, match="spell it as one of them"), mesh.faults.inject("USERS"):
            pass


def test_faults_for_a_service_that_cannot_be_are_refused() -> None:
    """Where all services were given, a misspelt name would arm nothing; elsewhere a name may come to be."""
    fault = Fault(abort=Abort(503))
    with Mesh({"orders": SERVERS, "users": SERVERS}, services={"own": Policy()}) as mesh:
        for name, says in (("order", "nearest are: 'orders'$"), ("x", "given are: 'orders', 'own', 'users'$")):
            with pytest.raises(ConfigError, match=f"no service is called '{name}', and none can come; {says}"):
                mesh.faults.inject(name, fault).__enter__()
        assert mesh.state()["services"] == {}
        mesh.service("later")
        for name in ("own", "later", "static://127.0.0.1:9"):
            with mesh.faults.inject(name, fault):
                assert mesh.state()["services"][name]["faults"] == 1
    for open_to_all in (StaticDiscovery(SERVERS), poll(lambda service: SERVERS, every=60)):
        with Mesh(open_to_all) as mesh, mesh.faults.inject("any", fault):
            assert mesh.state()["services"]["any"]["faults"] == 1


def test_a_service_that_only_hosts_asked_for_is_let_go_and_one_that_was_named_stays() -> None:
    with Mesh({"a": SERVERS, "b": SERVERS}) as mesh:
        passing, kept = mesh.by_host("a"), mesh.by_host("b")
        gone, stays = ref(passing), ref(kept)
        mesh.service("b")
        del passing, kept
        gc.collect()

        assert gone() is None
        assert stays() is mesh.service("b")
        assert mesh.state()["services"].keys() == mesh._clusters.keys() == {"b"}


def test_letting_go_of_a_service_does_not_close_one_that_was_made_in_its_place() -> None:
    """Another thread may ask for the name when the old one is gone already, and its end not yet dealt with."""
    with Mesh({"a": SERVERS}) as mesh:
        old = mesh.by_host("a")
        del mesh._directory._passing["a"]  # as it is then
        new = mesh.by_host("a")
        del old
        gc.collect()

        assert mesh._clusters["a"] is new.view.cluster
        assert not any(member._gone for member in new.view.cluster.members.values())


@pytest.mark.parametrize("ask", ["named", "by_host", "in_any_case"])
def test_events_of_making_a_service_are_told_with_no_lock_held(ask: str) -> None:
    """A listener may wait for a thread that asks for a service itself."""
    with Mesh({"service": SERVERS}) as mesh:
        blocked: list[bool] = []

        def listener(_: Event) -> None:
            other = threading.Thread(target=mesh.service, args=("another",))
            other.start()
            other.join(30)
            blocked.append(other.is_alive())

        mesh.events.subscribe(listener, "endpoints.changed")
        getattr(mesh._directory, ask)("service")
        assert blocked == [False]


def test_a_closed_mesh_makes_no_service_and_knows_those_it_made() -> None:
    mesh = Mesh({"a": SERVERS})
    service = mesh.service("a")
    mesh.close()

    assert mesh.service("a") is service
    with pytest.raises(RuntimeError, match="service 'b' was asked of a mesh that has been closed"):
        mesh.service("b")
