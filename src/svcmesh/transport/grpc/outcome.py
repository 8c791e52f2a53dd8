"""What the end of a gRPC attempt means: surely unsent, lost on the way, late, or answered with a status.

gRPC reports all of these by one status code, most of them by UNAVAILABLE, and a call that was surely not processed
may go elsewhere although it is not idempotent. Only the text of the details tells them apart, and a server may send any
text. So the text is a hint and nothing more, pinned by tests to the grpcio in use: what it says is believed where that
does no harm, and a call is surely unsent only where something else proves it (`unsent`). There is no such proof of
a refused stream, nor of one that a GOAWAY left out: gRPC itself repeats those once, and what gets past it counts as
maybe sent, like everything that is not recognised.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import grpc

from svcmesh.core.outcome import CONNECT_FAILURE, OWN_TROUBLE, PER_TRY_TIMEOUT, REFUSED_STREAM, RESET, Kind, Outcome
from svcmesh.transport.grpc.unsent import sounds_so

CHANNEL_CLOSED = "Cannot invoke RPC on closed channel!"
"""What the stock sync channel says in its ValueError, to callers who wait."""
_NOT_INVOKED = "Cannot invoke RPC"  # how it begins to all others: "Cannot invoke RPC: Channel closed!"

ENDPOINT_GONE = "endpoint-gone"
PUSHBACK = "grpc-retry-pushback-ms"
PUSHBACK_STOP = -1.0

_REFUSED = "Stream removed (RST_STREAM (Received RST_STREAM with error code 7"  # HTTP/2 REFUSED_STREAM
_UNPROCESSED = "Stream removed (GOAWAY received"  # our stream is above the last one that the server looked at
_BROKEN = re.compile(
    r"Stream removed \(|Socket closed|Connection reset|Broken pipe|ping timeout|keepalive watchdog timeout"
    r"|recvmsg:|sendmsg:|Transport closed"
)
_OWN_TROUBLE = re.compile("|".join(re.escape(os.strerror(number)) for number in OWN_TROUBLE))
_NO_CREDENTIALS = ("Getting metadata from plugin failed with error: ", "Illegal metadata")  # of call credentials
_LOCAL_TIMEOUT = frozenset({"Deadline Exceeded", "Stream removed (Deadline Exceeded)"})  # whichever part was quicker
_LOCAL_CANCEL = frozenset({"Locally cancelled by application!", "Channel closed!", "Channel deallocated!"})
_CALLERS_OWN = frozenset(
    {
        "Exception serializing request!",
        "Exception deserializing response!",
        "Exception iterating requests!",
        "Invalid metadata",
    }
)
_CODES_OF_CALLERS_OWN = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})


def unproven(_: str) -> bool:
    """Return False: nothing is known of the channel that a call went through."""
    return False


def classify(
    error: BaseException, *, answered: bool | None = None, unconnected: Callable[[str], bool] = unproven
) -> Outcome:
    """Return the outcome of an attempt that ended in ``error``, whether sync or asyncio.

    A call object that has ended badly may be given in place of the exception; sync errors are call objects. Then
    ``answered`` has to say whether it has initial metadata: asking it may block on the thread that brings them.
    ``unconnected`` says whether details that sound like a failed connect are gRPC's own.
    """
    if not isinstance(error, grpc.RpcError):
        if not_invoked(error):
            return Outcome(Kind.UNSENT, error, reason=ENDPOINT_GONE)  # it left discovery between pick and call
        return Outcome(Kind.ERROR, error)
    if not hasattr(error, "code"):
        return Outcome(Kind.ERROR, error)  # a bare RpcError: somebody's own
    known: Any = error  # every other RpcError that reaches callers is also a Call
    code, details = known.code(), known.details() or ""
    trailing = known.trailing_metadata()
    if answered is None:
        answered = bool(known.initial_metadata())
    bare = not trailing and not answered
    if bare and code is grpc.StatusCode.UNAVAILABLE and sounds_so(details) and unconnected(details):
        return Outcome(Kind.UNSENT, error, reason=CONNECT_FAILURE, blames=not _OWN_TROUBLE.search(details))
    outcome = _by_code(error, code, details, bare=bare)
    outcome.retry_after = pushback(trailing)
    return outcome


def not_invoked(error: BaseException) -> bool:
    """Return whether a blocking stock channel says that it is closed, and has not begun the call."""
    return isinstance(error, ValueError) and str(error).startswith(_NOT_INVOKED)


def of_status(error: BaseException, code: grpc.StatusCode, details: str) -> Outcome:
    """Return the outcome of a call that a server ended with this status."""
    return _by_code(error, code, details, bare=False)


def _by_code(error: BaseException, code: grpc.StatusCode, details: str, *, bare: bool) -> Outcome:
    if bare and code is grpc.StatusCode.UNAVAILABLE:
        return _unavailable(error, details)
    if bare and code is grpc.StatusCode.DEADLINE_EXCEEDED and details in _LOCAL_TIMEOUT:
        return Outcome(Kind.TIMEOUT, error, reason=PER_TRY_TIMEOUT, blames=True)
    if bare and code is grpc.StatusCode.CANCELLED and details in _LOCAL_CANCEL:
        return Outcome(Kind.CANCELLED, error, reason="cancelled")
    if bare and code in _CODES_OF_CALLERS_OWN and details in _CALLERS_OWN:
        return Outcome(Kind.ERROR, error, reason=code.name)  # the request or the caller's code: no retry helps
    return Outcome(Kind.STATUS, error, reason=code.name, blames=code is grpc.StatusCode.UNAVAILABLE)


def _unavailable(error: BaseException, details: str) -> Outcome:
    """Tell the kinds of UNAVAILABLE apart that gRPC itself makes."""
    if details.startswith(_REFUSED):
        return Outcome(Kind.LOST, error, reason=REFUSED_STREAM, blames=True)
    if details.startswith(_UNPROCESSED):
        return Outcome(Kind.LOST, error, reason=REFUSED_STREAM)  # a server that goes away in good order
    if details.startswith(_NO_CREDENTIALS):
        return Outcome(Kind.LOST, error, reason="UNAVAILABLE")  # says nothing of an endpoint that was not even asked
    if _BROKEN.match(details):
        return Outcome(Kind.LOST, error, reason=RESET, blames=True)
    return Outcome(Kind.STATUS, error, reason="UNAVAILABLE", blames=True)


def pushback(trailing: Any) -> float | None:
    """Return the seconds that the trailer ``grpc-retry-pushback-ms`` asks for; -1.0: it asks for no retry at all.

    Source: gRFC A6; a value that is no number of 32 bits counts as "do not retry".
    """
    for key, value in trailing or ():
        if key == PUSHBACK:
            text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
            return _milliseconds(text)
    return None


def _milliseconds(text: str) -> float:
    found = re.fullmatch(r"\s*\+?(\d{1,10})\s*", text, re.ASCII)
    return int(found[1]) / 1000 if found and int(found[1]) < 2**31 else PUSHBACK_STOP
