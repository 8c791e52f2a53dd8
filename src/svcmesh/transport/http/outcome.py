"""What the end of an HTTP attempt means: was the request processed, may it be repeated, and is the endpoint to blame?

Only httpx's own vocabulary is read here, so that it holds for our connections and for any transport that a user
puts in their place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpcore
import httpx

from svcmesh.core.outcome import (
    CONNECT_FAILURE,
    GATEWAY_STATUSES,
    OWN_TROUBLE,
    PER_TRY_TIMEOUT,
    REFUSED_STREAM,
    RESET,
    Kind,
    Outcome,
)
from svcmesh.transport.http.errors import NotTaken
from svcmesh.transport.http.tls import turned_away

POOL_TIMEOUT = "pool-timeout"
H2_REFUSED_STREAM = 7  # RFC 9113, 7: nothing was processed
LONGEST_DELAY = 10**9  # seconds; a Retry-After beyond it is nonsense, and would overflow


def of_response(response: httpx.Response, wall: Callable[[], float]) -> Outcome:
    """Return the outcome of an answer that is not plain; it is what the caller gets if nobody repeats the request.

    Args:
        response: the answer, its body unread.
        wall: the time of day in seconds since 1970, against which a ``Retry-After`` date is read.
    """
    status = response.status_code
    delay = retry_after(response.headers.get("retry-after"), wall)
    return Outcome(
        Kind.STATUS, value=response, reason=str(status), blames=status in GATEWAY_STATUSES, retry_after=delay
    )


def retry_after(value: str | None, wall: Callable[[], float]) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, in either form; None without a readable one.

    A date in the past means now, and one that names no zone is of GMT. Source: RFC 9110, 10.2.3 and 5.6.7.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) < 10 else float(LONGEST_DELAY)
    try:
        when = parsedate_to_datetime(text)
        seconds = (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds - wall())


def of_error(error: Exception, *, reused: bool = False) -> Outcome:
    """Return the outcome of an attempt that raised.

    Args:
        error: what was raised.
        reused: the connection had been used before: that it broke is most likely the end of its keep-alive, and says
            nothing about the endpoint.
    """
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Outcome(Kind.UNSENT, error, reason=CONNECT_FAILURE, blames=not _is_own(error))
    if isinstance(error, httpx.PoolTimeout):
        return Outcome(Kind.UNSENT, error, reason=POOL_TIMEOUT)
    if isinstance(error, httpx.TimeoutException):
        return Outcome(Kind.TIMEOUT, error, reason=PER_TRY_TIMEOUT, blames=True)
    if isinstance(error, httpx.RemoteProtocolError) and _refused(error):
        return Outcome(Kind.UNSENT, error, reason=REFUSED_STREAM)
    if isinstance(error, httpx.RemoteProtocolError):
        return Outcome(Kind.LOST, error, reason=RESET, blames=not (reused and is_stale(error)))
    if isinstance(error, httpx.NetworkError) and not reused and turned_away(error):
        return Outcome(Kind.UNSENT, error, reason=CONNECT_FAILURE, blames=True)
    if isinstance(error, httpx.NetworkError):
        return Outcome(Kind.LOST, error, reason=RESET, blames=not reused)
    return Outcome(Kind.ERROR, error, reason=type(error).__name__)


def classify(error: Exception) -> Outcome:
    """Return what an error of httpx means that came out of a function: a failed request, or a status made an error."""
    if not isinstance(error, httpx.HTTPStatusError):
        return of_error(error)
    outcome = of_response(error.response, time.time)
    outcome.error, outcome.value = error, None
    return outcome


def is_stale(error: BaseException | None) -> bool:
    """Whether an error is what a connection shows that the server closed while it was idle."""
    if isinstance(error, httpx.RemoteProtocolError):
        return str(error).startswith("Server disconnected")  # httpcore's words, for HTTP/1.1 and for HTTP/2
    return isinstance(error, httpx.ReadError | httpx.WriteError)


def is_untouched(error: Exception, request: httpx.Request) -> bool:
    """Whether ``request`` can go to another connection as if nothing had been: unsent, its body in our hands."""
    if isinstance(error, NotTaken):
        return type(request.stream) is httpx.ByteStream
    return isinstance(error, httpcore.ConnectionNotAvailable)


def _is_own(error: BaseException | None) -> bool:
    """Whether it was this host that could not connect, whomever to."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in OWN_TROUBLE:
            return True
        error = error.__cause__
    return False


def _refused(error: httpx.RemoteProtocolError) -> bool:
    """Whether an HTTP/2 server did not take the request; of REFUSED_STREAM h2's event tells, as an argument."""
    cause = error.__cause__
    if isinstance(cause, NotTaken):
        return True
    event = cause.args[0] if cause is not None and cause.args else None
    return getattr(event, "error_code", None) == H2_REFUSED_STREAM and hasattr(event, "stream_id")
