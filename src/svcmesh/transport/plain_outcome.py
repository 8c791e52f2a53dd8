"""What an exception of a plain function says about the network: a refused connect is not a bug in the function.

The function is somebody else's, so what is not known to be safe counts as maybe sent, and what says nothing about
the network (a KeyError) blames nobody. Errors of gRPC and httpx are read by their own transports, if those libraries
are loaded at all: an error of theirs cannot exist otherwise.
"""

from __future__ import annotations

import errno
import socket
import sys

from svcmesh.core.errors import CircuitOpen, DeadlineExceeded, LimitExceeded, NoEndpoints
from svcmesh.core.outcome import CONNECT_FAILURE, PER_TRY_TIMEOUT, RESET, Kind, Outcome

_NOT_CONNECTED = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN})
_OF_FILES = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_OF_PROCESSES = (ProcessLookupError, ChildProcessError, InterruptedError, BlockingIOError)


def classify(error: Exception) -> Outcome:
    """Return the outcome of a function that raised ``error``."""
    if isinstance(error, NoEndpoints | CircuitOpen | LimitExceeded | DeadlineExceeded):
        return Outcome(Kind.ERROR, error, reason=type(error).__name__)  # a mesh call inside: it has been retried there
    if "grpc" in sys.modules:
        import grpc

        if isinstance(error, grpc.RpcError):
            from svcmesh.transport import grpc_outcome

            return grpc_outcome.classify(error)
    if "httpx" in sys.modules:
        import httpx

        if isinstance(error, httpx.TransportError | httpx.HTTPStatusError):
            from svcmesh.transport import http_outcome

            return http_outcome.classify(error)
    return _of_the_system(error)


def _of_the_system(error: Exception) -> Outcome:
    if isinstance(error, socket.gaierror) or getattr(error, "errno", None) in _NOT_CONNECTED:
        return Outcome(Kind.UNSENT, error, reason=CONNECT_FAILURE, blames=True)
    if isinstance(error, TimeoutError):
        return Outcome(Kind.TIMEOUT, error, reason=PER_TRY_TIMEOUT, blames=True)
    if isinstance(error, OSError) and not isinstance(error, (*_OF_FILES, *_OF_PROCESSES)):
        return Outcome(Kind.LOST, error, reason=RESET, blames=True)
    return Outcome(Kind.ERROR, error, reason=type(error).__name__)
