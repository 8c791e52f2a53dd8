"""What a server is worth: gRFC A58's formula, its blackout and its expiration, worked out by hand."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh.balance import LoadReport
from svcmesh.balance.server_load import ServerLoad, utilization, weight_of, weights_at

NUMBERS = st.floats()
EXPIRATION = 180


@pytest.mark.parametrize(
    ("report", "penalty", "weight"),
    [
        (LoadReport(100, cpu_utilization=0.5), 1.0, 200),
        (LoadReport(100, application_utilization=0.25, cpu_utilization=0.5), 1.0, 400),  # its own judgement goes first
        (LoadReport(100, eps=10, cpu_utilization=0.5), 1.0, 100 / 0.6),
        (LoadReport(100, eps=10, cpu_utilization=0.5), 5.0, 100),
        (LoadReport(100, eps=10, cpu_utilization=0.5), 0.0, 200),
        (LoadReport(100, eps=-10, cpu_utilization=0.5), 1.0, 200),
        (LoadReport(100, cpu_utilization=2.0), 1.0, 50),
        (LoadReport(0, cpu_utilization=0.5), 1.0, 0),
        (LoadReport(100), 1.0, 0),
        (LoadReport(-100, cpu_utilization=0.5), 1.0, 0),
        (LoadReport(nan, cpu_utilization=0.5), 1.0, 0),
        (LoadReport(100, cpu_utilization=nan), 1.0, 0),
        (LoadReport(inf, cpu_utilization=0.5), 1.0, 0),
        (LoadReport(1e300, cpu_utilization=1e-300), 1.0, 0),
    ],
)
def test_weights_worked_out_by_hand(report, penalty, weight):
    assert weight_of(report, penalty, ()) == pytest.approx(weight)


@settings(max_examples=50, deadline=None)
@given(st.builds(LoadReport, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS), st.floats(0, 1e300))
def test_whatever_a_server_says_its_weight_is_a_finite_number(report, penalty):
    assert 0 <= weight_of(report, penalty, ("mem_utilization",)) < inf


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ((), 0.4),
        (("named_metrics.queue",), 0.7),
        (("named_metrics.queue", "utilization.disk", "named_metrics.unheard"), 0.9),
        (("mem_utilization",), 0.2),
        (("cpu_utilization", "mem_utilization"), 0.3),
        (("named_metrics.below",), 0.4),
        (("eps",), 0.4),  # that is no utilization
    ],
)
def test_named_metrics_go_before_the_others_and_the_largest_counts(names, found):
    report = LoadReport(
        eps=50,
        application_utilization=0.4,
        cpu_utilization=0.3,
        mem_utilization=0.2,
        metrics={"named_metrics.queue": 0.7, "utilization.disk": 0.9, "named_metrics.below": -1},
    )
    assert utilization(report, names) == found


def worth(load, now, blackout=10):
    (found,) = weights_at([load], now, blackout, EXPIRATION)
    return found


def test_a_weight_counts_after_the_blackout():
    load = ServerLoad()
    assert worth(load, 0.0) == 0
    load.take(200, 100.0, EXPIRATION)
    load.take(300, 109.9, EXPIRATION)

    assert worth(load, 109.999) == 0
    assert worth(load, 110.0) == 300


def test_a_weight_expires_and_then_the_blackout_begins_anew():
    load = ServerLoad()
    load.take(200, 0.0, EXPIRATION)
    assert worth(load, 179.9) == 200
    assert worth(load, 180.0) == 0
    load.take(100, 200.0, EXPIRATION)

    assert worth(load, 209.9) == 0
    assert worth(load, 210.0) == 100


def test_a_server_that_was_started_anew_has_its_blackout_again():
    load = ServerLoad()
    load.take(200, 0.0, EXPIRATION)
    load.begin_anew()
    assert worth(load, 20.0) == 0
    load.take(100, 21.0, EXPIRATION)

    assert worth(load, 30.9) == 0
    assert worth(load, 31.0) == 100


def test_without_a_blackout_the_first_report_counts():
    load = ServerLoad()
    load.take(200, 5.0, EXPIRATION)
    assert worth(load, 5.0, blackout=0) == 200


def test_a_report_without_a_weight_is_no_news():
    """It neither replaces a weight nor keeps it from expiring."""
    load = ServerLoad()
    load.take(200, 0.0, EXPIRATION)
    load.take(0.0, 100.0, EXPIRATION)

    assert worth(load, 179.0) == 200
    assert worth(load, 181.0) == 0
