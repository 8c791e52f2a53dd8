"""Waiting for a connection while endpoints are dead: one that lives is enough. Against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from svcmesh.service import Service
from tests.servers.grpc_process import GrpcServer, blackhole_port, refused_port
from tests.transport.grpc.kit import PATIENCE, eventually, service_over

Servers = tuple[GrpcServer, GrpcServer]


@contextmanager
def over(port: Any, server: GrpcServer) -> Iterator[tuple[Service, Any]]:
    """Yield a service of two endpoints, and the member that is dead."""
    with port() as dead, service_over([f"127.0.0.1:{dead}", server.address]) as service:
        yield service, service.view.cluster.members[f"127.0.0.1:{dead}"]


def dialer_of(channel: Any) -> Any:
    """Return what makes the connections of ``channel``."""
    return channel._dialer


@pytest.mark.parametrize("port", [refused_port, blackhole_port])
def test_a_channel_becomes_ready_although_a_dead_endpoint_was_dialled_first(grpc_servers: Servers, port: Any) -> None:
    """Whether it refuses or says nothing: then the next one is dialled beside it."""
    with over(port, grpc_servers[0]) as (service, dead), service.grpc_channel() as channel:
        dialer_of(channel).channel(dead)
        future = grpc.channel_ready_future(channel)

        future.result(PATIENCE)


@pytest.mark.parametrize("port", [refused_port, blackhole_port])
async def test_an_asyncio_channel_does_so_too(grpc_servers: Servers, port: Any) -> None:
    """On each loop for itself."""
    with over(port, grpc_servers[0]) as (service, dead):
        async with service.grpc_aio_channel() as channel:
            kept: Any = dialer_of(channel).channel(dead)
            kept.of(asyncio.get_running_loop())

            await asyncio.wait_for(channel.channel_ready(), PATIENCE)


def test_nothing_else_is_dialled_while_one_is_connected(grpc_servers: Servers) -> None:
    """A subscriber wants a connection, not all of them."""
    with service_over([server.address for server in grpc_servers]) as service, service.grpc_channel() as channel:
        dialer, states = dialer_of(channel), []
        channel.subscribe(states.append, try_to_connect=True)
        eventually(lambda: grpc.ChannelConnectivity.READY in states, "not connected")

        assert dialer.dial_more(service.view, lambda kept: kept.state()) is None
        kept = len(dialer.kept())
        dialer._next_dial = 0.0
        assert dialer.dial_more(service.view, lambda kept: grpc.ChannelConnectivity.READY) is None
        assert len(dialer.kept()) == kept


def test_a_subscriber_sees_another_endpoint_take_over_from_one_that_died(grpc_servers: Servers) -> None:
    """The first connection is lost, and the other endpoint is dialled for it."""
    with (
        GrpcServer("mortal") as mortal,
        service_over([mortal.address, grpc_servers[0].address]) as service,
        service.grpc_channel() as channel,
    ):
        states: list[grpc.ChannelConnectivity] = []
        dialer_of(channel).channel(service.view.cluster.members[mortal.address])
        channel.subscribe(states.append, try_to_connect=True)
        eventually(lambda: states[-1:] == [grpc.ChannelConnectivity.READY], "not connected")
        mortal.kill()
        living: Any = service.view.cluster.members[grpc_servers[0].address]
        eventually(lambda: living.attached(dialer_of(channel)._key) is not None, "nobody else was dialled")
        eventually(lambda: states[-1] is grpc.ChannelConnectivity.READY, "not connected again")
