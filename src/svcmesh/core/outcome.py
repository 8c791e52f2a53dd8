"""How an attempt ended, as a value: what retries, breakers, ejection and events decide on.

Only attempts that were not a plain success get one; the success path builds none. A transport makes it, because
only the transport knows whether a request was sent, and whether an error blames the endpoint.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol


class Kind(Enum):
    """The classes of ends that policies tell apart. Where nothing is known, a request counts as maybe sent."""

    SUCCESS = "success"
    UNSENT = "unsent"  # surely not processed: refused connect, refused stream, no free connection
    LOST = "lost"  # the connection broke when the request may have been processed
    TIMEOUT = "timeout"  # the attempt took longer than it may
    STATUS = "status"  # the other side answered, with an error
    ERROR = "error"  # a plain function raised something that says nothing about the network
    REJECTED = "rejected"  # svcmesh itself refused
    DEADLINE = "deadline"  # the whole call's time is used up: nobody's fault
    CANCELLED = "cancelled"  # the caller gave up: neither good nor bad news


class Stream(Protocol):
    """What an attempt leaves in flight when it ends: the body of an answer, which counts its own end.

    Attributes:
        bad: the attempt counts against the endpoint, so that its end is no success when it comes.
    """

    bad: bool


@dataclass(slots=True)
class Outcome:
    """The end of one attempt or of one call.

    Attributes:
        kind: what class of end it is.
        error: what the caller would get to see, or None when ``value`` is what it gets.
        value: the result, or the answer (an HTTP response, say) that carries the status.
        reason: a short word for events and `Retry(on=…)`: ``connect-failure``, ``reset``, ``refused-stream``,
            ``per-try-timeout``; for a status, its code as text (``503``, ``UNAVAILABLE``).
        blames: the endpoint is at fault, so ejection and breakers count it.
        retry_after: seconds that the other side asks us to wait, or None; negative: it asks not to be asked again.
        stream: what of it is still in flight, where that may be.
    """

    kind: Kind
    error: BaseException | None = None
    value: Any = None
    reason: str = ""
    blames: bool = False
    retry_after: float | None = None
    stream: Stream | None = None

    @property
    def refused(self) -> bool:
        """Whether no connection could be made at all: the one failure that a probe can see end."""
        return self.reason == CONNECT_FAILURE


CONNECT_FAILURE = "connect-failure"
RESET = "reset"
REFUSED_STREAM = "refused-stream"
PER_TRY_TIMEOUT = "per-try-timeout"

OWN_TROUBLE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of this host, which has no file or memory left for one more connection: they say nothing of the other one."""

GATEWAY_STATUSES = frozenset({502, 503, 504})
"""HTTP statuses that blame the endpoint (Envoy's consecutive_gateway_failure); a 500 is the application's own."""
