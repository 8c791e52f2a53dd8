"""An agent that takes fewer connections than there are services, or none any more, and one that is frozen."""

from __future__ import annotations

import asyncio

import pytest

import svcmesh
from svcmesh.discovery.consul import watch
from svcmesh.discovery.consul.errors import Silent
from svcmesh.discovery.consul.room import Displaced, Room
from svcmesh.discovery.lines import Server
from svcmesh.testing import FakeConsul
from svcmesh.testing.consul import wire
from tests.servers.consul_agent import NO_CONSUL, ConsulProcess, real_consul, until

AGENT, OTHER = Server("http://10.0.0.1:8500"), Server("http://10.0.0.2:8500")
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
            async with room.hold(AGENT, displaceable=True):
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
    async with room.hold(AGENT, displaceable=True):
        pass
    assert not room.fill(sure=False)
    assert room.fill(sure=True)
    assert room.fill(sure=False)


async def test_a_cancelled_watch_is_cancelled_and_not_displaced():
    room = Room()

    async def hold():
        async with room.hold(AGENT, displaceable=True):
            await asyncio.Event().wait()

    holding = asyncio.ensure_future(hold())
    await asyncio.sleep(0)
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding


@pytest.mark.parametrize("most", [150, 0], ids=["a question each", "two for all"])
def test_who_is_frozen_is_left_long_before_questions_run_out(most, monkeypatch):
    """One question is held for a short time, at a time; when that is not answered all others are asked elsewhere."""
    monkeypatch.setattr("svcmesh.discovery.consul.backend.MOST_HELD", most)
    monkeypatch.setattr(watch, "PROBE", 0.5)
    monkeypatch.setattr(watch, "PATIENCE", 0.5)
    with FakeConsul() as frozen, FakeConsul() as other:
        uri = f"consul://{frozen.address},{other.address}?wait=10m"
        for number in range(5):
            frozen.register(f"s{number}", port=80)
            other.register(f"s{number}", port=81)
        with svcmesh.Mesh(uri) as mesh:
            services = [mesh.service(f"s{number}") for number in range(5)]
            for service in services:
                service.wait_ready(30)
                assert ports(service) == [80]
            until(lambda: any("600000ms" in str(request.query) for request in frozen.requests))
            frozen.fault("freeze")
            until(lambda: all(ports(service) == [81] for service in services), 60)


async def test_one_question_at_each_agent_is_held_for_a_short_time():
    room = Room()
    async with (
        room.hold(AGENT, displaceable=True) as first,
        room.hold(AGENT, displaceable=False) as second,
        room.hold(OTHER, displaceable=True) as elsewhere,
    ):
        assert (first, second, elsewhere) == (True, False, True)
    async with room.hold(AGENT, displaceable=False) as again:
        assert again


async def test_when_one_is_not_answered_the_others_at_that_agent_are_broken_off():
    room = Room()
    told = []

    async def hold(agent):
        try:
            async with room.hold(agent, displaceable=False):
                await asyncio.Event().wait()
        except Silent as error:
            told.append(str(error))

    holding = [asyncio.ensure_future(hold(agent)) for agent in (AGENT, AGENT, OTHER)]
    await asyncio.sleep(0)
    with pytest.raises(Silent, match="this one"):
        async with room.hold(AGENT, displaceable=True):
            raise Silent("this one")
    await asyncio.wait(holding[:2])
    assert told == ["http://10.0.0.1:8500: no answer, also not to what is asked beside"] * 2
    assert not holding[2].done()
    holding[2].cancel()
    await asyncio.wait(holding)
