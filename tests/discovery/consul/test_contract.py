"""One suite for the fake and for a real agent: what Consul does, and what svcmesh makes of it.

The real one is what SVCMESH_TEST_CONSUL names, or PATH has. What holds for both is what the fake is worth.
"""

from __future__ import annotations

import threading
import time
from itertools import count

import pytest

import svcmesh
from svcmesh.core.endpoint import Health
from tests.servers.consul_agent import fake_or_real, until

_numbers = count()


@pytest.fixture(scope="module", params=["fake", "real"])
def consul(request):
    with fake_or_real(request.param) as api:
        yield api


@pytest.fixture
def name():
    """Return a name that no other test uses."""
    return f"orders-{next(_numbers)}"


@pytest.fixture
def mesh(consul):
    with svcmesh.Mesh(f"consul://{consul.address}") as mesh:
        yield mesh


def quiet(consul, name):
    """Return the index of a service's one instance once nothing more comes of it: its check may come after it."""
    consul.settle(name, 1)
    for _ in range(100):
        index, _ = consul.health(name)
        if consul.health(name, index=index, wait="200ms")[0] == index:
            return index
    pytest.fail(f"{name} changes all the time")


def ports(service):
    return sorted(endpoint.port for endpoint in service.endpoints)


# -- what Consul does ----------------------------------------------------------------------------------------------


def test_an_unknown_service_is_empty_with_an_index(consul, name):
    index, entries = consul.health(name)

    assert entries == []
    assert index >= 1


def test_a_question_is_held_until_its_service_changes(consul, name):
    consul.register(name, 80)
    index = quiet(consul, name)
    began = time.monotonic()
    threading.Timer(0.3, consul.register, (name, 81)).start()
    later, entries = consul.health(name, index=index, wait="10s")

    assert time.monotonic() - began > 0.2
    assert later > index
    assert len(entries) == 2


def test_a_question_whose_wait_runs_out_has_the_same_index(consul, name):
    consul.register(name, 80)
    index = quiet(consul, name)
    began = time.monotonic()

    assert consul.health(name, index=index, wait="200ms")[0] == index
    assert time.monotonic() - began > 0.15


def test_index_0_is_never_held(consul, name):
    consul.health(name, index=0, wait="60s")  # whoever asks gives up long before


def test_a_new_check_begins_critical_and_registering_again_keeps_its_status(consul, name):
    body = {"Name": name, "Port": 80, "Check": {"TTL": "24h"}}
    consul.put("/v1/agent/service/register", body)
    consul.settle(name, 1)
    assert _own_status(consul, name) == "critical"

    consul.set_status(name, "passing")
    consul.put("/v1/agent/service/register", {**body, "Tags": ["new"]})
    until(lambda: consul.health(name)[1][0]["Service"]["Tags"] == ["new"])
    assert _own_status(consul, name) == "passing"


def _own_status(consul, name):
    return next(c["Status"] for c in consul.health(name)[1][0]["Checks"] if c["ServiceName"])


@pytest.mark.parametrize(
    ("method", "path", "body", "params", "status"),
    [
        ("PUT", "/v1/agent/service/register", {"ServiceName": "x"}, {}, 400),
        ("PUT", "/v1/agent/service/register", {"Port": 80}, {}, 400),
        ("PUT", "/v1/agent/service/register", {"Name": "x", "Address": "0.0.0.0"}, {}, 400),
        ("PUT", "/v1/agent/service/deregister/nobody", None, {}, 404),
        ("PUT", "/v1/agent/service/maintenance/nobody", None, {"enable": "true"}, 404),
        ("PUT", "/v1/agent/service/maintenance/nobody", None, {}, 400),
        ("PUT", "/v1/agent/check/update/nobody", {"Status": "passing"}, {}, 404),
        ("GET", "/v1/agent/service/nobody", None, {}, 404),
        ("GET", "/v1/health/service/x", None, {"index": "abc"}, 400),
        ("GET", "/v1/health/service/x", None, {"index": "3", "wait": "soon"}, 400),
        ("GET", "/v1/health/service/x", None, {"stale": "", "consistent": ""}, 400),
        ("GET", "/v1/health/service/x", None, {"filter": "nonsense ((("}, 400),
        ("GET", "/v1/query/nobody/execute", None, {}, 404),
        ("DELETE", "/v1/health/service/x", None, {}, 405),
        ("GET", "/v1/nothing", None, {}, 404),
    ],
)
def test_what_is_wrong_has_its_status(consul, method, path, body, params, status):
    if version(consul) < (1, 11):
        status = OLD.get((method, path, *params), status)
    assert consul.ask(method, path, body, **params)[0] == status


