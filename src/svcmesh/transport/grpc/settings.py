"""How the channels to single endpoints are set up, so that the mesh above them decides and they obey.

Each reason is measured (grpcio 1.85): a connection must belong to one endpoint of one channel alone, or an ejected
endpoint lives on in another client; dialling must fail fast and be tried again soon, or a server that came back waits
two minutes for its traffic; and a policy that DNS delivers, or a proxy that the environment names, is not ours.
gRPC's transparent retries stay on: without them connections that age produce errors. What the user sets wins.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

import grpc

from svcmesh.core.address import parse_address
from svcmesh.engine.view import View
from svcmesh.transport.grpc.rotation import RotatingCredentials

AUTHORITY = "grpc.default_authority"
TARGET_NAME = "grpc.ssl_target_name_override"

DEFAULTS: tuple[tuple[str, Any], ...] = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.min_reconnect_backoff_ms", 1500),  # this is the connect timeout
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
)


class Target(Protocol):
    """What a channel needs of the service it is for."""

    @property
    def name(self) -> str:
        """What the service was asked for by."""

    @property
    def view(self) -> View:
        """The service under a policy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What all endpoint channels of one mesh channel have in common.

    Attributes:
        authority: name of the service: ``:authority``, SNI and the name that a certificate must have.
        credentials: for TLS; None for plain text. options: the user's channel arguments. compression: gRPC's enum.
    """

    authority: str
    credentials: grpc.ChannelCredentials | None = None
    options: tuple[tuple[str, Any], ...] = ()
    compression: grpc.Compression | None = None

    @classmethod
    def of(
        cls,
        service: str,
        credentials: grpc.ChannelCredentials | None,
        options: Any,
        compression: grpc.Compression | None,
    ) -> Settings:
        """Return the settings for a channel to ``service`` from what a user gave for it.

        Raises:
            TypeError: ``options`` is no collection of pairs.
        """
        return cls(authority(service), credentials, tuple(options or ()), compression)

    @property
    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """Stock credentials for one more channel; None for plain text."""
        given = self.credentials
        return given.made() if isinstance(given, RotatingCredentials) else given

    @property
    def arguments(self) -> list[tuple[str, Any]]:
        """The user's channel arguments with our defaults for what they leave open."""
        given = {option[0] for option in self.options}
        arguments = [option for option in DEFAULTS if option[0] not in given]
        if not given & {AUTHORITY, TARGET_NAME}:
            arguments.append((AUTHORITY, self.authority))
        return [*arguments, *self.options]


def authority(service: str) -> str:
    """Return the authority that stands for a service: its name, or of a URI the part that names the service."""
    _, scheme, rest = service.rpartition("://")
    if scheme:
        where, _, path = rest.partition("?")[0].partition("/")
        service = path.rpartition("/")[2] or where.partition(",")[0]
    return quote(service, safe=":[]._-~") or "service"


def target(address: str) -> str:
    """Return gRPC's name for an endpoint's address. IP addresses and sockets involve no resolver."""
    parsed = parse_address(address)
    if parsed.path is not None:
        return f"unix:{parsed.path}"
    if not parsed.is_ip:
        return f"dns:{address}"
    scheme = f"ipv{ipaddress.ip_address(parsed.host).version}"
    return f"{scheme}:{address.replace('%', '%25')}"
