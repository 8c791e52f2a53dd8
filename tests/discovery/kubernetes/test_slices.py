"""An EndpointSlice as a cluster writes it, and whatever else comes instead."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.elements import Known
from svcmesh.discovery.kubernetes.answers import decode_event, decode_page
from svcmesh.discovery.kubernetes.endpoints import Reading, endpoints_of
from svcmesh.discovery.kubernetes.errors import Gone, KubernetesError
from svcmesh.discovery.kubernetes.slices import Port, slice_of
from tests.servers.kubernetes.objects import endpoint, endpoint_slice, event, port, status

RECORDED = Path(__file__).parent / "recorded"


def one(endpoints=None, **fields):
    found = endpoint_slice("prod", "orders-abc", "orders", endpoints, **fields)
    found["metadata"]["resourceVersion"] = "7"
    return found


def test_a_recorded_list_is_read():
    page = decode_page((RECORDED / "list.json").read_bytes())

    assert (page.version, page.more) == ("1187392", "")
    assert [(s.name, s.service, s.version, s.family) for s in page.slices] == [
        ("orders-7xk2p", "orders", "1187214", 4),
        ("orders-fz9wd", "orders", "1186003", 6),
    ]
    found = endpoints_of(page.slices, Reading("grpc"), routed=lambda _: True)
    assert [(e.address, e.locality.zone, e.metadata["pod"], e.metadata["node"]) for e in found.endpoints] == [
        ("10.244.1.17:9090", "eu-central-1a", "orders-6d5f8c7b9-q8x2m", "ip-10-0-1-20.eu-central-1.compute.internal"),
        ("10.244.2.9:9090", "eu-central-1b", "orders-6d5f8c7b9-zk4tn", "ip-10-0-2-31.eu-central-1.compute.internal"),
    ]


def test_a_recorded_watch_is_read():
    events = [decode_event(line, "watch") for line in (RECORDED / "watch.jsonl").read_bytes().splitlines()[:-1]]

    assert [(e.version, e.deleted, e.slice and len(e.slice.entries)) for e in events] == [
        ("1187401", False, 3),
        ("1187455", False, None),
        ("1187460", True, 3),
    ]
    with pytest.raises(Gone, match=r"watch answered 410: too old resource version: 1187392 \(1190021\)"):
        decode_event((RECORDED / "watch.jsonl").read_bytes().splitlines()[-1], "watch")


@pytest.mark.parametrize(
    ("conditions", "ready", "draining"),
    [
        ({"ready": True, "serving": True, "terminating": False}, True, False),
        ({"ready": None, "serving": None, "terminating": None}, True, False),
        ({"ready": False, "serving": False, "terminating": False}, False, False),
        ({"ready": False, "serving": True, "terminating": True}, False, True),
        ({"ready": False, "serving": None, "terminating": True}, False, False),
        ({"ready": True, "serving": None, "terminating": True}, True, True),  # publishNotReadyAddresses
        ({"ready": False, "serving": True, "terminating": False}, False, False),
    ],
)
def test_conditions_say_who_takes_calls_and_who_is_about_to_go(conditions, ready, draining):
    (entry,) = slice_of(one([endpoint("10.0.0.1", **conditions)])).entries
    assert (entry.ready, entry.draining) == (ready, draining)


def test_what_may_be_missing_may_be_missing():
    bare = {"metadata": {"name": "x", "resourceVersion": "1"}, "addressType": "IPv4"}
    found = slice_of(bare | {"endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}]})
    assert (found.service, found.ports, found.left_out) == ("", (), ())
    assert [(e.host, e.ready, e.draining, e.hints) for e in found.entries] == [("10.0.0.1", True, False, ())]
    assert slice_of(bare | {"endpoints": None, "ports": None}).entries == ()


def test_only_ports_of_tcp_count():
    ports = [port(1, "a"), port(2, "b", "UDP"), port(None, "c"), {"port": 4}, {"port": 70_000}, {"port": True}, 7]
    assert slice_of(one([], ports=ports)).ports == (Port("a", 1), Port("c", None), Port("", 4))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"addressType": "Carrier pigeon"}, "its addressType is 'Carrier pigeon'"),
        ({"addressType": ["IPv4"]}, "its addressType is a list"),
        ({"endpoints": {"a": 1}}, "its endpoints are an object"),
        ({"endpoints": [{"addresses": []}]}, "endpoint 0 of slice orders-abc: it has no address"),
        ({"endpoints": [7]}, "endpoint 0 of slice orders-abc: it has no address"),
    ],
)
def test_what_cannot_be_read_is_left_out_and_told(fields, told):
    assert told in slice_of(one([]) | fields).left_out[0]


@pytest.mark.parametrize("found", [None, 7, [], {}, {"metadata": {}}, {"metadata": {"name": "x"}}])
def test_what_is_no_slice_is_refused(found):
    with pytest.raises(DiscoveryError, match="instead of an EndpointSlice"):
        slice_of(found)


def test_empty_lists_are_written_in_two_ways():
    for items in ("[]", "null"):
        assert decode_page(b'{"metadata":{"resourceVersion":"1"},"items":%b}' % items.encode()).slices == ()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "no JSON"),
        (b"<html>", "no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"null", "no list of EndpointSlices but None"),
        (b"[]", "no list of EndpointSlices but a list"),
        (b'{"items":[]}', "no list of EndpointSlices but an object"),
        (b'{"metadata":{"resourceVersion":"1"},"items":{}}', "no list"),
        (b'{"metadata":{"resourceVersion":"1"},"items":[{}]}', "instead of an EndpointSlice"),
    ],
)
def test_what_is_no_page_is_refused(body, told):
    with pytest.raises(DiscoveryError, match=told):
        decode_page(body)


@pytest.mark.parametrize(
    ("line", "kind", "told"),
    [
        (b"{", DiscoveryError, "line of 1 bytes is no JSON"),
        (b"{}", DiscoveryError, "an event that nobody knows"),
        (b'{"type":"SURPRISE"}', DiscoveryError, "of type 'SURPRISE'"),
        (b'{"type":"ADDED"}', DiscoveryError, "instead of an EndpointSlice"),
        (b'{"type":"BOOKMARK","object":{}}', DiscoveryError, "bookmark without version"),
        (b'{"type":"ERROR"}', KubernetesError, "x answered 500"),
        (
            json.dumps(event("ERROR", status(500, "", "no leader"))).encode(),
            KubernetesError,
            "x answered 500: no leader",
        ),
    ],
)
def test_what_is_no_event_is_refused(line, kind, told):
    with pytest.raises(kind, match=told):
        decode_event(line, "x")


_NAMES = """
    metadata name resourceVersion labels kubernetes.io/service-name addressType endpoints addresses conditions ready
    serving terminating zone hints forZones targetRef kind uid ports port protocol items continue type object code
    message details retryAfterSeconds
