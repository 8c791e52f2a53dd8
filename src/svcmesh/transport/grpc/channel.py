"""The sync channel of a service: a `grpc.Channel` whose every call goes to the endpoint that is best for it.

Generated stubs, interceptors and the generic API see a stock channel. Underneath is one stock channel per
endpoint; nothing is dialled before the first call.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import grpc

from svcmesh.core.here import LivesHere
from svcmesh.transport.grpc.channels import Dialer, EndpointChannel, sync_channel
from svcmesh.transport.grpc.connectivity import Callback, Subscriptions, aggregate, state_of
from svcmesh.transport.grpc.line import Line
from svcmesh.transport.grpc.method import REGISTERED, Kind, Method, Transform
from svcmesh.transport.grpc.multicallables import Multicallables
from svcmesh.transport.grpc.reports import reporting, wrapped
from svcmesh.transport.grpc.settings import Settings, Target
from svcmesh.transport.grpc.stream import StreamStream, UnaryStream
from svcmesh.transport.grpc.unary import StreamUnary, UnaryUnary
from svcmesh.transport.grpc.wrong_settings import refuse_wrong

_CLASSES: dict[Kind, Any] = {
    "unary_unary": UnaryUnary,
    "unary_stream": UnaryStream,
    "stream_unary": StreamUnary,
    "stream_stream": StreamStream,
}


class MeshChannel(LivesHere, grpc.Channel):
    """A channel to a service.

    Args:
        service: whom it goes to; kept alive as long as the channel, its multicallables and its calls are.
        credentials, options, compression: as the stock channels take them; None for plain text.

    Raises:
        TypeError, ValueError, AttributeError: settings that the stock channel would refuse, in its own words.

    Threads: any.
    """

    def __init__(
        self,
        service: Target,
        credentials: grpc.ChannelCredentials | None = None,
        options: Any = None,
        compression: grpc.Compression | None = None,
    ) -> None:
        settings = Settings.of(service.name, credentials, options, compression)
        refuse_wrong(settings)
        self._view = service.view
        self._dialer = Dialer(service.view.cluster, settings, reporting(service.view, sync_channel, wrapped), service)
        self._multicallables = Multicallables()
        self._subscriptions = Subscriptions(self._state)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def unary_unary(
        self,
        method: Any,
        request_serializer: Transform | None = None,
        response_deserializer: Transform | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a callable for a method with one request and one response."""
        return self._multicallable("unary_unary", method, request_serializer, response_deserializer, _registered_method)

    def unary_stream(
        self,
        method: Any,
        request_serializer: Transform | None = None,
        response_deserializer: Transform | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a callable for a method with one request and streamed responses."""
        return self._multicallable(
            "unary_stream", method, request_serializer, response_deserializer, _registered_method
        )

    def stream_unary(
        self,
        method: Any,
        request_serializer: Transform | None = None,
        response_deserializer: Transform | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a callable for a method with streamed requests and one response."""
        return self._multicallable(
            "stream_unary", method, request_serializer, response_deserializer, _registered_method
        )

    def stream_stream(
        self,
        method: Any,
        request_serializer: Transform | None = None,
        response_deserializer: Transform | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a callable for a method with streamed requests and streamed responses."""
        return self._multicallable(
            "stream_stream", method, request_serializer, response_deserializer, _registered_method
        )

    def _get_registered_call_handle(self, method: str) -> int:
        """Return what may be passed as ``_registered_method``; gRPC's own stubs ask for it before they call."""
        return REGISTERED

    def _multicallable(self, *key: Any) -> Any:
        """Return the callable for ``key``; interceptors ask for it on every call, so it is kept."""
        return self._multicallables.get(key, self._made)

    def _made(self, key: tuple[Any, ...]) -> Any:
        return _CLASSES[key[0]](Line(self._view, self._dialer, Method(*key)))

    # -- state ---------------------------------------------------------------------------------------------------------

    def subscribe(self, callback: Callback, try_to_connect: bool | None = False) -> None:
        """Report to ``callback`` the best state that any endpoint's connection has, now and when it changes."""
        self._subscriptions.add(callback, try_to_connect)

    def unsubscribe(self, callback: Callback) -> None:
        """Stop reporting to ``callback``."""
        self._subscriptions.remove(callback)

    def _state(self, try_to_connect: bool) -> grpc.ChannelConnectivity:
        if self._dialer.closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        if try_to_connect:
            self._dialer.dial_more(self._view, EndpointChannel.state)
        return aggregate(state_of(kept.channel, try_to_connect) for kept in self._dialer.kept())

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections to all endpoints: running calls end CANCELLED, new ones are refused. Twice is fine."""
        self._subscriptions.clear()
        self._dialer.close()
        self._view.cluster.wake()  # those that wait, for an endpoint or for their next attempt, end like the others

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the channel."""
        self.close()
