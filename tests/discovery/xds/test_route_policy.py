"""What a route says of the policy: times and retries, whether they come as bytes or in JSON."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.plain import decode_plain
from svcmesh.policy.backoff import FullJitter
from svcmesh.policy.policy import Policy
from svcmesh.policy.retry import Retry
from tests.discovery.xds import plain
from tests.discovery.xds.decoded import decoded, good
from tests.servers.xds.resources import route, table, to_cluster, to_clusters
from tests.servers.xds.wire import encode


def said(host=None, to=None, **fields):
    """Return what a route with these fields says, in a virtual host with those."""
    return read(host, to, **fields).resource.of("orders").policy


def read(host=None, to=None, **fields):
    named = plain.routes("r", "c")
    (all_hosts,) = named["virtual_hosts"]
    all_hosts.update(host or {})
    all_hosts["routes"][0]["route"] = (to or {"cluster": "c"}) | fields
    return decode_plain(Kind.ROUTES, {"@type": Kind.ROUTES.value} | named)


def retries(**fields):
    return said(retry_policy=fields)


def test_a_route_that_says_nothing_of_it_sends_nothing():
    assert said() == ({}, ())
    assert good(Kind.ROUTES, encode(table("r", [route(to_clusters(a=1))]))).of("x").policy == ({}, ())


def test_bytes_say_what_json_says():
    """By the numbers of Envoy's API."""
    retry = {1: "5xx", 2: {1: 4}, 3: {1: 1, 2: 500_000_000}, 7: [503], 8: {1: {2: 100_000_000}, 2: {1: 1}}}
    action = to_cluster("c") | {8: {1: 15}, 9: retry, 36: {1: {1: 30}, 2: {1: 20}}}
    as_json = {
        "timeout": "15s",
        "maxStreamDuration": {"maxStreamDuration": "30s", "grpcTimeoutHeaderMax": "20s"},
        "retryPolicy": {
            "retryOn": "5xx",
            "numRetries": 4,
            "perTryTimeout": "1.5s",
            "retriableStatusCodes": [503],
            "retryBackOff": {"baseInterval": "0.1s", "maxInterval": "1s"},
        },
    }

    found = good(Kind.ROUTES, encode(table("r", [route(action)]))).of("orders").policy
    assert found == said(**as_json)
    assert (found.fields["timeout"], found.fields["per_try_timeout"]) == (15.0, 1.5)
    assert found.fields["retry"].max_attempts == 5
    assert found.fields["retry"].wait == FullJitter(base=0.1, cap=1.0)


@pytest.mark.parametrize(
    ("fields", "timeout"),
    [
        ({"timeout": "2.5s"}, 2.5),
        ({"timeout": "0s"}, None),
        ({"max_stream_duration": {"max_stream_duration": "3s"}}, 3.0),
        ({"max_stream_duration": {"max_stream_duration": "0s"}}, None),
        ({"max_stream_duration": {"max_stream_duration": "3s", "grpc_timeout_header_max": "9s"}}, 9.0),
        ({"max_stream_duration": {"max_stream_duration": "3s", "grpc_timeout_header_max": "0s"}}, None),
        ({"timeout": "5s", "max_stream_duration": {"max_stream_duration": "3s"}}, 3.0),
        ({"timeout": "0s", "max_stream_duration": {"max_stream_duration": "3s"}}, 3.0),
    ],
)
def test_the_shorter_of_the_two_times_counts_and_zero_is_none(fields, timeout):
    assert said(**fields) == ({"timeout": timeout}, ())


def test_retries_are_counted_beside_the_first_attempt_and_have_envoys_waits():
    found = retries(retry_on="unavailable")

    assert found.left_out == ()
    assert found.fields == {
        "per_try_timeout": None,
        "retry": Retry(
            max_attempts=2,
            on={"UNAVAILABLE", "connect-failure", "refused-stream", "reset"},
            wait=FullJitter(base=0.025, cap=0.25),
        ),
    }
    assert retries(retry_on="reset", num_retries=0).fields["retry"].max_attempts == 1


