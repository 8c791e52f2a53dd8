"""gRPC's multicallables of streamed requests as base classes: generic to type checkers, and to grpcio only lately.

Releases before 1.84 or so cannot subscript them, although they can the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio

if TYPE_CHECKING:
    StreamUnaryBase = grpc.aio.StreamUnaryMultiCallable[Any, Any]
    StreamStreamBase = grpc.aio.StreamStreamMultiCallable[Any, Any]
else:
    StreamUnaryBase = grpc.aio.StreamUnaryMultiCallable
    StreamStreamBase = grpc.aio.StreamStreamMultiCallable
