"""One method of a remote service as a stub asked for it: its path, its serializers, and whether it may be repeated.

Nothing on the wire says that a method is idempotent. The .proto may, by the option ``idempotency_level``, and the
generated code keeps the descriptor: so the option is looked up by the method's path, once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

from svcmesh.transport.grpc.lean import lean
from svcmesh.transport.grpc.request import sent

Kind = Literal["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
Transform = Callable[[Any], Any]

KINDS: Final[tuple[Kind, ...]] = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
REGISTERED: Final = 1
"""The handle of every registered method. The stock channels below have handles of their own, with which they save
a look-up; a channel over many of them has none to give, and generated code only asks whether there is one."""
_NO_SIDE_EFFECTS = 1
_IDEMPOTENT = 2


class Method:
    """What a stub passed to one of the four factories of a channel. Compared by identity.

    Attributes:
        path: ``/package.Service/Method``. registered: the channel should keep a handle for it (generated stubs ask).
        streams_requests, streams_responses: which sides are streams.
    """

    __slots__ = ("deserializer", "kind", "path", "registered", "serializer", "streams_requests", "streams_responses")

    def __init__(
        self, kind: Kind, path: Any, serializer: Transform | None, deserializer: Transform | None, registered: Any
    ) -> None:
        self.kind: Kind = kind
        self.path = path
        self.serializer = serializer
        self.deserializer = deserializer
        self.registered = bool(registered)
        self.streams_requests = kind.startswith("stream_")
        self.streams_responses = kind.endswith("_stream")

    @property
    def name(self) -> str:
        """The path as text."""
        return self.path.decode() if isinstance(self.path, bytes) else str(self.path)

    def carrying(self) -> CarryingMethod:
        """Return the same method for requests that outlive their caller's line."""
        return CarryingMethod(self.kind, self.path, self.serializer, self.deserializer, self.registered)

    def bind(self, channel: Any) -> Any:
        """Return the stock multicallable of ``channel`` for this method.

        Streamed requests reach it as bytes: we serialize them ourselves, to be able to send them twice.
        """
        serializer = None if self.streams_requests else self.serializer
        stock = getattr(channel, self.kind)(
            self.path, serializer, self.deserializer, _registered_method=self.registered
        )
        return lean(stock)


class CarryingMethod(Method):
    """A method whose single request reaches gRPC as a `Request`, so that what is sent again is what was sent before.

    When it is serialized is up to gRPC: at the call where that blocks, in a task of the call's on asyncio.
    """

    __slots__ = ()

    def bind(self, channel: Any) -> Any:
        """Return the stock multicallable, to be called with requests instead of messages."""
        if self.streams_requests:
            return super().bind(channel)
        bare = is_bare(channel, self.kind)
        serializer = partial(sent, self.serializer) if bare else self.serializer
        stock = getattr(channel, self.kind)(
            self.path, serializer, self.deserializer, _registered_method=self.registered
        )
        return stock if bare else _Unpacking(stock)


class _Unpacking:
    """A multicallable of a channel with interceptors in it (instrumentation puts them there): they get messages."""

    __slots__ = ("_stock",)

    def __init__(self, stock: Any) -> None:
        self._stock = stock

    def __call__(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self._stock(request.copied(), *args, **kwargs)

    def future(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Start a call of a blocking channel."""
        return self._stock.future(request.copied(), *args, **kwargs)


def is_bare(channel: Any, kind: Kind) -> bool:
    """Whether ``channel`` is gRPC's own without interceptors for such calls, so that nobody else sees requests.

    Both are told by names that are private to gRPC; where these are missing, the channel counts as intercepted.
    """
    inner = getattr(channel, "_channel", None)
    return hasattr(inner, "check_connectivity_state") and not getattr(channel, f"_{kind}_interceptors", ())


def option_says_idempotent(path: str, serializer: Transform | None) -> bool:
    """Return whether the .proto of the method says NO_SIDE_EFFECTS or IDEMPOTENT; False where no descriptor is found.

    The descriptor is looked for in the pool of the request's message class, then in protobuf's default pool.
    """
    full_name, _, method_name = path.lstrip("/").rpartition("/")
    for pool in _pools(serializer):
        try:
            method = pool.FindServiceByName(full_name).methods_by_name[method_name]
        except KeyError:
            continue
        return int(method.GetOptions().idempotency_level) in {_NO_SIDE_EFFECTS, _IDEMPOTENT}
    return False


def _pools(serializer: Transform | None) -> list[Any]:
    """Return where descriptors may be; none when the program does not use protobuf."""
    descriptor = getattr(getattr(serializer, "__objclass__", None), "DESCRIPTOR", None)
    pools = [descriptor.file.pool] if descriptor is not None else []
    loaded = sys.modules.get("google.protobuf.descriptor_pool")
    if loaded is not None:
        pools.append(loaded.Default())
    return pools
