"""Envoy's words for what is worth another attempt (`retry_on`), and what `Retry(on=…)` says for them.

Three of Envoy's words mean any end without an answer besides their statuses: ``5xx``, ``gateway-error`` and ``reset``.
``unavailable`` is read as gRPC means it, whose clients see each connection that breaks as UNAVAILABLE; ours tell these
apart, so the word is all of them.

Source: Envoy, `RetryStateImpl` and "x-envoy-retry-on"; gRPC, proposal A44.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from svcmesh.core.outcome import CONNECT_FAILURE, PER_TRY_TIMEOUT, REFUSED_STREAM, RESET

STATUSES = "retriable-status-codes"
"""The word for statuses that are listed beside the words."""

LOST = frozenset({CONNECT_FAILURE, REFUSED_STREAM, RESET})
"""How a call ends that a gRPC client says is UNAVAILABLE though no server said so."""

_STATUSES = range(100, 600)
_NO_ANSWER = LOST | {PER_TRY_TIMEOUT}

WORDS: Mapping[str, frozenset[Any]] = {
    "5xx": frozenset(range(500, 600)) | _NO_ANSWER,
    "gateway-error": frozenset({502, 503, 504}) | _NO_ANSWER,
    "retriable-4xx": frozenset({409}),
    "reset": _NO_ANSWER,
    "reset-before-request": frozenset({CONNECT_FAILURE}),
    "connect-failure": frozenset({CONNECT_FAILURE}),
    "refused-stream": frozenset({REFUSED_STREAM}),
    "cancelled": frozenset({"CANCELLED"}),
    "deadline-exceeded": frozenset({"DEADLINE_EXCEEDED"}),
    "internal": frozenset({"INTERNAL"}),
    "resource-exhausted": frozenset({"RESOURCE_EXHAUSTED"}),
    "unavailable": LOST | {"UNAVAILABLE"},
}
"""The words that ours can say, but for `STATUSES`."""


def conditions(words: str, statuses: Collection[int] = ()) -> tuple[frozenset[Any], tuple[str, ...]]:
    """Return what ``words``, with commas between them, mean for `Retry`, and those of them that it cannot say.

    Args:
        words: a value of `retry_on`. statuses: those that `STATUSES` stands for; nothing without that word.
    """
    asked = [word for word in (one.strip() for one in words.split(",")) if word]
    found: set[Any] = set().union(*(WORDS.get(word, ()) for word in asked))
    unknown = [word for word in asked if word not in WORDS and word != STATUSES]
    if STATUSES in asked:
        found.update(status for status in statuses if status in _STATUSES)
        unknown += [str(status) for status in statuses if status not in _STATUSES]
    return frozenset(found), tuple(dict.fromkeys(unknown))


def of_codes(names: Iterable[str]) -> frozenset[Any]:
    """Return what these codes of gRPC, in upper case, mean for `Retry`."""
    found = frozenset(names)
    return found | LOST if "UNAVAILABLE" in found else found
