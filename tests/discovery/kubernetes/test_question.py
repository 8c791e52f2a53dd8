"""The table of good and bad URIs, and of names that services are called by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery.kubernetes.endpoints import Reading
from svcmesh.discovery.kubernetes.question import Question, names_service, question_of
from svcmesh.discovery.uri import parse


@pytest.mark.parametrize(
    ("uri", "service", "expected"),
    [
        ("k8s://", "orders", ("", "orders", None)),
        ("k8s://", "Orders", ("", "orders", None)),
        ("k8s://", "orders.prod", ("prod", "orders", None)),
        ("k8s://", "orders.prod.svc", ("prod", "orders", None)),
        ("k8s://", "orders.prod.svc.cluster.local", ("prod", "orders", None)),
        ("k8s://", "orders.prod.svc.cluster.local.:http", ("prod", "orders", "http")),
        ("k8s://", "prod/orders:8080", ("prod", "orders", 8080)),
        ("k8s:///", "orders", ("", "orders", None)),
        ("k8s://prod/", "orders", ("prod", "orders", None)),
        ("k8s://prod/", "orders:grpc", ("prod", "orders", "grpc")),
        ("k8s://prod/{service}:grpc", "orders", ("prod", "orders", "grpc")),
        ("k8s://{service}:80", "orders.prod", ("prod", "orders", 80)),
        ("k8s://prod/team-{service}", "orders", ("prod", "team-orders", None)),
        ("k8s://orders", "x", ("", "orders", None)),
        ("k8s:///orders", "x", ("", "orders", None)),
        ("k8s://orders:http", "x", ("", "orders", "http")),
        ("k8s://orders.prod:http", "x", ("prod", "orders", "http")),
        ("k8s://prod/orders:http", "x", ("prod", "orders", "http")),
        ("K8S://prod/orders:65535", "x", ("prod", "orders", 65535)),
    ],
)
def test_a_uri_and_a_name_say_which_service_is_meant(uri, service, expected):
    assert question_of(parse(uri)).about(service) == expected


@pytest.mark.parametrize(
    ("uri", "alone"),
    [("k8s://", False), ("k8s://prod/", False), ("k8s://{service}:80", False), ("k8s://orders", True)],
)
def test_some_stand_for_a_service_alone(uri, alone):
    assert names_service(parse(uri)) is alone


def test_keys_say_how_it_is_watched():
    uri = "k8s://prod/orders:80?zone=eu-1a&family=6&wait=60s&kubeconfig=/k/c&context=east"
    question = question_of(parse(uri))
    assert (question.wait, question.kubeconfig, question.context) == (60.0, "/k/c", "east")
    assert question.reading(question.about("x")) == Reading(80, (6,), "eu-1a")
    assert question_of(parse("k8s://")).wait == 300.0


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("k8s://prod/orders/80", "write k8s://"),
        ("k8s://prod:80/orders", "write k8s://"),
        ("k8s://orders:", "write k8s://"),
        ("k8s://{name}", "write k8s://"),
        ("k8s://prod/{service", "write k8s://"),
        ("k8s://secret@orders", "token does not stand in the URI"),
        ("k8s://Prod/orders", "no namespace in Kubernetes is called 'Prod'"),
        ("k8s://prod/orders_1", "no service in Kubernetes is called 'orders_1'"),
        ("k8s://prod/orders.x", "no service in Kubernetes is called 'orders.x'"),
        ("k8s://a.b.c", "no service in Kubernetes is called 'a.b.c'"),
        ("k8s://orders:0", "port '0'"),
        ("k8s://orders:70000", "port '70000'"),
        ("k8s://orders:Grpc", "no port in Kubernetes is called 'Grpc'"),
        ("k8s://orders?port=80", "unknown key 'port'"),
        ("k8s://orders?family=5", "family is 4, 6 or any"),
        ("k8s://orders?wait=0", "wait is a time"),
        ("k8s://orders?zone=", "zone has no value"),
    ],
)
def test_bad_uris_say_what_is_wrong(uri, told):
    with pytest.raises(ConfigError, match=told) as caught:
        question_of(parse(uri))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b/c", "/a", "a b", "ä", "a" * 64, "a.b.c", "a.", "-", "a:", "a:b:c"]
)
def test_names_that_nothing_can_have_are_refused(name):
    with pytest.raises(DiscoveryError, match=r"in Kubernetes is called|after ':'"):
        Question().about(name)


@given(st.text(max_size=30) | st.from_regex(r"[a-z./:-]{1,20}", fullmatch=True))
def test_any_name_is_a_target_or_refused(name):
    try:
        target = Question().about(name)
    except DiscoveryError:
        return
    assert Question().about(f"{target.namespace}/{target.name}" if target.namespace else target.name)[:2] == target[:2]
