"""Connections of health checks, and what is said where there is none."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from svcmesh.core.endpoint import Endpoint
from svcmesh.engine import resolve
from svcmesh.policy.health.finding import Unasked, Unwell
from svcmesh.transport.health.dial import Dialler, Exhausted, name_of


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def known_as(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name stand for these addresses."""

    async def known(host: str) -> list[str]:
        return list(addresses)

    monkeypatch.setattr(resolve, "resolve", known)


async def test_of_several_addresses_one_that_accepts_is_enough(listener, monkeypatch) -> None:
    known_as(monkeypatch, "127.0.0.2", "127.0.0.1")
    _, writer = await Dialler().dial(Endpoint(f"orders.example:{listener.getsockname()[1]}"))
    assert writer.get_extra_info("peername")[0] == "127.0.0.1"
    writer.close()


async def test_a_name_that_nobody_knows_says_nothing_of_the_endpoint(monkeypatch) -> None:
    """The calls may find it by a part of the system's resolver that is not asked here."""
    known_as(monkeypatch)
    with pytest.raises(Unasked, match=r"no name server knows orders\.example"):
        await Dialler().dial(Endpoint("orders.example:80"))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL])
async def test_what_this_host_lacks_says_nothing_of_the_endpoint(number: int, monkeypatch) -> None:
    async def fail(*args, **kwargs):
        raise OSError(number, "there is no more")

    monkeypatch.setattr(asyncio, "open_connection", fail)
    with pytest.raises(Exhausted, match="cannot be dialled: there is no more"):
        await Dialler().dial(Endpoint("127.0.0.1:80"))


async def test_a_refusal_on_another_port_is_none_on_that_of_the_calls(listener) -> None:
    """A panic may still call such an endpoint."""
    port = listener.getsockname()[1]
    listener.close()
    for alt_port, refusing in ((None, True), (port, False)):
        with pytest.raises(Unwell, match="connection refused") as unwell:
            await Dialler(alt_port).dial(Endpoint(f"127.0.0.1:{1 if alt_port else port}"))
        assert unwell.value.refusing is refusing


async def test_other_errors_are_told_as_they_are(monkeypatch) -> None:
    async def fail(*args, **kwargs):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(asyncio, "open_connection", fail)
    with pytest.raises(Unwell, match="no connection: .*Network is unreachable") as unwell:
        await Dialler().dial(Endpoint("127.0.0.1:80"))
    assert not unwell.value.refusing


def test_a_service_that_is_known_by_a_uri_has_no_name() -> None:
    assert name_of("orders") == "orders"
    assert [name_of(name) for name in ("static://127.0.0.1:80", "two words", "bücher")] == [None] * 3
