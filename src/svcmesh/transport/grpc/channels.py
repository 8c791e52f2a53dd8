"""One stock channel per endpoint, made at the first call that goes there and closed away from the calls.

A mesh channel is many stock channels that share their settings. They live with the endpoints: when an endpoint
leaves, the engine closes what it holds, and when the mesh channel is closed, or nobody refers to it any more, it
takes its own back. Each stock channel keeps its multicallables, because making one costs as much as a tenth of an
RPC.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any

import grpc
import grpc.experimental

from svcmesh.engine.cluster import Cluster
from svcmesh.engine.member import Closable, Member
from svcmesh.engine.view import View
from svcmesh.transport.grpc.connectivity import state_of
from svcmesh.transport.grpc.method import Method
from svcmesh.transport.grpc.outcome import CHANNEL_CLOSED
from svcmesh.transport.grpc.rotation import RotatingCredentials, Rotation
from svcmesh.transport.grpc.settings import Settings, target
from svcmesh.transport.grpc.unsent import names, never_connected

_OPTIONS: Any = grpc.experimental.ChannelOptions  # pyright: ignore[reportAttributeAccessIssue]  # not in its stubs
SINGLE_THREADED = _OPTIONS.SingleThreadedUnaryStream
MOST_METHODS = 1024
"""Multicallables kept per endpoint; callers may pass fresh lambdas as serializers each time."""
HEAD_START = 0.25
"""Seconds that an endpoint has to connect before another one is dialled beside it (gRFC A61's delay)."""
_HOPEFUL = {grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING}
LONGEST_RETIREMENT = 600.0
"""Seconds for which a channel with old credentials is kept in reach of `close` although its endpoint is never idle."""

Wrap = Callable[[Method, Any], Any]
"""Return what stands for a stock multicallable of a method."""


class EndpointChannel:
    """A stock channel to one endpoint with its multicallables, each in what ``wrap`` makes of it. Threads: any."""

    __slots__ = ("_bound", "_closed", "_lock", "_wrap", "channel")

    def __init__(self, channel: Any, wrap: Wrap | None = None) -> None:
        self.channel = channel
        self._wrap = wrap
        self._bound: dict[Method, Any] = {}
        self._lock = Lock()
        self._closed = False

    def bound(self, method: Method) -> Any:
        """Return the stock multicallable for ``method``. Cost: one dictionary hit, after the first time.

        Raises:
            ValueError: it would have to be made, and the channel is closed; grpcio 1.85 would crash the process.
        """
        found = self._bound.get(method)
        if found is None:
            with self._lock:  # making handles of registered methods is not thread-safe
                if self._closed:
                    raise ValueError(CHANNEL_CLOSED)
                found = method.bind(self.channel)
                if self._wrap is not None:
                    found = self._wrap(method, found)
                if len(self._bound) >= MOST_METHODS:
                    self._bound.clear()
                self._bound[method] = found
        return found

    def retire(self) -> None:
        """Let go of the channel: nothing is to be done, since the calls on it keep it alive."""

    def renew(self) -> bool:
        """Return whether the channel waits out its back-off. Only calls on a connection that it had are under way."""
        return self.state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE

    def state(self) -> grpc.ChannelConnectivity:
        """Return the state of the channel."""
        return state_of(self.channel, try_to_connect=False)

    def close(self) -> None:
        """Close the channel; what still runs on it ends CANCELLED."""
        with self._lock:
            self._closed = True
        self.channel.close()


class Dialer:
    """The endpoint channels of one mesh channel. Multicallables and calls refer to it, so it outlives the channel.

    Attributes:
        closing: no call begins any more. closed: no channel is handed out any more.
        pins: calls to be kept alive until they are over.

    Args:
        cluster: the service. settings: for all its channels.
        make: turns settings and an endpoint's address into what is kept per endpoint.
        owner: kept alive along with it: the mesh.
    """

    def __init__(
        self, cluster: Cluster, settings: Settings, make: Callable[[Settings, str], Closable], owner: object = None
    ) -> None:
        self.cluster = cluster
        self.settings = settings
        self.closing = self.closed = False
        self.single_threaded = any(name == SINGLE_THREADED for name, _ in settings.options)
        self._make = make
        self._owner = owner
        self.pins: set[Any] = set()
        self._retired: list[tuple[Member, Any, float]] = []
        self._key = object()
        self._next_dial = 0.0
        if isinstance(settings.credentials, RotatingCredentials):
            rotation = Rotation(settings.credentials, cluster, _replacing(weakref.ref(self)))
            self._make = partial(_making, make, rotation)
        finalizer = weakref.finalize(self, _forget, cluster, self._key)
        finalizer.atexit = False  # the interpreter is going down, and the connections with it

    def channel(self, member: Member) -> Any:
        """Return what is kept for ``member``, made now if need be.

        Raises:
            ValueError: the mesh channel is closed, in the words of the stock channel.
        """
        found = member.attached(self._key)
        return self._made(member) if found is None or self.closed else found

    def _made(self, member: Member) -> Any:
        self.refuse_closed()
        found = member.attachment(self._key, partial(self._make, self.settings, member.endpoint.address))
        if self.closed:  # closed by another thread meanwhile, which may have looked before ours was there
            self.close()
            raise ValueError(CHANNEL_CLOSED)
        return found

    def refuse_closed(self) -> None:
        """Raise what the stock channel raises at a call after `close`."""
        if self.closed:
            raise ValueError(CHANNEL_CLOSED)

    def unconnected(self, member: Member, details: str, *, patient: bool) -> bool:
        """Return whether gRPC itself, and no server, says by ``details`` that ``member`` cannot be connected to."""
        kept: Any = member.attached(self._key)
        address = member.endpoint.address
        return kept is not None and (
            names(details, address) if patient else never_connected(details, address, kept.state())
        )

    def dial_more(self, view: View, state: Callable[[Any], grpc.ChannelConnectivity | None]) -> Any:
        """Return what is kept for one more endpoint, made now, while somebody waits for a connection; None for none.

        That is while nothing is connected, nor about to be. What is about to be has `HEAD_START` before the next
        endpoint is dialled beside it, as addresses of one server have with gRPC; in all, as many as there are.

        Args:
            view: chooses. state: of what is kept; None where it is not for this caller (another loop's).
        """
        kept = {member: state(found) for member, found in self._attached()}
        states, now = set(kept.values()), view.clock.now()
        if grpc.ChannelConnectivity.READY in states:
            self._next_dial = now + HEAD_START
            return None
        if not states.isdisjoint(_HOPEFUL) and now < self._next_dial:
            return None
        if not self.cluster.ready:
            self.cluster.need()
        there = [member.endpoint for member, found in kept.items() if found is not None]
        member = view.picker.choose_from(None, there)
        if not isinstance(member, Member) or member.endpoint in there:
            return None
        self._next_dial = now + HEAD_START
        return self.channel(member)

    def kept(self) -> list[Any]:
        """Return what is kept now, for all endpoints that were called."""
        return [found for _, found in self._attached()]

    def _attached(self) -> list[tuple[Member, Any]]:
        members = _members(self.cluster)
        return [(member, found) for member in members if (found := member.attached(self._key)) is not None]

    def retire(self, now: float) -> None:
        """Put all endpoint channels aside: calls on them go on, and end CANCELLED at `close`; new ones get new ones."""
        for member in _members(self.cluster):
            self._retired.extend((member, found, now + LONGEST_RETIREMENT) for found in member.detach(self._key))
        if self.closed:  # closed by another thread meanwhile
            self.close()

    def let_go(self, now: float) -> None:
        """Drop what was put aside and is idle, or has been there for long: it ends with the last call on it."""
        for entry in list(self._retired):
            member, found, until = entry
            if member.in_flight == 0 or now >= until:
                self._retired.remove(entry)
                found.retire()

    def close(self) -> None:
        """Close all endpoint channels; harmless when closed."""
        for found in self.taken():
            found.close()

    def taken(self) -> list[Any]:
        """Refuse new channels and take back all there are, to be closed by the caller."""
        self.closing = self.closed = True
        retired, self._retired = self._retired, []
        current = [found for member in _members(self.cluster) for found in member.detach(self._key)]
        return [*current, *(found for _, found, _ in retired)]


def sync_channel(settings: Settings, address: str, wrap: Wrap | None = None) -> EndpointChannel:
    """Return a new stock channel to ``address``. Nothing is dialled before the first call."""
    where, options, compression = target(address), settings.arguments, settings.compression
    credentials = settings.channel_credentials
    if credentials is None:
        return EndpointChannel(grpc.insecure_channel(where, options, compression), wrap)
    return EndpointChannel(grpc.secure_channel(where, credentials, options, compression), wrap)


def _making(
    make: Callable[[Settings, str], Closable], rotation: Rotation, settings: Settings, address: str
) -> Closable:
    rotation.start()
    return make(settings, address)


def _replacing(find: Callable[[], Dialer | None]) -> Callable[[bool, float], bool]:
    def replace(changed: bool, now: float) -> bool:
        dialer = find()
        if dialer is None or dialer.closed:
            return False
        if changed:
            dialer.retire(now)
        dialer.let_go(now)
        return True

    return replace


def _members(cluster: Cluster) -> list[Member]:
    with cluster.lock:
        return [*cluster.members.values(), *cluster.draining]


def _forget(cluster: Cluster, key: object) -> None:
    """Drop what is kept under ``key``; stock channels close themselves when nobody refers to them.

    Runs in the garbage collector, at any point of any thread, and so takes no lock.
    """
    for member in [*list(cluster.members.values()), *list(cluster.draining)]:
        member.detach(key)