OLD = {
    ("PUT", "/v1/agent/service/deregister/nobody"): 200,
    ("PUT", "/v1/agent/check/update/nobody"): 500,
    ("GET", "/v1/health/service/x", "filter"): 500,
}
"""What agents before 1.11 say instead."""


def version(consul):
    said = consul.ask("GET", "/v1/agent/self")[2]["Config"]["Version"]
    return tuple(int(part) for part in said.split("+")[0].split("-")[0].split(".")[:2])


def test_lists_can_be_narrowed(consul, name):
    consul.register(name, 80, Tags=["a", "b"], Meta={"version": "1"})
    consul.register(name, 81, Tags=["a"], Meta={"version": "2"}, status="warning")
    consul.settle(name, 2)

    def found(**params):
        return sorted(entry["Service"]["Port"] for entry in consul.health(name, **params)[1])

    assert found(tag="a") == [80, 81]
    assert found(tag=["a", "b"]) == [80]
    assert found(filter='Service.Meta.version == "2"') == [81]
    assert found(filter='"b" in Service.Tags or Service.Port == 81') == [80, 81]
    assert found(filter='not "b" in Service.Tags and Service.Meta is not empty') == [81]
    until(lambda: found(passing="") == [80])


# -- what svcmesh makes of it --------------------------------------------------------------------------------------


def test_instances_come_change_and_go(consul, mesh, name):
    consul.register(name, 80)
    service = mesh.service(name)
    service.wait_ready(30)
    assert ports(service) == [80]

    second = consul.register(name, 81)
    until(lambda: ports(service) == [80, 81])
    consul.set_status(second, "critical")
    until(lambda: ports(service) == [80])
    consul.set_status(second, "passing")
    until(lambda: ports(service) == [80, 81])
    consul.put(f"/v1/agent/service/deregister/{second}")
    until(lambda: ports(service) == [80])


def test_warning_counts_at_its_weight(consul, mesh, name):
    consul.register(name, 80, Weights={"Passing": 10, "Warning": 3})
    service = mesh.service(name)
    service.wait_ready(30)
    assert service.endpoints[0].weight == 10

    consul.set_status(f"{name}-80", "warning")
    until(lambda: service.endpoints[0].weight == 3)
    assert service.endpoints[0].health is Health.HEALTHY


def test_maintenance_takes_out_and_brings_back(consul, mesh, name):
    consul.register(name, 80)
    second = consul.register(name, 81)
    service = mesh.service(name)
    until(lambda: ports(service) == [80, 81])

    consul.put(f"/v1/agent/service/maintenance/{second}", enable="true", reason="upgrade")
    until(lambda: ports(service) == [80])
    consul.put(f"/v1/agent/service/maintenance/{second}", enable="false")
    until(lambda: ports(service) == [80, 81])


def test_metadata_tags_and_locality_arrive(consul, mesh, name):
    consul.register(name, 80, Tags=["canary"], Meta={"version": "2", "zone": "eu-1"})
    service = mesh.service(name)
    service.wait_ready(30)

    (endpoint,) = service.endpoints
    assert endpoint.metadata["tags"] == ("canary",)
    assert endpoint.metadata["version"] == "2"
    assert endpoint.locality == svcmesh.Locality("", "eu-1")


@pytest.mark.parametrize("query", ["?tag=blue", "?filter=%22blue%22+in+Service.Tags", "?tag=blue&near=_agent&cached"])
def test_a_uri_narrows_what_is_watched(consul, name, query):
    consul.register(name, 80, Tags=["blue"])
    consul.register(name, 81, Tags=["green"])
    consul.settle(name, 2)

    with svcmesh.Mesh({}) as mesh:
        service = mesh.service(f"consul://{consul.address}/{name}{query}")
        service.wait_ready(30)
        assert ports(service) == [80]


def test_an_instance_without_address_is_at_its_node(consul, mesh, name):
    consul.register(name, 80, Address="")
    service = mesh.service(name)
    service.wait_ready(30)

    assert service.endpoints[0].address == "127.0.0.1:80"


def test_tagged_addresses_are_dialled_when_asked_for(consul, name):
    consul.register(name, 80, TaggedAddresses={"wan": {"Address": "198.51.100.7", "Port": 443}})
    with svcmesh.Mesh(f"consul://{consul.address}?address=wan") as mesh:
        service = mesh.service(name)
        service.wait_ready(30)
        assert service.endpoints[0].address == "198.51.100.7:443"


