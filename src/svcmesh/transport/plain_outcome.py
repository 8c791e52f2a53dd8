"""What an exception of a plain function says about the network: a refused connect is not a bug in the function.

The function is somebody else's, so what is not known to be safe counts as maybe sent, and what says nothing about
the network (a KeyError) blames nobody. Errors of gRPC and httpx are read by their own transports, if those libraries
are loaded at all: an error of theirs cannot exist otherwise.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys

from svcmesh.core.errors import CircuitOpen, DeadlineExceeded, LimitExceeded, NoEndpoints
from svcmesh.core.outcome import CONNECT_FAILURE, GATEWAY_STATUSES, OWN_TROUBLE, PER_TRY_TIMEOUT, RESET, Kind, Outcome

_NOT_CONNECTED = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN})
_OF_FILES = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_OF_PROCESSES = (ProcessLookupError, ChildProcessError, InterruptedError, BlockingIOError)
_OF_THE_SYSTEM = frozenset({"builtins", "socket", "ssl"})


def classify(error: Exception) -> Outcome:
    """Return the outcome of a function that raised ``error``."""
    if isinstance(error, NoEndpoints | CircuitOpen | LimitExceeded | DeadlineExceeded):
        return Outcome(Kind.ERROR, error, reason=type(error).__name__)  # a mesh call inside: it has been retried there
    if "grpc" in sys.modules:
        import grpc

        if isinstance(error, grpc.RpcError):
            from svcmesh.transport.grpc import outcome as grpc_outcome

            return grpc_outcome.classify(error)
    if "httpx" in sys.modules:
        import httpx

        if isinstance(error, httpx.TransportError | httpx.HTTPStatusError):
            from svcmesh.transport.http import outcome as http_outcome

            return http_outcome.classify(error)
    if "httpx2" in sys.modules:
        import httpx

        from svcmesh.transport.http import httpx2 as http_httpx2
        from svcmesh.transport.http import outcome as http_outcome

        same = http_httpx2.of_httpx(error, httpx)
        if same is not error:
            outcome = http_outcome.classify(same)
            outcome.error = error
            return outcome
    return _of_the_system(error)


def _of_the_system(error: Exception) -> Outcome:
    status = _status(error)
    if status is not None:
        return Outcome(Kind.STATUS, error, reason=str(status), blames=status in GATEWAY_STATUSES)
    root = _root(error)
    if getattr(root, "errno", None) in OWN_TROUBLE:
        return Outcome(Kind.ERROR, error, reason=type(error).__name__)
    refused = isinstance(root, socket.gaierror | ConnectionRefusedError)
    if refused or getattr(root, "errno", None) in _NOT_CONNECTED or _is_of_unix_socket(root):
        return Outcome(Kind.UNSENT, error, reason=CONNECT_FAILURE, blames=True)
    if isinstance(root, TimeoutError):
        return Outcome(Kind.TIMEOUT, error, reason=PER_TRY_TIMEOUT, blames=True)
    cut = isinstance(error, asyncio.IncompleteReadError) or _is_of_http_client(error)
    if cut or (isinstance(root, OSError) and not isinstance(root, (*_OF_FILES, *_OF_PROCESSES))):
        return Outcome(Kind.LOST, error, reason=RESET, blames=True)
    return Outcome(Kind.ERROR, error, reason=type(error).__name__)


def _is_of_unix_socket(error: BaseException | None) -> bool:
    """Whether a unix socket is not there, or not ours to enter. Errors of files name their file; this one has none."""
    return isinstance(error, OSError) and error.errno in {errno.ENOENT, errno.EACCES} and error.filename is None


def _status(error: Exception) -> int | None:
    """Return the HTTP status in an `OSError` of urllib or requests: that is an answer, not a broken connection."""
    if not isinstance(error, OSError):
        return None
    answer = getattr(error, "response", None)  # requests' HTTPError
    status = getattr(answer, "status_code", None) if answer is not None else getattr(error, "code", None)  # urllib's
    return status if isinstance(status, int) else None


def _root(error: BaseException) -> BaseException | None:
    """Return what the system said: libraries derive all their errors from OSError, and put the real one behind it."""
    found: BaseException | None = error
    while isinstance(found, OSError) and not _speaks_for_itself(found):
        reason = getattr(found, "reason", None)  # urllib's URLError
        found = reason if isinstance(reason, BaseException) else found.__cause__ or _behind(found)
    return found


def _speaks_for_itself(error: OSError) -> bool:
    """Whether an error needs no other one behind it: the system's own, or a library's kind of broken connection."""
    if error.errno is None and isinstance(error.__cause__, OSError):
        return False  # raised by hand in the place of the real one
    return isinstance(error, ConnectionError | TimeoutError) or type(error).__module__ in _OF_THE_SYSTEM


def _is_of_http_client(error: Exception) -> bool:
    """Whether the standard library's HTTP client met an answer that was cut, or was none."""
    found = sys.modules.get("http.client")
    return found is not None and isinstance(error, found.IncompleteRead | found.BadStatusLine)


def _behind(error: BaseException) -> BaseException | None:
    """Return the next error of the system that ``error`` was raised in the place of."""
    found = error.__context__
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__ or found.__context__
    return found
