"""Load reports as they are spelt: protobuf's bytes, base64, JSON and text, and everything that is none of these."""

from __future__ import annotations

import base64

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh._proto.svcmesh_orca_pb2 import LoadReport as Message
from svcmesh.balance import LoadReport
from svcmesh.transport.load_report import of_bytes, of_headers, of_metadata

REPORT = LoadReport(
    rps_fractional=1000,
    eps=2,
    application_utilization=0.8,
    cpu_utilization=0.7,
    mem_utilization=0.9,
    metrics={"named_metrics.foo": 123, "named_metrics.bar": 0.2, "utilization.total": 0.5},
)
MESSAGE = Message(
    rps_fractional=1000,
    eps=2,
    application_utilization=0.8,
    cpu_utilization=0.7,
    mem_utilization=0.9,
    named_metrics={"foo": 123, "bar": 0.2},
    utilization={"total": 0.5},
)
BYTES = MESSAGE.SerializeToString()
TEXT = (
    "cpu_utilization=0.7,application_utilization=0.8,mem_utilization=0.9,rps_fractional=1000,eps=2,"
    "named_metrics.foo=123,named_metrics.bar=0.2,utilization.total=0.5"
)
JSON = (
    '{"cpu_utilization": 0.7, "application_utilization": 0.8, "mem_utilization": 0.9, "rps_fractional": 1000, "eps": 2,'
    ' "named_metrics": {"foo": 123, "bar": 0.2}, "utilization": {"total": 0.5}}'
)
SMALL = LoadReport(cpu_utilization=0.5)


def header(value, name="endpoint-load-metrics"):
    return of_headers(httpx.Headers({name: value}, encoding="latin-1"))


def test_the_bytes_are_those_of_xds():
    """Field numbers of xds.data.orca.v3.OrcaLoadReport, written by hand: 1 is cpu, 6 rps_fractional, 9 application."""
    half, ten = bytes.fromhex("000000000000e03f"), bytes.fromhex("0000000000002440")
    assert of_bytes(b"\x09" + half + b"\x31" + ten + b"\x49" + half) == LoadReport(
        rps_fractional=10, application_utilization=0.5, cpu_utilization=0.5
    )


@pytest.mark.parametrize(
    "value",
    [
        f"TEXT {TEXT}",
        f"TEXT {TEXT.replace('=', ':')}",
        "TEXT " + TEXT.replace(",", " , "),
        f"JSON {JSON}",
        f"JSON {JSON.replace('cpu_utilization', 'cpuUtilization').replace('0.9', chr(34) + '0.9' + chr(34))}",
        f"BIN {base64.b64encode(BYTES).decode()}",
    ],
)
def test_envoys_forms_of_the_header(value):
    assert header(value) == REPORT


def test_the_binary_header_goes_first_padded_or_not():
    text = base64.b64encode(BYTES).decode()
    assert header(text, "endpoint-load-metrics-bin") == header(text.rstrip("="), "Endpoint-Load-Metrics-Bin") == REPORT
    both = httpx.Headers({"endpoint-load-metrics": "TEXT eps=1", "endpoint-load-metrics-bin": text})
    assert of_headers(both) == REPORT


@pytest.mark.parametrize(
    "value",
    [
        "",
        "TEXT",
        "BAD eps=1",
        "eps=1",
        "text eps=1",
        'TEXT cpu_utilization="0.7"',
        "TEXT cpu_utilization=",
        "TEXT cpu_utilization",
        "TEXT =0.5",
        "TEXT cpu_utilization=nan",
        "TEXT cpu_utilization=inf",
        "TEXT cpu_utilization=1e999",
        "TEXT cpu_utilization=0.5,cpu_utilization=0.5",
        "TEXT cpu_utilization=0.5,unheard_of=1",
        "TEXT cpu_utilization=0.5,named_metrics.=1",
        "JSON",
        "JSON [0.5]",
        'JSON "text"',
        "JSON 0.5",
        'JSON {"cpu_utilization": "much"}',
        'JSON {"cpu_utilization": 1' + "0" * 400 + "}",
        "JSON " + "[" * 20_000,
        "JSON " + '{"named_metrics":' * 20_000,
        "BIN !",
        "BIN \u00e9",
        "BIN " + base64.b64encode(b"\xff\xff").decode(),
    ],
)
def test_what_cannot_be_read_is_no_report(value):
    """Neither an error nor half a report. Text without anything in it is a report that says nothing."""
    assert header(value) == (LoadReport() if value == "TEXT" else None)


def test_json_may_say_more_than_is_known():
    assert header('JSON {"cpu_utilization": 0.5, "later": [1, {}]}') == SMALL


def test_metadata_have_it_as_text_or_as_bytes():
    text = ("endpoint-load-metrics", "TEXT cpu_utilization=0.5")
    assert of_metadata([("x-server", "a"), text]) == SMALL
    assert of_metadata([text, ("endpoint-load-metrics-bin", BYTES)]) == REPORT
    assert of_metadata([("x-server", "a")]) is of_metadata([("endpoint-load-metrics-bin", b"\xff")]) is None


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(), st.tuples(st.sampled_from(["TEXT", "JSON", "BIN"]), st.text()).map(" ".join)))
def test_no_header_makes_it_raise(value):
    found = of_headers({"endpoint-load-metrics": value})
    assert found is None or isinstance(found, LoadReport)


@settings(max_examples=60, deadline=None)
@given(st.binary())
def test_no_bytes_make_it_raise(data):
    found = of_metadata([("endpoint-load-metrics-bin", data)])
    assert found is None or isinstance(found, LoadReport)
