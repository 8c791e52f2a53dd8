"""The questions that SRV records take, and what becomes of records that cannot be used."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.dns import addresses
from svcmesh.discovery.dns.addresses import Hosts, Known
from svcmesh.discovery.dns.lookup import look_up_services
from svcmesh.discovery.dns.records import AAAA, A, Reply
from tests.discovery.dns.answering import DOWN, SRV, Script, host, services


@pytest.fixture(autouse=True)
def routed(monkeypatch):
    """Take every address for reachable."""
    monkeypatch.setattr(addresses, "reachable", tuple)


def look(script, families=(4, 6)):
    hosts = Hosts(script, families, Known(100), lambda _: [], 5.0)
    return asyncio.run(look_up_services(script, hosts, "web"))


def seen(found):
    return {endpoint.address: (endpoint.priority, endpoint.weight) for endpoint in found.endpoints}


ROWS = ((10, 6, 81, "a"), (20, 4, 82, "b"))


def test_targets_are_looked_up():
    script = Script(
        {("web", SRV): services(*ROWS), ("a", A): host("10.0.0.1", ttl=7.0), ("b", AAAA): host("fd00::2", ttl=9.0)}
    )
    found = look(script)

    assert seen(found) == {"10.0.0.1:81": (0, 6), "[fd00::2]:82": (1, 4)}
    assert found.ttl == 7.0
    assert found.left_out == ()


def test_what_came_along_is_not_asked_for():
    script = Script({("web", SRV): services(*ROWS, extra={("a", 4): ("10.0.0.1",), ("b", 4): ("10.0.0.2",)})})

    assert seen(look(script)) == {"10.0.0.1:81": (0, 6), "10.0.0.2:82": (1, 4)}
    assert script.asked == [("web", SRV)]


def test_what_came_along_is_gone_through_as_often_for_many_targets_as_for_few():
    """Each look would else hold up all watches of a process, with a thousand targets for a good part of a second."""

    class Counted(dict):
        looks = 0

        def items(self):
            type(self).looks += 1
            return super().items()

    looks = []
    for count in (1, 50):
        Counted.looks = 0
        extra = Counted({(f"t{number}", 4): (f"10.0.0.{number}",) for number in range(count)})
        rows = [(10, 1, 80, f"t{number}") for number in range(count)]
        found = look(Script({("web", SRV): replace(services(*rows), extra=extra)}))
        looks.append((len(found.endpoints), Counted.looks))

    assert [found for found, _ in looks] == [1, 50]
    assert looks[0][1] == looks[1][1]


def test_an_answer_that_brought_some_along_may_have_been_cut():
    """A version that others have is asked for, and a target that nothing came for is asked for both."""
    extra = {("a", 4): ("10.0.0.1",), ("b", 4): ("10.0.0.2",), ("b", 6): ("fd00::2",)}
    script = Script({("web", SRV): services(*ROWS, (30, 1, 83, "c"), extra=extra), ("a", AAAA): host("fd00::1")})
    found = look(script)

    assert set(script.asked) == {("web", SRV), ("a", AAAA), ("c", A), ("c", AAAA)}
    assert "[fd00::1]:81" in seen(found)


def test_targets_of_another_version_are_left_out():
    extra = {("a", 4): ("10.0.0.1",), ("b", 6): ("fd00::2",)}
    found = look(Script({("web", SRV): services(*ROWS, extra=extra)}), families=(4,))

    assert list(seen(found)) == ["10.0.0.1:81"]


def test_what_came_along_of_an_unwanted_version_answers_nothing():
    script = Script({("web", SRV): services(ROWS[0], extra={("a", 6): ("fd00::1",)}), ("a", A): host("10.0.0.1")})

    assert list(seen(look(script, families=(4,)))) == ["10.0.0.1:81"]


def test_what_cannot_be_used_is_named():
    rows = ((1, 1, 80, "a"), (1, 1, 80, "b"), (1, 1, 0, "a"), (1, 1, 80, "c"))
    script = Script({("web", SRV): services(*rows), ("a", A): host("10.0.0.1"), ("c", A): DOWN, ("c", AAAA): DOWN})
    found = look(script)

    assert list(seen(found)) == ["10.0.0.1:80"]
    assert found.left_out == ("target 'c': nobody answers", "target 'b' has no address", "target 'a' has port 0")


def test_no_target_that_can_be_looked_up_is_a_failure():
    replies = {("web", SRV): services(*ROWS)} | {(name, kind): DOWN for name in "ab" for kind in (A, AAAA)}

    with pytest.raises(DiscoveryError, match="nobody answers"):
        look(Script(replies))


def test_a_name_without_records_is_empty_and_a_decided_no_says_so():
    assert look(Script()).endpoints == ()
    assert not look(Script()).absent
    assert look(Script({("web", SRV): Reply(9.0, absent=True)})).absent