def test_a_prepared_query_is_followed(consul, name):
    consul.register(name, 80)
    consul.register(name, 81, Tags=["canary"])
    consul.settle(name, 2)
    status, _, _ = consul.ask(
        "POST", "/v1/query", {"Name": f"q-{name}", "Service": {"Service": name, "Tags": ["canary"]}}
    )
    assert status == 200

    with svcmesh.Mesh(f"consul://{consul.address}?query=q-{{service}}&every=100ms") as mesh:
        service = mesh.service(name)
        service.wait_ready(30)
        assert ports(service) == [81]
        consul.register(name, 82, Tags=["canary"])
        until(lambda: ports(service) == [81, 82])


def test_a_process_registers_beats_drains_and_leaves(consul, mesh, name):
    fields = {"tags": ["blue"], "meta": {"version": "2"}, "weight": 7, "locality": svcmesh.Locality("eu", "eu-1")}
    with mesh.register(name, port=8080, host="127.0.0.1", id=f"me-{name}", ttl=4.0, **fields) as registration:
        service = mesh.service(name)
        service.wait_ready(30)
        (endpoint,) = service.endpoints
        assert (endpoint.address, endpoint.weight) == ("127.0.0.1:8080", 7)
        assert endpoint.locality == svcmesh.Locality("eu", "eu-1")
        assert endpoint.metadata["tags"] == ("blue",)
        for _ in range(2):
            consul.set_status(f"me-{name}", "critical")  # for a moment that may be too short for anybody to see it
            until(lambda: consul.ask("GET", "/v1/agent/checks")[2][f"service:me-{name}"]["Status"] == "passing")
        until(lambda: ports(service) == [8080])
        assert registration.registered

        registration.drain()
        until(lambda: ports(service) == [])
        assert len(consul.health(name)[1]) == 1, "it stays registered"
    consul.settle(name, 0)


def test_a_pattern_of_names_holds_for_who_registers_too(consul, name):
    with svcmesh.Mesh(f"consul://{consul.address}/{{service}}-v2") as mesh:
        service = mesh.service(name)
        with mesh.register(name, port=8080, host="127.0.0.1"):
            service.wait_ready(30)
            assert ports(service) == [8080]
            assert [entry["Service"]["Port"] for entry in consul.health(f"{name}-v2")[1]] == [8080]
        consul.settle(f"{name}-v2", 0)


def test_a_process_that_stops_beating_is_critical(consul, mesh, name):
    body = {"Name": name, "Port": 80, "Address": "127.0.0.1", "Check": {"TTL": "500ms", "Status": "passing"}}
    consul.put("/v1/agent/service/register", body)
    service = mesh.service(name)
    service.wait_ready(30)

    until(lambda: ports(service) == [])


def test_an_agent_that_lost_a_registration_gets_it_again(consul, mesh, name):
    told: list[str] = []
    mesh.events.subscribe(lambda event: told.append(event.name), "registration.lost", "registration.registered")
    with mesh.register(name, port=8080, host="127.0.0.1", id=f"me-{name}", ttl=0.6):
        consul.settle(name, 1)
        consul.put(f"/v1/agent/service/deregister/me-{name}")
        until(lambda: len(consul.health(name)[1]) == 1)
        until(lambda: told == ["registration.registered", "registration.lost", "registration.registered"])


@pytest.mark.parametrize("check", ["/v1/status/leader", "tcp"])
def test_consul_may_check_by_itself(consul, mesh, name, check):
    """The address that is checked is Consul's own: something that answers."""
    port = int(consul.address.rpartition(":")[2])
    service = mesh.service(name)
    with mesh.register(name, port=port, host="127.0.0.1", ttl=1.0, check=check):
        service.wait_ready(30)
        assert ports(service) == [port]
    consul.settle(name, 0)


def test_a_check_that_fails_takes_an_instance_out(consul, mesh, name):
    consul.register(name, 80)
    service = mesh.service(name)
    service.wait_ready(30)
    with mesh.register(name, port=1, host="127.0.0.1", ttl=1.0, check="tcp"):
        consul.settle(name, 2)
        third = consul.register(name, 82)
        until(lambda: ports(service) == [80, 82])
        assert {entry["Service"]["Port"] for entry in consul.health(name)[1]} == {80, 1, 82}
    consul.put(f"/v1/agent/service/deregister/{third}")
