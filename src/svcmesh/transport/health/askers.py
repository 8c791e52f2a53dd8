"""Which way of asking a health check wants. Libraries are loaded by the way that needs them."""

from __future__ import annotations

from svcmesh.core.errors import ConfigError
from svcmesh.policy.health.check import HealthCheck
from svcmesh.policy.health.finding import Asker


def asker(config: HealthCheck, service: str) -> Asker:
    """Return what asks the endpoints of ``service``; nothing is dialled here.

    Raises:
        ConfigError: it is gRPC that is to be asked by, and grpcio is not installed, or the credentials are none.
    """
    if config.http_health_check is not None:
        from svcmesh.transport.health.http import HttpAsker

        return HttpAsker(config, config.http_health_check, service)
    if config.tcp_health_check is not None:
        from svcmesh.transport.health.tcp import TcpAsker

        return TcpAsker(config, config.tcp_health_check, service)
    if config.grpc_health_check is not None:
        try:
            from svcmesh.transport.health.grpc import GrpcAsker
        except ImportError as error:
            raise ConfigError(f"grpc_health_check needs grpcio: {error}") from None
        return GrpcAsker(config, config.grpc_health_check, service)
    from svcmesh.transport.health.function import FunctionAsker

    return FunctionAsker(config)
