"""This process as an instance of a service: announced, kept alive, drained and taken back."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from threading import Lock
from types import TracebackType
from typing import Any, Self

from svcmesh.core import checks
from svcmesh.core.address import join_address, parse_address, parse_port
from svcmesh.core.clock import SYSTEM, wait_for
from svcmesh.core.endpoint import Locality
from svcmesh.core.errors import ConfigError
from svcmesh.core.loop import running_loop
from svcmesh.core.wakeup import wakeup
from svcmesh.discovery.announced import LONGEST_TTL, check_locality, check_size, text_by_text, texts
from svcmesh.discovery.base import Announcement, Discovery, Particular, Registrar
from svcmesh.discovery.local.registry import LocalRegistry
from svcmesh.discovery.names import quote_name
from svcmesh.engine.registration import LONGEST_LEAVE, Announcer
from svcmesh.engine.runtime import Runtime

DRAIN = 1.0
"""Seconds between telling callers to stay away and deregistering: the time in which they see it."""


class Registration:
    """What `Mesh.register` returns; leave by `deregister`, or at the end of a ``with`` or ``async with`` block.

    It belongs to the process that made it: a forked child neither heartbeats nor leaves. Threads: any.
    """

    def __init__(self, mesh: object, runtime: Runtime, announcer: Announcer) -> None:
        self._mesh = mesh  # only to keep it alive
        self._runtime = runtime
        self._announcer = announcer
        self._pid = os.getpid()
        self._lock = Lock()
        self._leaving: Future[bool] | None = None
        self._leave_by = 0.0
        self._running: Future[None] | None = runtime.worker.submit(announcer.run())  # kept: loops hold tasks weakly

    @property
    def id(self) -> str:
        """What it is registered as."""
        return self._announcer.announcement.id

    @property
    def address(self) -> str:
        """What others dial."""
        return self._announcer.announcement.address

    @property
    def registered(self) -> bool:
        """Whether the registry has it, as far as is known."""
        return self._announcer.registered and os.getpid() == self._pid

    def drain(self) -> None:
        """Ask callers to send nothing new, while calls in flight are finished; it stays registered. Does not wait."""
        if self._is_mine():
            self._runtime.worker.submit(self._announcer.drain())

    @property
    def left(self) -> bool:
        """Whether it has been told to leave."""
        return self._leaving is not None

    def begin_to_leave(self) -> None:
        """Drain and leave in the background."""
        self._leave()

    def deregister(self) -> None:
        """Drain and leave; returns when the registry knows: within 5 s, or 2 s when the registry is down.

        In a listener, which the mesh's own thread may call, it returns at once there and leaves in the background. A
        wait that is interrupted, or cancelled at the end of an ``async with`` block, does not end the leaving.
        """
        leaving = self._leave()
        if leaving is not None and not self._runtime.worker.current:
            wait([leaving], max(0.0, self._leave_by - SYSTEM.now()))
            _raise_error_of(leaving)

    def __enter__(self) -> Self:
        """Return the registration."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain and leave."""
        self.deregister()

    async def __aenter__(self) -> Self:
        """Return the registration; refuse here what could not be awaited in the end."""
        running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain and leave, without blocking the event loop."""
        leaving = self._leave()
        if leaving is not None:
            await _ended(leaving, self._leave_by)
            _raise_error_of(leaving)

    def _leave(self) -> Future[bool] | None:
        if not self._is_mine():
            return None
        with self._lock:
            if self._leaving is None:
                self._leave_by = SYSTEM.now() + LONGEST_LEAVE
                self._leaving = self._runtime.worker.submit(self._announcer.leave(DRAIN))
            return self._leaving

    def _is_mine(self) -> bool:
        return os.getpid() == self._pid


async def _ended(leaving: Future[bool], until: float) -> None:
    """Await the end of ``leaving``, at most to ``until``; it goes on when the caller is cancelled."""
    ended, tell = wakeup()
    leaving.add_done_callback(tell)
    await wait_for(SYSTEM, ended, until)


def _raise_error_of(leaving: Future[bool]) -> None:
    """Raise what leaving raised; where it is not done somebody's listener holds the worker, and the TTL will do it."""
    if leaving.done() and not leaving.cancelled():
        leaving.result()


_EVERYWHERE = {"", "0.0.0.0", "::", "[::]"}  # noqa: S104 - refused


def announce(
    mesh: object,
    runtime: Runtime,
    discovery: Discovery,
    *,
    name: str,
    port: int,
    host: str | None,
    id: str | None,  # noqa: A002 - the registries' word
    tags: Sequence[str],
    meta: Mapping[str, str] | None,
    weight: float,
    locality: Locality | None,
    ttl: float,
    check: Any,
) -> Registration:
    """Check what is to be announced, and start announcing it.

    Raises:
        ConfigError: see `Mesh.register`.
    """
    if not isinstance(discovery, Registrar):
        raise ConfigError(
            f"nothing can be registered with {type(discovery).__name__}: use a registry such as local://, or uri="
        )
    quote_name("name", name)
    if checks.number("weight", weight) < 0:
        raise ConfigError(f"weight must be at least 0, not {weight!r}")
    if not 0 < checks.number("ttl", ttl) <= LONGEST_TTL:
        raise ConfigError(f"ttl must be more than 0 and at most {LONGEST_TTL:g} seconds, not {ttl!r}")
    check_locality(locality)
    address = _address(discovery, host, port)
    announcement = Announcement(
        name,
        _identity(id, name, address),
        address,
        tags=texts("tags", tags),
        meta=text_by_text("meta", meta),
        weight=weight,
        locality=locality,
        ttl=ttl,
        check=check,
    )
    check_size(announcement)
    if isinstance(discovery, Particular):
        discovery.check_announcement(announcement)
    announcer = Announcer(discovery, announcement, clock=runtime.clock, rng=runtime.rng, emit=runtime.events.emit)
    return Registration(mesh, runtime, announcer)


def _address(discovery: Discovery, host: str | None, port: int) -> str:
    """Return what others dial."""
    if not isinstance(host, str | None):
        raise ConfigError(f"host must be a string, not {host!r}")
    if host in _EVERYWHERE:
        raise ConfigError(
            f"host {host!r} is where one listens, not where others dial: leave it out, or give an address"
        )
    host = _own_host(discovery) if host is None else host
    address = join_address(host, parse_port(port, f"{host}:{port}"))
    parse_address(address)
    return address


def _identity(given: str | None, name: str, address: str) -> str:
    """Return what it is registered as: the id that was given, or else one that no other instance has."""
    if given is None or given == "":
        given = f"{name}-{address.replace('[', '').replace(']', '')}-{os.getpid()}"
    quote_name("id", given)
    return given


def _own_host(discovery: Discovery) -> str:
    """Return the address that other machines reach, or loopback where only this machine looks."""
    if isinstance(discovery, LocalRegistry):
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737, never reached: connecting a datagram socket sends nothing
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
