"""How gRPC makes an asyncio call, below its call objects and by names that are private to it.

A stock call object costs more than all that we do for a call: its channel keeps it weakly, with a callback for its end,
and its metadata are parsed and copied, although hardly a call is ever asked a question. So a plain call of ours is made
without one, which comes with the first question. Whether grpcio still makes its calls of the parts that are known here
is looked up; where it does not, or somebody else is to see the calls, they are made the public way. Messages of a
stream are read without gRPC's own generator, since there is one of ours already.
"""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from time import time
from typing import Any

import grpc.aio

from svcmesh.transport.grpc.lean import replaced

_calls: Any = sys.modules.get("grpc.aio._call")
_channels: Any = sys.modules.get("grpc.aio._channel")
_common: Any = sys.modules.get("grpc._common")
_cygrpc: Any = sys.modules.get("grpc._cython.cygrpc")

EOF: Any = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue]  # its stubs leave it out
"""What stands for the response of a call that has none."""
HANDLE = "registered_call_handle"
PARTS = [
    *("request", "deadline", "metadata", "credentials", "wait_for_ready", "channel", "method"),
    *("request_serializer", "response_deserializer", "loop"),
]
"""What a stock call is made of; since grpcio 1.84 of `HANDLE`, too."""


class LeanMethod:
    """A method of a stock channel, as the channel's own call objects use it. Threads: its loop's."""

    __slots__ = ("_begin", "_deserializer", "_handle", "_metadata", "_path", "_serializer")

    def __init__(self, stock: Any, serializer: Any) -> None:
        self._begin = stock._channel.call
        self._path = stock._method
        self._handle = (stock._registered_call_handle,) if HANDLE in _parts() else ()
        self._metadata = stock._init_metadata
        self._serializer = serializer
        self._deserializer = stock._response_deserializer

    def begun(self, timeout: float | None, credentials: Any) -> Any:
        """Return a call that has sent nothing yet; raises what the stock multicallable raises at once."""
        return self._begin(self._path, None if timeout is None else time() + timeout, credentials, None, *self._handle)

    def metadata(self, metadata: Any, compression: Any) -> tuple[Any, ...]:
        """Return what is to be sent for these; raises what the stock multicallable raises at once."""
        return tuple(self._metadata(metadata, compression))

    def request(self, message: Any) -> Any:
        """Return what is sent of a message; None, and an entry in gRPC's log, where that cannot be made."""
        return _common.serialize(message, self._serializer)

    def answer(self, begun: Any, request: Any, metadata: tuple[Any, ...]) -> Any:
        """Return what sends the request and is awaited for the response."""
        return begun.unary_unary(request, metadata, _cygrpc.build_census_context())

    def response(self, answer: Any) -> Any:
        """Return the message that has come; None, and an entry in gRPC's log, where it cannot be read."""
        return _common.deserialize(answer, self._deserializer)

    def stock(self, begun: Any, metadata: tuple[Any, ...], response: Any, loop: Any) -> Any:
        """Return the call object that gRPC would have made of a call; ``response`` is the task for that."""
        call = _calls.UnaryUnaryCall.__new__(_calls.UnaryUnaryCall)
        _calls.Call.__init__(call, begun, metadata, self._serializer, self._deserializer, loop)
        call._init_unary_response_mixin(response)
        call._invocation_task = response
        return call


def lean(stock: Any, serializer: Any) -> LeanMethod | None:
    """Return how calls of a stock multicallable are made without call objects; None where that is not to be done."""
    found = getattr(_channels, "UnaryUnaryMultiCallable", None)
    if type(stock) is not found or stock._interceptors or replaced(stock.__call__, _channels) or not _known():
        return None
    with suppress(AttributeError):
        return LeanMethod(stock, serializer)
    return None


def reading(stock: Any) -> Any:
    """Return what reads one message of a stock call, or EOF; None where only the call itself is known to do so."""
    return getattr(stock, "_read", None) if type(stock).__module__ == "grpc.aio._call" else None


def _known() -> bool:
    names = [(_common, "serialize"), (_common, "deserialize"), (_cygrpc, "build_census_context"), (_calls, "Call")]
    return _parts() in (PARTS, [*PARTS, HANDLE]) and all(hasattr(module, name) for module, name in names)


def _parts() -> list[str]:
    """Return what this grpcio makes a unary call of; nothing where it does not say."""
    with suppress(AttributeError, TypeError, ValueError):
        return list(inspect.signature(_calls.UnaryUnaryCall).parameters)
    return []