"""
_names = st.sampled_from(_NAMES.split())
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["IPv4", "IPv6", "FQDN", "10.0.0.1", "::1", "Pod", "ADDED", "DELETED", "ERROR", "BOOKMARK", "é"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=8),
    max_leaves=10,
)
_slices = st.fixed_dictionaries(
    {"metadata": st.just({"name": "x", "resourceVersion": "1"})},
    optional={
        "addressType": st.sampled_from(["IPv4", "IPv6", "FQDN"]) | _values,
        "endpoints": st.lists(
            st.fixed_dictionaries(
                {"addresses": st.lists(st.sampled_from(["10.0.0.1", "::1", "a.b", "!"]) | st.text(max_size=3))},
                optional={"conditions": _values, "hints": _values, "targetRef": _values, "zone": _values},
            )
        )
        | _values,
        "ports": st.lists(
            st.fixed_dictionaries({"port": st.integers(1, 3)}, optional={"name": st.just("http"), "protocol": _values})
        )
        | _values,
    },
)
_readings = st.builds(
    Reading, st.sampled_from([None, "http", 1, 9]), st.sampled_from([(4, 6), (4,), (6,)]), st.sampled_from(["", "a"])
)


@given(st.binary(max_size=200) | (_values | _slices).map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_page_and_an_event_or_an_error_of_ours(body):
    for decode in (decode_page, lambda line: decode_event(line, "x")):
        with suppress(DiscoveryError):
            decode(body)


@given(st.lists(_slices | _values, max_size=4), _readings)
def test_any_slices_are_endpoints_or_an_error_of_ours(found, reading):
    with suppress(DiscoveryError):
        slices = [slice_of(item) for item in found]
        seen = endpoints_of(slices, reading, routed=lambda _: True)
        assert len({e.address for e in seen.endpoints}) == len(seen.endpoints)


def test_a_slice_that_is_as_before_is_not_decoded_again():
    known = Known()
    slices = [one([endpoint("10.0.0.1")]), one([endpoint("10.0.0.2")])]
    slices[1]["metadata"] = slices[1]["metadata"] | {"name": "other"}

    def read(*items):
        body = json.dumps({"metadata": {"resourceVersion": "7"}, "items": items}).encode()
        return decode_page(body, known).slices

    before = read(*slices)
    after = read(slices[1], one([endpoint("10.0.0.3")]))
    assert after[0] is before[1]
    assert [entry.host for entry in after[1].entries] == ["10.0.0.3"]
