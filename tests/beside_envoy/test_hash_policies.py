"""What an Envoy makes a key of, svcmesh makes it of: the same requests, by the same rules, go to the same servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from svcmesh import Endpoint
from svcmesh.balance import Cookie, Header, Maglev, Query, Source
from svcmesh.balance.hash_on import Rule, key_of
from svcmesh.transport.http.subject import JOINED, HttpSubject
from tests.servers.envoy_proxy import EnvoyProxy, cluster
from tests.servers.upstreams import Upstreams

KINDS: dict[type[Rule], tuple[str, str]] = {
    Header: ("header", "header_name"),
    Cookie: ("cookie", "name"),
    Query: ("query_parameter", "name"),
}

USER = Header("x-user")
APART = ["x-session-id", "accept-language", "forwarded"]
"""Of whose values Envoy hashes each."""

RULES: dict[str, list[Rule]] = {
    "header": [USER],
    "cookie": [Cookie("user")],
    "query": [Query("user")],
    "source": [Source("127.0.0.1")],
    "twice": [USER, USER],
    "mixed": [USER, Cookie("user"), Query("user")],
    "terminal": [Header("x-user", terminal=True), Cookie("user", terminal=True), Query("user")],
    **{name: [Header(name)] for name in [":path", ":authority", ":method", ":scheme", *APART, *sorted(JOINED)]},
}

Request = tuple[str, str, list[tuple[str, bytes]]]
"""The rules that it is for, its target, and its headers."""

VALUES = [[b"ann"], [b""], ["é".encode()], [b"a, b"], [b"foo", b"bar"], [b"bar", b"foo", b""]]
COOKIES = [
    [b"a=1; user=7"],
    [b"a=1;user=7;;"],
    [b"a=1;   user=7"],
    [b"user; user=7"],
    [b"user=7 ; b=2"],
    [b"user=7\t; b=2"],
    [b"user = 7"],
    [b"a=1;\tuser=7"],
    [b"user=a b"],
    [b'user="7"'],
    [b'user="7" ; b=2'],
    [b'user="7'],
    [b'user="'],
    [b'user=""; user=8'],
    [b"user=; user=8"],
    [b"user=7; user=8"],
    [b"user=7=8"],
    [b"User=7"],
    [b"a=1,user=7"],
    [b"a=1", b"user=9"],
]
TARGETS = ["/", "/?", "/?user", "/?user=", "/?user=7", "/?a=1&user=7&user=8", "/?a&&user=7", "/x?y?user=7", "/?User=7"]
TARGETS += ["/?user=a%20b", "/?user=a+b", "/?user=%C3%A9", "/?%75ser=7", "/?user=7=8", "/?user=a;b", "/?user=a/b?c"]

REQUESTS: list[Request] = [
    *(("header", "/", [("x-user", value) for value in values]) for values in VALUES),
    *(("cookie", "/", [("cookie", value) for value in values]) for values in COOKIES),
    *(("query", target, []) for target in TARGETS),
    *((rules, "/", [("x-user", b"1")]) for rules in ("source", "twice", "mixed", "terminal")),
    *((rules, "/?user=3", [("cookie", b"user=2")]) for rules in ("mixed", "terminal")),
    *((rules, "/?user=3", []) for rules in ("mixed", "terminal")),
    *((name, "/a/b?c=1&d", []) for name in (":path", ":authority", ":method", ":scheme")),
    *((name, "/", [(name, b"one"), (name, b"two")]) for name in [*APART, *sorted(JOINED)]),
]


def policy_of(rule: Rule) -> dict[str, Any]:
    """Return a rule as Envoy has it."""
    if isinstance(rule, Source):
        return {"connection_properties": {"source_ip": True}, "terminal": rule.terminal}
    kind, field = KINDS[type(rule)]
    return {kind: {field: vars(rule)["name"]}, "terminal": rule.terminal}


def _encoded(headers: list[tuple[str, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value) for name, value in headers]


@pytest.fixture(scope="module")
def servers() -> Iterator[Upstreams]:
    with Upstreams(15) as found:
        yield found


@pytest.fixture(scope="module")
def proxy(servers: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyProxy]:
    policies = {name: [policy_of(rule) for rule in rules] for name, rules in RULES.items()}
    clusters = [cluster("orders", servers.addresses, lb_policy="MAGLEV")]
    with EnvoyProxy(tmp_path_factory.mktemp("envoy"), clusters, policies=policies) as found:
        yield found


def test_every_request_goes_where_envoy_sends_it(proxy: EnvoyProxy, servers: Upstreams) -> None:
    """Those of which no rule finds anything go anywhere, there as well."""
    picker = Maglev().picker([Endpoint(address) for address in servers.addresses])
    anywhere = 0
    for rules, target, headers in REQUESTS:
        request = httpx.Request("GET", "http://orders" + target, headers=_encoded([("host", b"orders"), *headers]))
        key = key_of(RULES[rules], HttpSubject(request))
        sent = [("x-cluster", "orders"), ("x-policy", rules), *headers]
        theirs = {proxy.get(target, sent) for _ in range(20 if key is None else 1)}
        if key is None:
            anywhere += 1
            assert len(theirs) > 1, (rules, target, headers)
        else:
            owner = picker.pick(key)
            assert owner is not None
            assert theirs == {owner.address}, (rules, target, headers)
    assert 0 < anywhere < len(REQUESTS) / 3
