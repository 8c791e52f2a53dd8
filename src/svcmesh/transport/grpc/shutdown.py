"""Stopping a gRPC server so that no caller notices.

The order is everything. A server that refuses calls while somebody still sends them fails those, and gRPC does not say
of each whether it was executed. So callers are told first (health, registry), the server serves on while they hear of
it, and it refuses only when nobody comes any more. What still runs then is finished, within limits.
Source: the Kubernetes documentation on the termination of pods; gRPC's guide on graceful shutdown.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio

from svcmesh.core import checks
from svcmesh.core.errors import ConfigError
from svcmesh.transport.signals import STOP_SIGNALS, Leaving, OnSignal, check_leaving, leave

GRACE = 20.0
"""Seconds for calls in flight. With the five that leaving takes at most it stays below the 30 of Kubernetes."""

DRAIN = 1.0
"""Seconds from telling callers to refusing calls, at least."""


def shutdown(
    server: grpc.Server, *registrations: Leaving, health: Any = None, grace: float = GRACE, drain: float = DRAIN
) -> None:
    """Stop ``server`` so that no caller notices; return when it has stopped.

    Health is set to NOT_SERVING, the registry is left, the server serves on until callers have heard of that, calls in
    flight are finished, and it stops. Whatever goes wrong on the way, it does stop.

    Args:
        server: of `grpc.server`.
        registrations: what `Mesh.register` returned for it.
        health: the servicer of ``grpcio-health-checking``, or whatever has an ``enter_graceful_shutdown()``.
        grace: seconds that calls in flight may take; then they are cancelled.
        drain: seconds for which it serves on after callers were told, at least; more where they hear of it late: a load
            balancer that asks for health every few seconds, or Kubernetes.

    Raises:
        ConfigError: a negative or infinite time, something that is no registration or no health servicer.

    Threads: any but gRPC's own; not in a signal handler, see `serve_until_signal`. Calling it again is harmless.
    """
    _check(registrations, health, grace, drain)
    told = time.monotonic()
    try:
        if health is not None:
            health.enter_graceful_shutdown()
    finally:
        try:
            leave(registrations)
            time.sleep(max(0.0, told + drain - time.monotonic()))
        finally:
            server.stop(grace).wait()


async def aio_shutdown(
    server: grpc.aio.Server, *registrations: Leaving, health: Any = None, grace: float = GRACE, drain: float = DRAIN
) -> None:
    """Stop a server of `grpc.aio.server`; as `shutdown`, without blocking the event loop.

    The health servicer may be of the asyncio kind or of the blocking one. Who cancels this has no more patience: the
    server stops at once.
    """
    _check(registrations, health, grace, drain)
    told = time.monotonic()
    try:
        if health is not None:
            entered = health.enter_graceful_shutdown()
            if inspect.isawaitable(entered):
                await entered
    finally:
        try:
            await asyncio.to_thread(leave, registrations)
            await asyncio.sleep(max(0.0, told + drain - time.monotonic()))
        except asyncio.CancelledError:
            grace = 0.0
            raise
        finally:
            await _stop(server, grace)


async def _stop(server: grpc.aio.Server, grace: float) -> None:
    try:
        await server.stop(grace)
    except asyncio.CancelledError:
        await server.stop(0)
        raise


def serve_until_signal(
    server: grpc.Server,
    *registrations: Leaving,
    health: Any = None,
    grace: float = GRACE,
    drain: float = DRAIN,
    signals: Iterable[int] = STOP_SIGNALS,
) -> None:
    """Wait until the process is told to stop, then do what `shutdown` does; return when the server has stopped.

    It also returns when the server is stopped by somebody else. A second Ctrl-C raises KeyboardInterrupt at once, and
    cancels calls in flight.

    Args:
        server: of `grpc.server`, started.
        registrations, health, grace, drain: as for `shutdown`.
        signals: which ones say so; those that the process ignores are left alone.

    Raises:
        ConfigError: as `shutdown`. RuntimeError: an asyncio loop handles one of the signals.

    Threads: the main one, where Python hears of signals; elsewhere it just waits for the server's end.
    """
    _check(registrations, health, grace, drain)
    failed: list[BaseException] = []

    def stop() -> None:
        try:
            shutdown(server, *registrations, health=health, grace=grace, drain=drain)
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits for it
            failed.append(error)

    with OnSignal(stop, signals, hand_on=False):
        try:
            server.wait_for_termination()
        except KeyboardInterrupt:
            server.stop(0)
            raise
    if failed:
        raise failed[0]


async def aio_serve_until_signal(
    server: grpc.aio.Server,
    *registrations: Leaving,
    health: Any = None,
    grace: float = GRACE,
    drain: float = DRAIN,
    signals: Iterable[int] = STOP_SIGNALS,
) -> None:
    """Wait until the process is told to stop, then do what `aio_shutdown` does; as `serve_until_signal`."""
    _check(registrations, health, grace, drain)
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    with OnSignal(lambda: loop.call_soon_threadsafe(told.set), signals, hand_on=False):
        ends: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(server.wait_for_termination()),
            asyncio.ensure_future(told.wait()),
        }
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if told.is_set():
                await aio_shutdown(server, *registrations, health=health, grace=grace, drain=drain)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)


def _check(registrations: Iterable[object], health: object, grace: float, drain: float) -> None:
    check_leaving(registrations)
    checks.duration("grace", grace, zero=True)
    checks.duration("drain", drain, zero=True)
    if health is not None and not hasattr(health, "enter_graceful_shutdown"):
        raise ConfigError(f"health must be a health servicer, with enter_graceful_shutdown(), not {health!r}")
