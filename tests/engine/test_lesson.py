"""What the time of an attempt says: a latency, a failure that must not look fast, or a lower bound."""

from __future__ import annotations

import pytest

from svcmesh.core.outcome import CONNECT_FAILURE, PER_TRY_TIMEOUT, REFUSED_STREAM, RESET, Kind, Outcome
from svcmesh.engine import lesson


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(Kind.SUCCESS),
        Outcome(Kind.STATUS, reason="NOT_FOUND"),
        Outcome(Kind.STATUS, reason="ABORTED"),
        Outcome(Kind.STATUS, reason="404"),
    ],
)
def test_an_answer_is_a_latency_also_where_the_caller_was_wrong(outcome: Outcome) -> None:
    assert lesson.failed(outcome) is False


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(Kind.STATUS, reason="503", blames=True),
        Outcome(Kind.STATUS, reason="500"),
        Outcome(Kind.STATUS, reason="429"),
        Outcome(Kind.STATUS, reason="INTERNAL"),
        Outcome(Kind.STATUS, reason="RESOURCE_EXHAUSTED"),
        Outcome(Kind.STATUS, reason="a word that nobody knows"),
        Outcome(Kind.UNSENT, reason=CONNECT_FAILURE, blames=True),
        Outcome(Kind.LOST, reason=RESET, blames=True),
        Outcome(Kind.TIMEOUT, reason=PER_TRY_TIMEOUT, blames=True),
        Outcome(Kind.ERROR, reason="KeyError"),
    ],
)
def test_a_failure_is_none_however_fast_it_came_and_whether_or_not_it_ejects(outcome: Outcome) -> None:
    assert lesson.failed(outcome) is True


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(Kind.CANCELLED),
        Outcome(Kind.DEADLINE),
        Outcome(Kind.UNSENT, reason=REFUSED_STREAM),
        Outcome(Kind.LOST, reason=RESET),
    ],
)
def test_what_was_cut_short_is_a_lower_bound(outcome: Outcome) -> None:
    assert lesson.failed(outcome) is None
