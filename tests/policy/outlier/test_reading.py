"""What the models do differently, as a table: a row changes only with its documentation."""

from __future__ import annotations

from svcmesh.policy.outlier.reading import READINGS, Reading

DIFFERENCES = {  # reading: what it has that Envoy has not
    "standard": {"ticks": False, "spares": True},
    "envoy": {},
    "grpc": {
        "returns_first": False,
        "overdue": True,
        "forgives_at_once": True,
        "scale": 1.0,
        "beyond": True,
        "repeats": True,
        "counts_candidate": False,
        "caps": False,
    },
}


def test_the_readings_differ_in_this_and_nothing_else():
    envoy = Reading()
    found = {
        name: {
            field: getattr(reading, field)
            for field in Reading.__slots__
            if getattr(reading, field) != getattr(envoy, field)
        }
        for name, reading in READINGS.items()
    }

    assert found == DIFFERENCES
