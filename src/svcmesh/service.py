"""A service as its callers hold it: one object per name, from which channels, clients and decorators are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from svcmesh.core import checks
from svcmesh.core.deadline import ambient_on
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import NoEndpoints
from svcmesh.core.here import LivesHere
from svcmesh.engine import refusal
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.news import await_until, block_until
from svcmesh.engine.peek import Peek
from svcmesh.engine.view import View
from svcmesh.policy.policy import Policy, check_policy
from svcmesh.transport.block import Block
from svcmesh.transport.functions import guarded

if TYPE_CHECKING:
    import grpc
    import httpx

P = ParamSpec("P")
R = TypeVar("R")


class Service(LivesHere):
    """One upstream service. Get it from `Mesh.service`; it keeps its mesh alive.

    Attributes:
        name: what it was asked for by. policy: what its calls go by.

    Threads: any; event loops: any number.
    """

    def __init__(self, mesh: object, cluster: Cluster, policy: Policy, *, yields: bool = False) -> None:
        self._mesh = mesh  # only to keep it alive
        self._cluster = cluster
        self.view = View(cluster, policy, yields=yields)
        self._peek = Peek(self.view)

    def __repr__(self) -> str:
        """Name the service and what is known of it; secrets have no place in it."""
        return f"<svcmesh.Service {self.name!r}, {len(self._cluster.offered)} endpoints>"

    @property
    def name(self) -> str:
        """What it was asked for by."""
        return self._cluster.name

    @property
    def policy(self) -> Policy:
        """What its calls go by: what the program says of this service, else what discovery says, else the mesh's."""
        return self.view.current.policy

    def with_policy(self, policy: Policy) -> Service:
        """Return the same service under another policy: endpoints, counts and health are shared.

        Ejections, breakers and budgets are shared between policies that have equal settings for them.

        Raises:
            ConfigError: ``policy`` is no Policy.
        """
        return Service(self._mesh, self._cluster, check_policy(policy))

    # -- endpoints -------------------------------------------------------------------------------------------------

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What discovery offers now: healthy, degraded and warning ones, whether ejected or not. Never waits."""
        self._cluster.need()
        return self._cluster.offered

    def pick(self, key: int | None = None) -> Endpoint:
        """Return an endpoint that a call would go to now. It is a peek: nothing is counted, nothing waits.

        Nor does it take the turn of a call, so that the next call need not go to the same one.

        Raises:
            NoEndpoints: none is known yet, none may take traffic, or the mesh has been closed.
        """
        if self._cluster.runtime.closed:
            raise refusal.no_endpoints(self._cluster)
        self._cluster.picked = True  # before checks begin, which ask at the end of the first one whether anybody calls
        self._cluster.need()
        view, peek = self.view.current, self._peek
        if peek.view is not view:
            peek = self._peek = Peek(view)
        cell = peek.choose(checks.hashed("key", key))
        if cell is None and self._cluster.ready:
            raise refusal.none_to_pick(view, self._cluster.runtime.clock.now())
        if cell is None:
            raise NoEndpoints(f"service {self.name!r} has no endpoint to pick now; wait_ready(timeout) waits for one")
        return cell.endpoint

    def wait_ready(self, timeout: float) -> None:
        """Block until a snapshot with at least one endpoint is in force; dials nothing, but lets health checks begin.

        Args:
            timeout: seconds to wait at most, at least 0; an ambient `deadline` that ends sooner shortens it.

        Raises:
            NoEndpoints: there was none in time, or the mesh is closed; the message says why.
            ConfigError: no timeout, or a negative or non-finite one.
        """
        until, seconds = self._patience(timeout)
        if not block_until(self._cluster, self._is_ready, until):
            raise self._not_ready(seconds)

    async def wait_ready_async(self, timeout: float) -> None:
        """Await what `wait_ready` blocks for; the same arguments and errors."""
        until, seconds = self._patience(timeout)
        if not await await_until(self._cluster, self._is_ready, until):
            raise self._not_ready(seconds)

    def _is_ready(self) -> bool:
        if self._cluster.runtime.closed:
            raise refusal.no_endpoints(self._cluster)
        return bool(self.endpoints)

    def _patience(self, timeout: float) -> tuple[float, float]:
        """Return until when to wait, and how many seconds that is."""
        clock = self._cluster.runtime.clock
        now = clock.now()
        until, ambient = now + checks.duration("timeout", timeout, zero=True), ambient_on(clock)
        until = until if ambient is None else max(now, min(until, ambient))
        return until, until - now

    def _not_ready(self, seconds: float) -> NoEndpoints:
        listed = "discovery calls all of them unhealthy" if self._cluster.members else "discovery lists none"
        why = listed if self._cluster.ready else "discovery has not answered"
        failure = f"; discovery fails: {self._cluster.failure}" if self._cluster.failure else ""
        advice = "" if self._cluster.ready else self._cluster.advice
        return NoEndpoints(f"service {self.name!r} had no endpoint after {seconds:.3g} s: {why}{failure}{advice}")

    # -- functions and own protocols -------------------------------------------------------------------------------

    @overload
    def guard(self, fn: Callable[P, R]) -> Callable[P, R]: ...

    @overload
    def guard(
        self, fn: None = None, *, idempotent: bool = False, policy: Policy | None = None
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def guard(self, fn: Any = None, *, idempotent: bool = False, policy: Policy | None = None) -> Any:
        """Decorate an outbound call, plain or ``async``, function or method; its signature stays.

        Each attempt goes to an endpoint of this service. A parameter declared as ``endpoint: Endpoint = PICKED`` is
        filled with it. Inside, `remaining` says how long the attempt may take; a coroutine is cancelled then, a
        plain function cannot be: a late result of it is returned, and a failure after the end of the whole call's
        time is not retried. A refused connect that the function raises is taken for that of its one outbound call,
        which was then surely not sent: a function that does more than one thing should guard them one by one.

        Args:
            idempotent: it may be repeated although it may have been executed.
            policy: another policy than the service's.

        Raises:
            ConfigError: when decorating: no function, a generator function, or an ``endpoint`` parameter without
                that default. When calling: a plain function returned a coroutine (a lambda around one, say), which it
                is asked about until it has once returned something else; write it as ``async def``.
            TypeError: when calling: arguments that the function does not take, or an ``endpoint``. That is not
                repeated, and counts neither for nor against anybody.
            NoEndpoints, CircuitOpen, DeadlineExceeded: when calling: svcmesh refused. What the function itself raises
                comes through unchanged.
        """
        view = self.view if policy is None else View(self._cluster, check_policy(policy))
        safe = checks.flag("idempotent", idempotent) or view.policy.idempotent is True

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            return _keeping(guarded(function, view, idempotent=safe), self)

        return decorate if fn is None else decorate(fn)

    def attempt(self, key: int | None = None) -> Block:
        """Return a ``with`` / ``async with`` block that is one attempt, for protocols of your own.

        Its ``endpoint`` says where to connect. It counts as in flight until the block ends, and an exception that
        leaves the block counts as its outcome; it is never repeated. Only the end of the block ends the count, so use
        it in a ``with``, or enter it into a `contextlib.ExitStack`: entered by hand and dropped, it counts for ever.

        Args:
            key: hash of what the call is about, for balancers with affinity.
        """
        return Block(self.view.current, checks.hashed("key", key), keep=self)

    # -- gRPC ------------------------------------------------------------------------------------------------------

    def grpc_channel(
        self,
        credentials: grpc.ChannelCredentials | None = None,
        options: Any = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.Channel:
        """Return a `grpc.Channel` to this service, for stubs; arguments as of the stock channels, None for insecure.

        Closing it closes neither the service nor other channels.
        """
        from svcmesh.transport.grpc.channel import MeshChannel

        return MeshChannel(self, credentials, options, compression)

    def grpc_aio_channel(
        self,
        credentials: grpc.ChannelCredentials | None = None,
        options: Any = None,
        compression: grpc.Compression | None = None,
        interceptors: Any = None,
    ) -> grpc.aio.Channel:
        """Return a `grpc.aio.Channel` to this service; arguments as of the stock channels, None for insecure."""
        from svcmesh.transport.grpc.aio.channel import MeshAioChannel

        return MeshAioChannel(self, credentials, options, compression, interceptors)

    # -- HTTP ------------------------------------------------------------------------------------------------------

    def http_client(self, **kwargs: Any) -> httpx.Client:
        """Return a stock `httpx.Client` with base_url ``http://<name>``; ``kwargs`` are httpx's.

        Of ``limits``, ``max_connections`` (1000) holds for this client and all endpoints together, and
        ``max_keepalive_connections`` (100) for each endpoint; counted apart for each scheme, port and server name.
        """
        from svcmesh.transport.http.client import client

        return client(self, kwargs)

    def http_async_client(self, **kwargs: Any) -> httpx.AsyncClient:
        """Return a stock `httpx.AsyncClient` with base_url ``http://<name>``; ``kwargs`` are httpx's.

        One client serves any number of asyncio loops; each has connections of its own, and ``limits`` count them apart.
        """
        from svcmesh.transport.http.client import async_client

        return async_client(self, kwargs)

    def http_transport(self, *, inner: httpx.BaseTransport | None = None, **kwargs: Any) -> httpx.BaseTransport:
        """Return a transport for an `httpx.Client`; ``kwargs`` are those of `httpx.HTTPTransport`.

        Args:
            inner: send through this transport instead of our own connections. It gets the logical URL, and the
                endpoint in ``request.extensions["svcmesh.endpoint"]``.
        """
        from svcmesh.transport.http.client import service_transport

        return service_transport(self, inner, kwargs)

    def http_async_transport(
        self, *, inner: httpx.AsyncBaseTransport | None = None, **kwargs: Any
    ) -> httpx.AsyncBaseTransport:
        """Return a transport for an `httpx.AsyncClient`; as `http_transport`."""
        from svcmesh.transport.http.client import async_service_transport

        return async_service_transport(self, inner, kwargs)


def _keeping(function: Callable[P, R], service: Service) -> Callable[P, R]:
    """Let ``function`` keep its service, and so its mesh, alive."""
    cast("Any", function).__svcmesh_service__ = service
    return function
