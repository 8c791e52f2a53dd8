"""Outcomes are values with safe defaults: they blame nobody and claim nothing."""

from __future__ import annotations

import pytest

from svcmesh.core import outcome
from svcmesh.core.outcome import Kind, Outcome


@pytest.mark.parametrize("kind", list(Kind))
def test_by_default_nobody_is_blamed(kind):
    end = Outcome(kind)

    assert (end.error, end.value, end.reason, end.blames, end.retry_after) == (None, None, "", False, None)
    assert not end.refused


@pytest.mark.parametrize(
    ("reason", "refused"),
    [(outcome.CONNECT_FAILURE, True), (outcome.RESET, False), (outcome.REFUSED_STREAM, False), ("503", False)],
)
def test_only_a_failed_connect_counts_as_refused(reason, refused):
    assert Outcome(Kind.UNSENT, reason=reason).refused is refused


def test_an_application_error_is_no_gateway_status():
    """A 500 is the application's own and must not eject the endpoint."""
    assert 500 not in outcome.GATEWAY_STATUSES
    assert {502, 503, 504} == outcome.GATEWAY_STATUSES
