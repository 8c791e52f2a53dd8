"""The same endpoints again are no news, and the same complaint is made once."""

from __future__ import annotations

from svcmesh.core.endpoint import Endpoint
from svcmesh.discovery.news import News

ONE = (Endpoint("a:1"),)


def test_only_what_changed_is_news(emitted):
    news = News(emitted, "orders", "the oracle")

    first = news.of(ONE, (), version="7", authoritative=True)
    assert (first.endpoints, first.version, first.authoritative) == (ONE, "7", True)
    assert news.of(ONE, (), version="8", authoritative=True) is None
    assert news.of((Endpoint("a:1", weight=2),), (), version="9", authoritative=True) is not None
    assert news.of((), (), version="10", authoritative=False).authoritative is False
    assert news.of((), (), version="11", authoritative=True).authoritative is True, "now it is sure"
    assert emitted == []


def test_what_cannot_be_used_is_told_once(emitted):
    news = News(emitted, "orders", "the oracle")

    for left_out in (("x: no port",), ("x: no port",), (), ("x: no port", "y: no host")):
        news.of(ONE, left_out, version=None, authoritative=True)
    assert emitted.errors() == [
        "1 instances that the oracle lists cannot be used; x: no port",
        "2 instances that the oracle lists cannot be used; x: no port",
    ]
    assert {service for _, service, _ in emitted} == {"orders"}
