"""Health checks by gRPC: ``grpc.health.v1.Health/Check``, on a stock channel for each endpoint.

The channel is one for blocking code whose calls report by callback: grpc.aio polls for all loops of a process, and the
worker's would disturb those of the program. The two messages are written and read here, because a process may hold one
description of each, and where grpcio-health-checking is installed it brings them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import Int32Value

from svcmesh.core.address import join_address, parse_address
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.policy.health.check import HealthCheck
from svcmesh.policy.health.finding import Unwell
from svcmesh.policy.health.kinds import GrpcHealthCheck
from svcmesh.transport.grpc.channels import EndpointChannel, sync_channel
from svcmesh.transport.grpc.method import Method
from svcmesh.transport.grpc.settings import AUTHORITY, TARGET_NAME, Settings

METHOD = "/grpc.health.v1.Health/Check"
_CHECK = Method("unary_unary", METHOD, None, None, True)

_STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_NO_ANSWER = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
"""Codes that the network may be to blame for; with any other the server has said that it cannot tell."""
_LONGEST = 200


class GrpcAsker:
    """Asks for the health of a service; see `Asker`.

    A channel is dropped with whatever goes wrong on it: the next check then finds out whether one can be made.
    """

    def __init__(self, config: HealthCheck, check: GrpcHealthCheck, service: str) -> None:
        if not isinstance(check.credentials, grpc.ChannelCredentials | None):
            raise ConfigError(
                f"credentials of a GrpcHealthCheck must be grpc.ChannelCredentials, not {check.credentials!r}"
            )
        names: tuple[tuple[str, str], ...] = () if check.authority is None else ((AUTHORITY, check.authority),)
        if check.authority is not None and check.credentials is not None:
            names += ((TARGET_NAME, check.authority.rpartition(":")[0] or check.authority),)
        self._settings = Settings.of(service, check.credentials, names, None)
        self._config = config
        self._metadata: Any = check.initial_metadata
        self._request = encoded(check.service_name)
        self._kept: dict[str, EndpointChannel] = {}

    async def ask(self, endpoint: Endpoint) -> bool:
        """Return when the endpoint says that it serves."""
        channel = self._kept.pop(endpoint.address, None) or sync_channel(self._settings, self._target(endpoint))
        well = False
        try:
            status = decoded(await self._answer(channel))
            if status != 1:
                raise Unwell(_STATUSES.get(status, f"status {status}"), answered=True)
            well = True
            return False  # gRPC has no word for one that is degraded
        finally:
            if well and self._config.reuse_connection:
                self._kept[endpoint.address] = channel
            else:
                channel.close()

    async def _answer(self, channel: EndpointChannel) -> bytes:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        call = channel.bound(_CHECK).future(self._request, timeout=self._config.timeout, metadata=self._metadata)

        def over(_: object) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(_set, done)

        call.add_done_callback(over)
        try:
            await done
        except asyncio.CancelledError:
            call.cancel()
            raise
        if call.code() is grpc.StatusCode.OK:
            answer: bytes = call.result()
            return answer
        raise self._why(call.code(), call.details() or "")

    def _why(self, code: grpc.StatusCode, details: str) -> Unwell:
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unwell(f"no answer within {self._config.timeout:g} s")
        if "Connection refused" in details and code is grpc.StatusCode.UNAVAILABLE:
            return Unwell("connection refused", refusing=self._config.alt_port is None)
        why = f"{code.name}: {details[:_LONGEST]}" if details else code.name
        return Unwell(why, answered=code not in _NO_ANSWER)

    def _target(self, endpoint: Endpoint) -> str:
        address = parse_address(endpoint.address)
        if self._config.alt_port is None or address.path is not None:
            return endpoint.address
        return join_address(address.host, self._config.alt_port)

    def forget(self, endpoint: Endpoint) -> None:
        """Close the channel to an endpoint that is no more."""
        channel = self._kept.pop(endpoint.address, None)
        if channel is not None:
            channel.close()

    def close(self) -> None:
        """Close all channels."""
        kept, self._kept = self._kept, {}
        for channel in kept.values():
            channel.close()


def encoded(service: str) -> bytes:
    """Return a ``HealthCheckRequest``: field 1, a string."""
    text = service.encode()
    if not text:
        return b""
    size, rest = b"", len(text)
    while rest > 127:
        size += bytes([rest & 127 | 128])
        rest >>= 7
    return b"\x0a" + size + bytes([rest]) + text


def decoded(message: bytes) -> int:
    """Return the status of a ``HealthCheckResponse``: field 1, a small number; 0 where it is left out.

    Raises:
        Unwell: it is none.
    """
    try:
        return Int32Value.FromString(message).value  # the same on the wire; what else a message has is passed over
    except DecodeError:
        raise Unwell(f"the answer is no HealthCheckResponse ({message[:20]!r})", answered=True) from None


def _set(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
