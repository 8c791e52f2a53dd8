"""What of gRPC's service config are fields of a policy, and what spoils it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcmesh.core.errors import ConfigError
from svcmesh.policy.backoff import GrpcBackoff
from svcmesh.policy.policy import Policy
from svcmesh.policy.retry import Retry
from svcmesh.policy.service_config import policy_of

RETRIES = {
    "maxAttempts": 3,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
}


def entry(**fields):
    return {"name": [{}], **fields}


def said(*entries, **top):
    return policy_of({"methodConfig": list(entries), **top})


def retry(**changes):
    return said(entry(retryPolicy=RETRIES | changes)).fields["retry"]


def test_the_entry_for_all_methods_counts():
    found = said(entry(timeout="2.5s", retryPolicy=RETRIES))

    wait = GrpcBackoff(initial=0.1, cap=1.0, multiplier=2.0)
    expected = Retry(max_attempts=3, on={"RESOURCE_EXHAUSTED"}, wait=wait)
    assert found == ({"timeout": 2.5, "per_try_timeout": None, "retry": expected}, ())
    assert Policy.standard().as_sent(found.fields).timeout == 2.5


@pytest.mark.parametrize("name", [{}, {"service": ""}, {"service": None, "method": ""}])
def test_it_names_nothing_in_any_spelling(name):
    assert said({"name": [{"service": "a"}, name], "timeout": "1s"}).fields == {"timeout": 1.0}


@pytest.mark.parametrize("config", [{}, {"methodConfig": None}, {"methodConfig": []}])
def test_who_says_nothing_sends_nothing(config):
    assert policy_of(config) == ({}, ())


def test_no_time_at_all_is_none():
    assert said(entry(timeout="0s")) == ({}, ())


def test_more_than_five_attempts_are_five_and_that_is_named():
    found = said(entry(retryPolicy=RETRIES | {"maxAttempts": 9}))

    assert found.fields["retry"].max_attempts == 5
    assert found.left_out == ("retryPolicy.maxAttempts above 5",)


def test_unavailable_is_each_connection_that_breaks():
    assert retry(retryableStatusCodes=["UNAVAILABLE", "aborted", 13]).on == {
        "UNAVAILABLE",
        "ABORTED",
        "INTERNAL",
        "connect-failure",
        "refused-stream",
        "reset",
    }


def test_numbers_may_be_text():
    assert retry(maxAttempts="4", backoffMultiplier="1.5") == retry(maxAttempts=4, backoffMultiplier=1.5)


def test_what_has_no_field_is_named():
    found = said(
        entry(waitForReady=True, retryPolicy=RETRIES | {"perAttemptRecvTimeout": "1s"}, maxRequestMessageBytes=1),
        {"name": [{"service": "a.B", "method": "C"}, {"service": "d"}], "timeout": "9s"},
        {"timeout": "8s"},
        retryThrottling={},
        loadBalancingConfig=[],
        method_config=1,
    )

    assert set(found.fields) == {"per_try_timeout", "retry"}
    assert found.left_out == (
        "retryThrottling",
        "loadBalancingConfig",
        "method_config",
        "waitForReady",
        "maxRequestMessageBytes",
        "retryPolicy.perAttemptRecvTimeout",
        "methodConfig of a.B/C",
        "methodConfig of d/",
        "methodConfig[2], which names no method",
    )


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ([], "the service config is"),
        ({"methodConfig": {}}, "methodConfig is {}: a list"),
        ({"methodConfig": [1]}, r"methodConfig\[0\] is 1: an object"),
        ({"methodConfig": [{"name": {}}]}, r"methodConfig\[0\].name is {}: a list"),
        ({"methodConfig": [{"name": [{"method": "C"}]}]}, "name is {'method': 'C'}"),
        ({"methodConfig": [{"name": [{"service": 1}]}]}, "name is {'service': 1}"),
        ({"methodConfig": [entry(), entry()]}, "all is named by an entry already"),
        ({"methodConfig": [{"name": [{"service": "a.B"}] * 2}]}, "a.B is named by an entry already"),
        ({"methodConfig": [entry(retryPolicy=RETRIES, hedgingPolicy={})]}, "one of them"),
        *(
            ({"methodConfig": [entry(timeout=wrong)]}, "timeout is .*: seconds are wanted")
            for wrong in (1, "1", "100ms", ".1s", "1.s", "-1s", "+1s", "1e3s", "1.0000000001s", [])
        ),
        *(
            ({"methodConfig": [entry(retryPolicy=RETRIES | {key: wrong})]}, rf"retryPolicy\.{key}")
            for key, wrong in (
                ("maxAttempts", 1),
                ("maxAttempts", 4.0),
                ("maxAttempts", True),
                ("maxAttempts", 10**4000),
                ("maxAttempts", None),
                ("initialBackoff", "0s"),
                ("maxBackoff", None),
                ("backoffMultiplier", 0),
                ("backoffMultiplier", -1.0),
                ("backoffMultiplier", -(10**400)),
                ("backoffMultiplier", float("inf")),
                ("backoffMultiplier", "x"),
                ("retryableStatusCodes", []),
                ("retryableStatusCodes", "UNAVAILABLE"),
                ("retryableStatusCodes", ["OK"]),
                ("retryableStatusCodes", [0]),
                ("retryableStatusCodes", [17]),
                ("retryableStatusCodes", [["UNAVAILABLE"]]),
            )
        ),
        ({"methodConfig": [entry(), {"name": [{"service": "a"}], "timeout": 1}]}, r"methodConfig\[1\].timeout"),
    ],
)
def test_a_known_field_that_is_wrong_spoils_it_all(config, told):
    with pytest.raises(ConfigError, match=told):
        policy_of(config)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["1s", "2", "UNAVAILABLE", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "service", "timeout", "retryPolicy", *RETRIES]), inner, max_size=6)
    ),
    max_leaves=20,
)


@settings(max_examples=150)
@given(VALUES, st.dictionaries(st.sampled_from([*RETRIES]), VALUES, max_size=2))
def test_any_value_is_a_policy_or_that_error(value, changes):
    for config in (value, {"methodConfig": [entry(retryPolicy=RETRIES | changes, timeout=value)]}):
        try:
            found = policy_of(config)
        except ConfigError as error:
            str(error).encode()
            continue
        Policy.standard().as_sent(found.fields)
        "".join(found.left_out).encode()
