"""Beyond a number of watches few connections do: changes still arrive, and only what changed is read."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

import svcmesh
from svcmesh.core.clock import SYSTEM
from svcmesh.core.emit import silent
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.consul import backend, catalogue
from svcmesh.discovery.consul.catalogue import READERS, states
from svcmesh.discovery.uri import open_discovery
from svcmesh.testing import FakeConsul
from tests.servers.consul_agent import until

COUNT = 30
QUIET = 20  # looks


@pytest.fixture
def many(monkeypatch):
    """Return a Consul with so many services, all of them watched, three of them by a connection each."""
    monkeypatch.setattr(backend, "MOST_HELD", 3)
    with FakeConsul() as consul:
        for number in range(COUNT):
            consul.register(f"s{number}", port=80)
        with svcmesh.Mesh(f"{consul.uri}?wait=2s") as mesh:
            services = [mesh.service(f"s{number}") for number in range(COUNT)]
            for service in services:
                service.wait_ready(30)
            until(lambda: {"/v1/health/state/any", "/v1/catalog/services"} <= held(consul))
            quiet(consul)
            yield consul, services
        until(lambda: consul.connections == 0)


def quiet(consul):
    """Wait until nothing is asked any more: what is held at first is read once more."""
    seen = []

    def same():
        seen.append(len(consul.requests))
        return seen[-QUIET:] == [seen[-1]] * QUIET

    until(same)


def held(consul):
    return {request.path for request in consul.requests if "index" in request.query}


def reads(consul, service):
    return sum(request.path == f"/v1/health/service/{service}" for request in consul.requests)


def ports(service):
    return sorted(endpoint.port for endpoint in service.endpoints)


def test_connections_are_few(many):
    consul, _ = many

    assert consul.most_connections <= 3 + 2 + READERS


def test_changes_arrive_and_only_what_changed_is_read(many):
    consul, services = many
    before = reads(consul, "s10")
    consul.register("s20", port=81)
    until(lambda: ports(services[20]) == [80, 81])
    consul.set_status("s20-81", "critical")
    until(lambda: ports(services[20]) == [80])
    consul.maintain("s21-80")
    until(lambda: ports(services[21]) == [])

    assert reads(consul, "s10") == before


def test_a_definition_that_changes_without_a_check_is_found(many):
    consul, services = many
    consul.register("s20", port=80, Weights={"Passing": 9, "Warning": 1})
    until(lambda: services[20].endpoints[0].weight == 9)
    consul.register("s22", port=81, status="")
    until(lambda: ports(services[22]) == [80, 81])


def test_a_node_that_fails_is_seen_by_all(many):
    consul, services = many
    consul.fail_node()
    until(lambda: all(service.endpoints == () for service in services))
    consul.fail_node(alive=True)
    until(lambda: all(ports(service) == [80] for service in services))


def test_a_consul_that_fails_takes_nothing_away(many):
    consul, services = many
    consul.stop()
    consul.start()
    consul.register("s20", port=81)
    until(lambda: ports(services[20]) == [80, 81], 15)
    assert all(len(service.endpoints) >= 1 for service in services)


def test_whoever_still_reads_when_all_is_broken_keeps_nobody_from_beginning_anew(monkeypatch):
    """The watches that begin after a failure have questions of their own, though one from before is not over."""
    monkeypatch.setattr(backend, "MOST_HELD", 0)
    with FakeConsul() as consul, svcmesh.Mesh(f"{consul.uri}?wait=2s") as mesh:
        for name in ("quick", "slow"):
            consul.register(name, port=80)
            mesh.service(name).wait_ready(30)
        until(lambda: {"/v1/health/state/any", "/v1/catalog/services"} <= held(consul))
        consul.fault("freeze", "/v1/health/service/slow")
        asked = reads(consul, "slow")
        consul.set_status("slow-80", "critical")
        until(lambda: reads(consul, "slow") > asked)
        before = reads(consul, "quick")
        consul.fault("500", "/v1/health/state/any", times=2)
        consul.bump()
        until(lambda: reads(consul, "quick") > before)
        consul.register("quick", port=81)
        until(lambda: ports(mesh.service("quick")) == [80, 81], 8)


def test_a_fault_of_ours_is_told_to_all_watches(monkeypatch):
    """Whatever breaks a question that watches share, they begin anew: a watch that hears nothing would be stale."""
    monkeypatch.setattr(backend, "MOST_HELD", 0)
    broken = iter([RuntimeError("a bug"), None])

    def read(body):
        error = next(broken, None)
        if error is not None:
            raise error
        return states(body)

    monkeypatch.setattr(catalogue, "states", read)
    with FakeConsul() as consul, svcmesh.Mesh(f"{consul.uri}?wait=2s") as mesh:
        consul.register("web", port=80)
        mesh.service("web").wait_ready(30)
        told = []
        mesh.events.subscribe(lambda event: told.append(event.error), "discovery.failed")
        until(lambda: reads(consul, "web") >= 2)
        consul.register("web", port=81)
        until(lambda: ports(mesh.service("web")) == [80, 81])
        assert all("RuntimeError: a bug" in error for error in told)


def test_another_loop_has_questions_of_its_own():
    """In a forked child nobody is there any more who asks the parent's; and its connections are not the child's."""
    with FakeConsul() as consul:
        consul.register("web", port=80)
        registry = open_discovery(f"{consul.uri}?wait=2s", clock=SYSTEM, emit=silent)
        parents = asyncio.new_event_loop()
        parents.close()
        registry._seats._taken[parents] = backend.MOST_HELD  # as a fork leaves it

        async def watched():
            async with aclosing(registry.watch("web")) as snapshots:
                return [await anext(snapshots), dict(registry._seats._taken)]

        found, held_now = asyncio.run(watched())
        assert len(found.endpoints) == 1
        assert sorted(held_now.values()) == [1, backend.MOST_HELD]


def test_checks_are_compared_by_what_they_say():
    check = {"ServiceName": "web", "ServiceID": "w1", "Node": "n", "CheckID": "c", "Status": "passing"}

    def of(**other):
        return states(json.dumps([check | other, None, 3]).encode())

    assert of() == of(Output="other", ModifyIndex=7)
    assert of() != of(Status="critical")
    assert set(of()) == {"web"}


@given(st.binary(max_size=100) | st.lists(st.dictionaries(st.sampled_from(["ServiceName", "Status"]), st.none())))
def test_any_bytes_are_checks_or_an_error_of_ours(body):
    try:
        states(body if isinstance(body, bytes) else json.dumps(body).encode())
    except DiscoveryError:
        return