@pytest.mark.parametrize("on", ["", "retriable-headers"])
def test_retries_of_nothing_are_none(on):
    """A policy whose words mean nothing replaces the service's own all the same."""
    assert retries(retry_on=on, num_retries=7).fields["retry"] == Retry(max_attempts=1, on=(), wait=FullJitter())


def test_the_route_s_own_retries_replace_those_of_its_host():
    host = {"retry_policy": {"retry_on": "reset", "num_retries": 3}}

    assert said(host).fields["retry"].max_attempts == 4
    assert said(host, retry_policy={"retry_on": "internal"}).fields["retry"].on == {"INTERNAL"}
    assert said(host, to={"weighted_clusters": {"clusters": [{"name": "a", "weight": 1}]}}).fields["retry"]


@pytest.mark.parametrize(
    ("timeout", "per_try", "left"), [("2s", "1s", 1.0), ("2s", "2s", None), ("0s", "9s", 9.0), ("2s", "0s", None)]
)
def test_a_try_that_may_take_as_long_as_the_call_has_no_time_of_its_own(timeout, per_try, left):
    found = said(timeout=timeout, retry_policy={"retry_on": "5xx", "per_try_timeout": per_try})

    assert found.fields["per_try_timeout"] == left
    assert Policy.standard().as_sent(found.fields).per_try_timeout == left


@pytest.mark.parametrize(
    ("given", "base", "cap"),
    [
        ({"base_interval": "2s"}, 2.0, 20.0),
        ({"base_interval": "0.0000001s"}, 0.001, 0.001),
        ({"base_interval": "1s", "max_interval": "1s"}, 1.0, 1.0),
    ],
)
def test_waits_are_those_of_the_back_off(given, base, cap):
    assert retries(retry_on="5xx", retry_back_off=given).fields["retry"].wait == FullJitter(base=base, cap=cap)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"retry_policy": {"retry_on": "5xx,no-such-word"}}, "retry_on 'no-such-word'"),
        ({"retry_policy": {"retry_priority": {"name": "x"}}}, "retry_policy.retry_priority"),
        ({"retry_policy": {"retriable_headers": [{"name": "x"}]}}, "retry_policy.retriable_headers"),
        ({"retry_policy": {"per_try_idle_timeout": "1s"}}, "retry_policy.per_try_idle_timeout"),
        (
            {"retry_policy": {"retry_host_predicate": [{"name": "canary"}]}},
            "retry_policy.retry_host_predicate 'canary'",
        ),
        (
            {"retry_policy": {"rate_limited_retry_back_off": {"reset_headers": [{"name": "x-reset"}]}}},
            "retry_policy.rate_limited_retry_back_off",
        ),
        ({"retry_policy_typed_config": {"@type": "x/y"}}, "retry_policy_typed_config"),
        ({"max_grpc_timeout": "0s"}, "max_grpc_timeout"),
        (
            {"max_stream_duration": {"grpc_timeout_header_offset": "1s"}},
            "max_stream_duration.grpc_timeout_header_offset",
        ),
        ({"host": {"retry_policy_typed_config": {"@type": "x/y"}}}, "retry_policy_typed_config of the virtual host"),
        ({"idle_timeout": "1s"}, "idle_timeout"),
        ({"hedge_policy": {"hedge_on_per_try_timeout": True}}, "hedge_policy"),
        ({"host": {"hedge_policy": {"initial_requests": 2}}}, "hedge_policy of the virtual host"),
        ({"metadata_match": {"filter_metadata": {"envoy.lb": {"version": "1"}}}}, "metadata_match"),
        ({"prefix_rewrite": "/v2"}, "prefix_rewrite"),
        ({"regex_rewrite": {"substitution": "/"}}, "regex_rewrite"),
        ({"host_rewrite_literal": "other"}, "host_rewrite_literal"),
        ({"request_mirror_policies": [{"cluster": "shadow"}]}, "request_mirror_policies"),
        (
            {"to": {"weighted_clusters": {"clusters": [{"name": "c", "weight": 1, "metadata_match": {}}]}}},
            "metadata_match of a weighted cluster",
        ),
    ],
)
def test_what_ours_cannot_say_is_named(fields, told):
    assert said(**fields).left_out == (told,)


