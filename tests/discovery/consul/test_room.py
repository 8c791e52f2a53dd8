"""An agent that takes fewer connections than there are services: all of them are watched all the same."""

from __future__ import annotations

import asyncio

import pytest

import svcmesh
from svcmesh.discovery.consul.room import Displaced, Room
from svcmesh.testing import FakeConsul
from svcmesh.testing.consul import wire
from tests.servers.consul_agent import NO_CONSUL, ConsulProcess, real_consul, until

COUNT = 40
LIMIT = 20


def ports(service):
    return sorted(endpoint.port for endpoint in service.endpoints)


async def hangs_up(writer, *answer, **options):
    """Say nothing: so agents before 1.9 refuse a connection."""


@pytest.mark.parametrize("how", ["429", "hang-up"])
def test_all_share_few_connections_once_an_agent_takes_no_more(how, monkeypatch):
    """No service waits until another one is not watched any more, and changes arrive as they do else."""
    if how == "hang-up":
        answered = wire._send
        monkeypatch.setattr(
            wire, "_send", lambda *args, **options: (hangs_up if args[1] == 429 else answered)(*args, **options)
        )
    with FakeConsul(max_connections=LIMIT) as consul, svcmesh.Mesh(f"{consul.uri}?wait=2s") as mesh:
        for number in range(COUNT):
            consul.register(f"s{number}", port=80)
        services = [mesh.service(f"s{number}") for number in range(COUNT)]
        for service in services:
            service.wait_ready(30)
        until(lambda: consul.connections < LIMIT)
        for number in (0, LIMIT, COUNT - 1):
            consul.register(f"s{number}", port=81)
            until(lambda service=services[number]: ports(service) == [80, 81])
        assert all(len(service.endpoints) >= 1 for service in services)


def test_so_does_a_real_agent():
    """An old one has a connection that was given up until the question on it runs out."""
    binary = real_consul()
    if binary is None:
        pytest.skip(NO_CONSUL)
    limits = f"-hcl=limits {{ http_max_conns_per_client = {LIMIT} }}"
    with ConsulProcess(binary, limits) as consul, svcmesh.Mesh(f"{consul.uri}?wait=2s") as mesh:
        for number in range(COUNT):
            consul.register(f"s{number}", 80)
        services = [mesh.service(f"s{number}") for number in range(COUNT)]
        for service in services:
            service.wait_ready(60)


def test_an_agent_that_comes_back_is_not_one_that_is_full():
    """What hangs up before it is up, or as it goes, holds nothing meanwhile."""
    with FakeConsul() as consul, svcmesh.Mesh(f"{consul.uri}?wait=2s") as mesh:
        consul.register("web", port=80)
        mesh.service("web").wait_ready(30)
        consul.fault("drop", times=3)
        consul.break_connections()
        consul.register("web", port=81)
        until(lambda: ports(mesh.service("web")) == [80, 81])
        seen = len(consul.requests)
        consul.register("web", port=82)
        until(lambda: ports(mesh.service("web")) == [80, 81, 82])
        assert {request.path for request in consul.requests[seen:]} == {"/v1/health/service/web"}


async def test_whoever_holds_a_question_is_displaced_and_so_is_who_comes_later():
    room = Room()
    told = []

    async def hold():
        try:
            async with room.hold():
                await asyncio.Event().wait()
        except Displaced:
            told.append("displaced")

    holding = asyncio.ensure_future(hold())
    await asyncio.sleep(0)
    assert not room.is_full
    assert room.fill(sure=False)
    await holding
    await hold()
    assert told == ["displaced"] * 2


async def test_an_end_without_a_word_is_believed_only_while_others_are_held():
    room = Room()
    assert not room.fill(sure=False)
    async with room.hold():
        pass
    assert not room.fill(sure=False)
    assert room.fill(sure=True)
    assert room.fill(sure=False)


async def test_a_cancelled_watch_is_cancelled_and_not_displaced():
    room = Room()

    async def hold():
        async with room.hold():
            await asyncio.Event().wait()

    holding = asyncio.ensure_future(hold())
    await asyncio.sleep(0)
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
