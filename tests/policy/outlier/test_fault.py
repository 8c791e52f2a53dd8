"""Which ends count against an endpoint: the table of docs/reference/policies/outlier-detection.md."""

from __future__ import annotations

import pytest

from svcmesh.core.outcome import Kind, Outcome
from svcmesh.policy.outlier.fault import Fault, fault_of
from svcmesh.policy.status import GRPC_TO_HTTP

SERVERS = {"UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL"}


@pytest.mark.parametrize("kind", [Kind.UNSENT, Kind.LOST, Kind.TIMEOUT])
def test_what_got_no_answer_is_local(kind):
    assert fault_of(Outcome(kind, reason="any", blames=True)) is Fault.LOCAL


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.ERROR])
def test_what_blames_the_endpoint_otherwise_is_the_gateways(kind):
    assert fault_of(Outcome(kind, reason="503", blames=True)) is Fault.GATEWAY


def test_of_http_statuses_that_blame_nobody_only_those_of_the_server_count():
    found = {status: fault_of(Outcome(Kind.STATUS, reason=str(status))) for status in range(100, 700)}

    assert {status for status, fault in found.items() if fault is Fault.SERVER} == set(range(500, 600))
    assert set(found.values()) == {Fault.SERVER, None}


@pytest.mark.parametrize("code", sorted(GRPC_TO_HTTP))
def test_of_codes_that_blame_nobody_only_those_that_say_something_of_the_server_count(code):
    expected = Fault.SERVER if code in SERVERS | {"UNAVAILABLE"} else None

    assert fault_of(Outcome(Kind.STATUS, reason=code)) is expected


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.STATUS])
def test_cancellations_deadlines_refusals_and_what_blames_nobody_count_for_nothing(kind):
    assert fault_of(Outcome(kind, reason="500")) is None