def test_what_ours_cannot_say_is_named_in_bytes_as_in_json():
    """By the numbers of Envoy's API."""
    wanted = {4: {}, 5: "/v2", 6: "other", 24: {1: 1}, 27: {3: 1}, 30: [{1: "shadow"}], 32: {}}
    found = good(Kind.ROUTES, encode(table("r", [route(to_cluster("c") | wanted)]))).of("orders").policy

    assert set(found.left_out) == {
        "metadata_match",
        "prefix_rewrite",
        "host_rewrite_literal",
        "idle_timeout",
        "hedge_policy",
        "request_mirror_policies",
        "regex_rewrite",
    }
    assert found.fields == {}


def test_what_all_our_retries_do_is_not_complained_of():
    """Other endpoints first, however often that takes another pick; and the header Retry-After."""
    kind = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    predicates = [
        {"name": "x", "typed_config": {"@type": kind}},
        {"name": "envoy.retry_host_predicates.previous_hosts"},
    ]
    limited = {"reset_headers": [{"name": "Retry-After", "format": "SECONDS"}]}
    found = retries(
        retry_on="5xx",
        retry_host_predicate=predicates,
        host_selection_retry_max_attempts=5,
        rate_limited_retry_back_off=limited,
    )

    assert found.left_out == ()


MINUS = (1 << 64) - 1
BAD = [
    ({8: {1: MINUS}}, "timeout of -1 s"),
    ({8: {1: 1, 2: 1_000_000_000}}, "timeout of 1 s and 1000000000 ns"),
    ({8: {1: 1 << 60}}, "is no time to wait"),
    ({36: {1: {1: MINUS}}}, "max_stream_duration of -1 s"),
    ({9: {3: {1: MINUS}}}, "per_try_timeout of -1 s"),
    ({9: {8: {}}}, "begins above 0"),
    ({9: {8: {1: {1: 2}, 2: {1: 1}}}}, "from 2 s to 1 s"),
]


@pytest.mark.parametrize(("action", "told"), BAD)
def test_times_that_are_none_are_refused_with_the_table(action, told):
    assert told in decoded(Kind.ROUTES, encode(table("r", [route(to_cluster("c") | action)]))).why


@settings(max_examples=150)
@given(content=st.binary(max_size=60), number=st.sampled_from([8, 9, 36]))
def test_any_bytes_are_a_policy_or_a_reason(content, number):
    """As a field of a route; what it sends makes a valid policy of whatever the service has."""
    found = decoded(Kind.ROUTES, encode(table("r", [route(to_cluster("c") | {number: content})])))

    assert (found.resource is None) == bool(found.why)
    if found.resource is not None:
        Policy.standard().as_sent(found.resource.of("x").policy.fields)


@settings(max_examples=150)
@given(
    st.builds(
        lambda *parts: dict(zip((1, 2, 3, 5, 7, 8, 11), parts, strict=True)),
        st.sampled_from(["", "5xx", "unavailable,x", "retriable-status-codes"]),
        st.fixed_dictionaries({1: st.integers(0, 2**32 - 1)}),
        st.fixed_dictionaries({1: st.integers(0, 2**64 - 1), 2: st.integers(0, 2**31)}),
        st.lists(st.fixed_dictionaries({1: st.just("n"), 3: st.binary(max_size=9)}), max_size=2),
        st.lists(st.integers(0, 2**32 - 1), max_size=3),
        st.fixed_dictionaries({1: st.fixed_dictionaries({1: st.integers(0, 2**40), 2: st.integers(0, 2**31)})}),
        st.fixed_dictionaries({1: st.lists(st.fixed_dictionaries({2: st.integers(0, 3)}), max_size=2)}),
    )
)
def test_any_retry_policy_is_one_of_ours_or_a_reason(retry):
    found = decoded(Kind.ROUTES, encode(table("r", [route(to_cluster("c") | {9: retry})])))

    assert (found.resource is None) == bool(found.why)
    if found.resource is not None:
        Policy.standard().as_sent(found.resource.of("x").policy.fields)
