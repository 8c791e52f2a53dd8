"""httpx clients and transports for services: httpx's own arguments, sorted into those that are now ours to apply.

A client that is given a transport ignores ``verify``, ``cert``, ``http1``, ``http2``, ``limits`` and ``trust_env``
without a word, so they are taken here and applied where the connections are made.
"""

from __future__ import annotations

from typing import Any

import httpx

from svcmesh.core.errors import ConfigError
from svcmesh.transport.http.async_transport import AsyncMeshTransport
from svcmesh.transport.http.connection.line import Dialing
from svcmesh.transport.http.library import adopted, adopted_async
from svcmesh.transport.http.route import MeshLike, Route, ServiceLike, ToMesh, ToService, host_of
from svcmesh.transport.http.transport import MeshTransport

_DIALING = ("verify", "cert", "trust_env", "http1", "http2", "limits", "local_address", "socket_options")

_REFUSED = {
    "proxy": "a proxy would choose the connection, which is the mesh's part; use a client of its own, or `mounts`",
    "uds": "endpoints say themselves where they listen: give them addresses such as 'unix:/run/app.sock'",
    "retries": "connecting is retried by the policy: Policy(retry=Retry(max_attempts=…))",
    "transport": "the client's transport is the mesh's; give yours as http_transport(inner=…)",
    "inner": "the client's transport is the mesh's; give yours as http_transport(inner=…)",
    "app": "the client's transport is the mesh's; give httpx.ASGITransport(app) as http_transport(inner=…)",
}


def client(service: ServiceLike, kwargs: dict[str, Any]) -> httpx.Client:
    """Return a stock client for a service, see `Service.http_client`."""
    dialing, rest = _sorted(kwargs)
    transport = service_transport(service, None, dialing)
    return httpx.Client(transport=transport, **_client_arguments(service, dialing, rest))


def async_client(service: ServiceLike, kwargs: dict[str, Any]) -> httpx.AsyncClient:
    """Return a stock asyncio client for a service, see `Service.http_async_client`."""
    dialing, rest = _sorted(kwargs)
    transport = async_service_transport(service, None, dialing)
    return httpx.AsyncClient(transport=transport, **_client_arguments(service, dialing, rest))


def service_transport(service: ServiceLike, inner: httpx.BaseTransport | None, kwargs: dict[str, Any]) -> MeshTransport:
    """Return a transport to one service, see `Service.http_transport`."""
    return _blocking(ToService(service), inner, kwargs)


def async_service_transport(
    service: ServiceLike, inner: httpx.AsyncBaseTransport | None, kwargs: dict[str, Any]
) -> AsyncMeshTransport:
    """Return an asyncio transport to one service, see `Service.http_async_transport`."""
    return _awaiting(ToService(service), inner, kwargs)


def mesh_transport(
    mesh: MeshLike, inner: httpx.BaseTransport | None, kwargs: dict[str, Any], *, passthrough: bool
) -> MeshTransport:
    """Return a transport to all services, see `Mesh.http_transport`."""
    return _blocking(ToMesh(mesh, passthrough=passthrough), inner, kwargs)


def async_mesh_transport(
    mesh: MeshLike, inner: httpx.AsyncBaseTransport | None, kwargs: dict[str, Any], *, passthrough: bool
) -> AsyncMeshTransport:
    """Return an asyncio transport to all services, see `Mesh.http_async_transport`."""
    return _awaiting(ToMesh(mesh, passthrough=passthrough), inner, kwargs)


def _blocking(route: Route, inner: httpx.BaseTransport | None, kwargs: dict[str, Any]) -> MeshTransport:
    return MeshTransport(route, _dialing(inner, kwargs), adopted(inner), kwargs)


def _awaiting(route: Route, inner: httpx.AsyncBaseTransport | None, kwargs: dict[str, Any]) -> AsyncMeshTransport:
    return AsyncMeshTransport(route, _dialing(inner, kwargs), adopted_async(inner), kwargs)


def _dialing(inner: object, kwargs: dict[str, Any]) -> Dialing:
    if inner is not None and kwargs:
        raise ConfigError(f"{', '.join(kwargs)}: set on the inner transport, which makes the connections")
    dialing, rest = _sorted(kwargs)
    if rest:
        raise ConfigError(f"{', '.join(rest)}: not an argument of httpx.HTTPTransport")
    return Dialing(**dialing)


def _sorted(kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is ours to apply, and the rest.

    Raises:
        ConfigError: something that makes no sense where the mesh makes the connections.
    """
    for name, why in _REFUSED.items():
        if kwargs.get(name):
            raise ConfigError(f"{name}=… is not possible here: {why}")  # not its value: a proxy's may be a secret
    given = {name: value for name, value in kwargs.items() if name not in _REFUSED}
    dialing = {name: given[name] for name in _DIALING if name in given}
    return dialing, {name: value for name, value in given.items() if name not in dialing}


def _client_arguments(service: ServiceLike, dialing: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    ours = httpx.URL(f"http://{host_of(service.name)}")
    base = httpx.URL(rest.setdefault("base_url", ours))
    if base.raw_host not in {b"", ours.raw_host}:
        raise ConfigError(
            f"base_url: the host {base.host!r} is not service {service.name!r}, to which all requests of this client "
            f"go: leave it out, or begin it with {str(ours)!r}"
        )
    if "trust_env" in dialing:  # for those who ask the client; with a transport of its own it reads nothing by it
        rest["trust_env"] = dialing["trust_env"]
    return rest
