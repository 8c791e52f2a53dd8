"""What a call went through, attached to the error or the response that its caller already holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from svcmesh.core.endpoint import Endpoint

EXTENSION = "svcmesh.info"
"""Where HTTP responses carry it (``response.extensions``)."""
_ATTRIBUTE = "__svcmesh_info__"
"""Where errors and all other answers carry it; on our own call objects it is a property."""


@dataclass(frozen=True, slots=True)
class CallInfo:
    """The story of one logical call.

    Attributes:
        attempts: how many attempts were made; 0 when the call was refused before the first.
        endpoints: where they went, in order.
        waits: seconds waited before each further attempt.
        reason: why it ended as it did, in one word or phrase; empty for a success.
        elapsed: seconds from start to end.
        retry_after: seconds after which another call may succeed, or None when unknown.
    """

    attempts: int
    endpoints: tuple[Endpoint, ...] = ()
    waits: tuple[float, ...] = ()
    reason: str = ""
    elapsed: float = 0.0
    retry_after: float | None = None


def attach(target: object, info: CallInfo) -> None:
    """Attach ``info`` to an exception or a response; an object that takes no attributes is left alone.

    Of a pair (gRPC's response and its call) the second takes it.
    """
    target = target[-1] if isinstance(target, tuple) and target else target
    extensions = getattr(target, "extensions", None)
    if isinstance(extensions, dict):
        extensions[EXTENSION] = info
        return
    try:
        setattr(target, _ATTRIBUTE, info)
    except Exception:  # noqa: BLE001 - a class with slots, or with ideas of its own
        return  # the caller loses the extra information, never the error


def info(exc_or_response: object) -> CallInfo | None:
    """Return what is known of the call that ended in this exception or response.

    An answer of HTTP has a story, and so has a failure. None: svcmesh did not make the call, or it is one of
    gRPC that is not over, or succeeded at once: to write its story would cost every such call.
    """
    extensions: Any = getattr(exc_or_response, "extensions", None)
    found = extensions.get(EXTENSION) if isinstance(extensions, dict) else None
    found = found or getattr(exc_or_response, _ATTRIBUTE, None)
    return found() if callable(found) else found
