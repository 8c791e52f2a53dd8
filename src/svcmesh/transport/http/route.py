"""Which service a URL means: its host is the name, its scheme and port must fit, all else is refused or passed on."""

from __future__ import annotations

import re
from typing import Protocol

import httpx

from svcmesh.core.errors import ConfigError, NoEndpoints
from svcmesh.engine.news import await_until, block_until
from svcmesh.engine.view import View
from svcmesh.transport.http.errors import as_httpx

_SCHEMES = frozenset({b"http", b"https", b"ws", b"wss"})
"""What httpcore speaks: a WebSocket begins as a request of HTTP/1.1."""

_NAME_IN_URI = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

_MOST_HOSTS = 256
"""Hosts that one transport remembers; each that the mesh did not know before is watched meanwhile."""


class ServiceLike(Protocol):
    """What the transports need of a service."""

    @property
    def name(self) -> str:
        """What others call it by."""

    @property
    def view(self) -> View:
        """What its calls go through."""


class MeshLike(Protocol):
    """What the transports need of a mesh."""

    def by_host(self, host: str, /) -> ServiceLike:
        """Return the service that the host of a URL names."""


class Route(Protocol):
    """Finds the service of a request."""

    @property
    def passthrough(self) -> bool:
        """Whether what no service serves goes to a plain transport."""

    def find(self, request: httpx.Request) -> View | None:
        """Return the view of the service that the URL's host names, or refuse; None where it is to be passed on."""

    def respelled(self, request: httpx.Request) -> bool:
        """Whether a host that nobody serves names another service by now; then `find` finds that."""


class ToService:
    """Everything goes to one service; a request for another host is refused, because it was meant for someone else."""

    passthrough = False

    def __init__(self, service: ServiceLike) -> None:
        self._service = service
        self._name = host_of(service.name)
        self._host = httpx.URL(f"http://{self._name}").raw_host
        self._view = service.view

    def respelled(self, request: httpx.Request) -> bool:
        """There is no other one, whatever is asked for."""
        return False

    def find(self, request: httpx.Request) -> View:
        """Return the service's view."""
        if request.url.raw_host == self._host and request.url.raw_scheme in _SCHEMES:
            return self._view.current
        check_scheme(request)
        error = NoEndpoints(
            f"this transport serves http://{self._name} only, not {request.url.scheme}://{request.url.host}: "
            "send other hosts through another client, or use mesh.http_transport(passthrough=True)"
        )
        raise as_httpx(error, request)


class ToMesh:
    """The host of a URL is the name of a service of the mesh."""

    def __init__(self, mesh: MeshLike, *, passthrough: bool) -> None:
        self.passthrough = passthrough
        self._mesh = mesh
        self._services: dict[bytes, ServiceLike] = {}

    def find(self, request: httpx.Request) -> View | None:
        """Return the view of the service that the host names."""
        service = self._services.get(request.url.raw_host)
        if service is None or request.url.raw_scheme not in _SCHEMES:
            if self.passthrough and request.url.raw_scheme not in _SCHEMES:
                return None  # what is not HTTP is not ours to judge
            check_scheme(request)
            service = self._by_host(request)
            if len(self._services) >= _MOST_HOSTS:
                self._services.clear()  # hosts may be anybody's: the mesh forgets those that only we referred to
            self._services[request.url.raw_host] = service
        return service.view.current

    def respelled(self, request: httpx.Request) -> bool:
        """Whether the host is now known to be another service than so far, one that is spelled in another case.

        Registries that were not asked yet, and services that came up since, were not known when it was looked for.
        """
        service = self._by_host(request)
        before, self._services[request.url.raw_host] = self._services.get(request.url.raw_host), service
        return service is not before

    def _by_host(self, request: httpx.Request) -> ServiceLike:
        try:
            return self._mesh.by_host(request.url.host)
        except NoEndpoints as error:
            raise as_httpx(error, request) from None


def check_scheme(request: httpx.Request) -> None:
    """Refuse what is not HTTP, in httpx's words.

    Raises:
        httpx.UnsupportedProtocol: no scheme, or another one.
    """
    scheme = request.url.scheme
    if not scheme:
        message = "Request URL is missing an 'http://' or 'https://' protocol."
        raise httpx.UnsupportedProtocol(message, request=request)
    if request.url.raw_scheme not in _SCHEMES:
        message = f"Request URL has an unsupported protocol '{scheme}://'."
        raise httpx.UnsupportedProtocol(message, request=request)


def await_snapshot(view: View, until: float) -> None:
    """Block until discovery has said something about the service, at most to the instant ``until``."""
    view.cluster.need()
    block_until(view.cluster, lambda: view.cluster.ready, until)


async def await_snapshot_async(view: View, until: float) -> None:
    """Await the same."""
    view.cluster.need()
    await await_until(view.cluster, lambda: view.cluster.ready, until)


def is_unknown(view: View) -> bool:
    """Whether discovery has answered, and knows nobody by that name."""
    return view.cluster.ready and not view.cluster.members


def on_port(view: View, request: httpx.Request, *, passthrough: bool) -> View | None:
    """Return the view of those endpoints that have the port in the URL; None: nobody has it, and it is passed on.

    httpx leaves out the port that a scheme has by default, so ``http://orders:80/`` asks for any port.

    Raises:
        NoEndpoints: nobody has it, and nothing is passed on; as httpx's ConnectError.
    """
    port = request.url.port
    ports = sorted({member.endpoint.port for member in view.cluster.members.values()})
    if not ports or ports == [port]:  # without endpoints, the call itself will say so
        return view
    if port in ports:
        return view.on_port(port)
    if passthrough:
        return None
    error = NoEndpoints(
        f"the URL asks for port {port} of service {view.cluster.name!r}, which none of its endpoints has: they "
        f"listen on {', '.join(map(str, ports))}. Leave the port out: http://{request.url.host}{request.url.path}"
    )
    raise as_httpx(error, request)


def host_of(name: str) -> str:
    """Return the host by which URLs name a service: its name, or what stands for it in a discovery URI.

    Raises:
        ConfigError: the name cannot be the host of a URL.
    """
    host = name
    if "://" in name:
        scheme, _, rest = name.partition("://")
        last = rest.partition("?")[0].rpartition("/")[2].partition(":")[0]
        host = last if _NAME_IN_URI.fullmatch(last) and "/" in rest else scheme
    host = f"[{host}]" if ":" in host else host
    try:
        url = httpx.URL(f"http://{host}/")
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.host != host.strip("[]").lower() and not url.raw_host.startswith(b"xn--"):
        raise ConfigError(f"service name {name!r} cannot be the host of a URL, so HTTP clients cannot be made for it")
    return host
