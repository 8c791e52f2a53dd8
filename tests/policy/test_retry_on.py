"""Envoy's words for what is worth another attempt, in ours."""

from __future__ import annotations

import pytest

from svcmesh.core.outcome import Kind, Outcome
from svcmesh.policy.retry import Retry
from svcmesh.policy.retry_on import conditions

NO_ANSWER = ("connect-failure", "refused-stream", "reset", "per-try-timeout")
BROKEN = NO_ANSWER[:3]
ENDS = (*NO_ANSWER, "404", "409", "429", "500", "502", "503", "504", "507", "UNAVAILABLE", "CANCELLED", "INTERNAL")
ENDS = (*ENDS, "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "NOT_FOUND")


def repeated(words, *statuses):
    """Return which of many ends are worth another attempt."""
    retry = Retry(on=conditions(words, statuses)[0])
    return {end for end in ENDS if retry.matches(Outcome(Kind.STATUS, reason=end))}


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        ("5xx", {*NO_ANSWER, "500", "502", "503", "504", "507"}),
        ("gateway-error", {*NO_ANSWER, "502", "503", "504"}),
        ("reset", set(NO_ANSWER)),
        ("reset-before-request", {"connect-failure"}),
        ("retriable-4xx", {"409"}),
        ("connect-failure", {"connect-failure"}),
        ("refused-stream", {"refused-stream"}),
        ("cancelled", {"CANCELLED"}),
        ("deadline-exceeded", {"DEADLINE_EXCEEDED"}),
        ("internal", {"INTERNAL"}),
        ("resource-exhausted", {"RESOURCE_EXHAUSTED"}),
        ("unavailable", {"UNAVAILABLE", *BROKEN}),
        (" cancelled , internal,", {"CANCELLED", "INTERNAL"}),
        ("", set()),
    ],
)
def test_a_word_means_what_envoy_means(words, ends):
    assert repeated(words) == ends
    assert conditions(words)[1] == ()


def test_listed_statuses_count_with_their_word_alone():
    assert repeated("retriable-status-codes", 404, 429, 503) == {"404", "429", "503"}
    assert repeated("internal", 429, 503) == {"INTERNAL"}


def test_what_cannot_be_said_is_named_once():
    found, unknown = conditions("retriable-headers,5xx,5XX,5XX,retriable-status-codes", [99, 404, 503, 999])

    assert unknown == ("retriable-headers", "5XX", "99", "999")
    assert {404, 503} < found
    assert found.isdisjoint({99, 999})
