"""How gRPC makes a blocking unary call, below its multicallable and by names that are private to it.

The stock multicallable keeps a state for each call, with a lock of its own and notes for statistics that hardly a
program collects, which costs several times what we do for a call. A call that ends well needs none of it. One that does
not is handed to gRPC's own code from there on, so that errors are its own. Whether grpcio still makes its calls of the
parts that are known here is looked up; where it does not, or somebody else is to see the calls, nothing is replaced.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from time import perf_counter
from typing import Any

import grpc


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


_channel = _module("grpc._channel")
_common = _module("grpc._common")
_compression = _module("grpc._compression")
_cygrpc = _module("grpc._cython.cygrpc")
_observability = _module("grpc._observability")

PARTS = [
    *("channel", "managed_call", "method", "target", "request_serializer", "response_deserializer"),
    "_registered_call_handle",
]
"""What a stock multicallable is made of."""
_NAMES = {
    "_channel": "_UNARY_UNARY_INITIAL_DUE _RPCState _determine_deadline _end_unary_response_blocking _handle_event"
    " _start_unary_request",
    "_common": "decode deserialize",
    "_compression": "augment_metadata",
    "_cygrpc": "PropagationConstants ReceiveInitialMetadataOperation ReceiveMessageOperation StatusCode"
    " ReceiveStatusOnClientOperation SendCloseFromClientOperation SendInitialMetadataOperation SendMessageOperation",
    "_observability": "_OBSERVABILITY_PLUGIN",
}
"""What is used here."""
_NONE = 0
"""No flags."""


class LeanCall:
    """A unary method of a stock channel, called and waited for. Threads: any. Cost: as a stock call, less a tenth."""

    __slots__ = ("_begin", "_stock", "future", "with_call")

    def __init__(self, stock: Any) -> None:
        self._stock = stock
        self._begin = stock._channel.segregated_call
        self.with_call = stock.with_call
        self.future = stock.future

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call and wait; return the response. Raises what the stock multicallable raises."""
        stock = self._stock
        if wait_for_ready is not None or compression is not None or _observability._OBSERVABILITY_PLUGIN is not None:
            return stock(request, timeout, metadata, credentials, wait_for_ready, compression)
        deadline, wire, error = _channel._start_unary_request(request, timeout, stock._request_serializer)
        if wire is None:
            raise error
        answer, status = _cygrpc.ReceiveMessageOperation(_NONE), _cygrpc.ReceiveStatusOnClientOperation(_NONE)
        operations = (
            _cygrpc.SendInitialMetadataOperation(_compression.augment_metadata(metadata, None), _NONE),
            _cygrpc.SendMessageOperation(wire, _NONE),
            _cygrpc.SendCloseFromClientOperation(_NONE),
            _cygrpc.ReceiveInitialMetadataOperation(_NONE),
            answer,
            status,
        )
        call = self._begin(
            _cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS,
            stock._method,
            None,
            _channel._determine_deadline(deadline),
            metadata,
            None if credentials is None else credentials._credentials,
            ((operations, None),),
            stock._context,
            stock._registered_call_handle,
        )
        event = call.next_event()
        deserializer = stock._response_deserializer
        if status.code() == _cygrpc.StatusCode.ok and (message := answer.message()) is not None:
            response = _common.deserialize(message, deserializer)
            if response is not None:
                return response
            deserializer = _unreadable  # gRPC has logged why, once
        return self._ended(event, call, deserializer)

    def _ended(self, event: Any, call: Any, deserializer: Any) -> Any:
        """Have gRPC say how a call has ended that did not end well."""
        state = _channel._RPCState(_channel._UNARY_UNARY_INITIAL_DUE, None, None, None, None)
        state.method, state.target = _common.decode(self._stock._method), _common.decode(self._stock._target)
        state.rpc_start_time = perf_counter()
        _channel._handle_event(event, state, deserializer)
        return _channel._end_unary_response_blocking(state, call, False, None)


def lean(stock: Any) -> Any:
    """Return what calls a stock unary multicallable for less; itself, where that is not known or not gRPC's own."""
    own: Any = getattr(_channel, "_UnaryUnaryMultiCallable", None)
    if type(stock) is not own or not _known(own):
        return stock
    if replaced(own.__call__, _channel) or replaced(own._blocking, _channel):
        return stock
    return LeanCall(stock)


def replaced(method: Any, module: Any) -> bool:
    """Whether instrumentation has put something in the place of a method that gRPC defines in ``module``."""
    code = getattr(method, "__code__", None)
    return code is None or code.co_filename != module.__file__


def _known(own: Any) -> bool:
    if list(inspect.signature(own).parameters) != PARTS:
        return False
    return all(hasattr(globals()[module], name) for module, names in _NAMES.items() for name in names.split())


def _unreadable(_: bytes) -> None:
    """Read nothing."""
