"""Half an answer: what fails is not gone, and what nobody could be asked for is not empty."""

from __future__ import annotations

import asyncio

import pytest

from svcmesh.core.clock import sleep_until
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.dns import addresses
from svcmesh.discovery.dns.addresses import Hosts, Known
from svcmesh.discovery.dns.records import AAAA, A
from svcmesh.testing.sim import run, virtual_clock
from tests.discovery.dns.answering import DOWN, Script, host


@pytest.fixture(autouse=True)
def routed(monkeypatch):
    """Take every address for reachable: what this machine can reach is not what is tested here."""
    monkeypatch.setattr(addresses, "reachable", tuple)
    monkeypatch.setattr(addresses, "has_route", lambda _: True)


class Look:
    def __init__(self, replies=(), *, families=(4, 6), listed=()):
        self.script = Script(replies)
        self.hosts = Hosts(self.script, families, Known(100), lambda _: list(listed), 5.0)

    def of(self, *args):
        return asyncio.run(self.hosts.of("web", *args))


def test_both_ip_versions_are_asked_for():
    look = Look({("web", A): host("10.0.0.1", ttl=9.0), ("web", AAAA): host("fd00::1", ttl=8.0)})

    assert look.of() == (("10.0.0.1", "fd00::1"), 8.0)


@pytest.mark.parametrize(("families", "kind"), [((4,), A), ((6,), AAAA)])
def test_one_ip_version_is_asked_for_where_it_is_wanted_alone(families, kind):
    look = Look(families=families)
    look.of()

    assert look.script.asked == [("web", kind)]


def test_a_host_of_one_version_waits_for_its_own_time_only():
    """That it lacks the other one is a no with a short life."""
    assert Look({("web", A): host("10.0.0.1", ttl=300.0)}).of().ttl == 300.0


def test_a_host_without_addresses_has_the_time_of_the_no():
    assert Look().of() == ((), 30.0)


def test_a_version_that_fails_keeps_its_last_addresses():
    look = Look({("web", A): host("10.0.0.1"), ("web", AAAA): host("fd00::1")})
    look.of()
    look.script.replies["web", AAAA] = DOWN
    look.script.replies["web", A] = host("10.0.0.2")

    assert look.of() == (("10.0.0.2", "fd00::1"), 5.0)


def test_a_version_that_never_answered_is_done_without():
    """Many name servers fail on AAAA for names that have no such record."""
    assert Look({("web", A): host("10.0.0.1"), ("web", AAAA): DOWN}).of() == (("10.0.0.1",), 5.0)


def test_a_no_for_one_version_and_a_failure_of_the_other_is_a_failure():
    look = Look({("web", A): DOWN})

    with pytest.raises(DiscoveryError, match="nobody answers"):
        look.of()


class Slow(Script):
    """Answers after so many seconds, by type."""

    def __init__(self, replies, **seconds):
        super().__init__(replies)
        self.seconds = {A: seconds.get("v4", 0.0), AAAA: seconds.get("v6", 0.0)}

    async def ask(self, name, kind):
        clock = virtual_clock()
        await sleep_until(clock, clock.now() + self.seconds[kind])
        return await super().ask(name, kind)


BOTH = {("web", A): host("10.0.0.1"), ("web", AAAA): host("fd00::1")}


def looked_up(script, known=None):
    """Return when there was an answer, and which."""

    async def main():
        hosts = Hosts(script, (4, 6), Known(100) if known is None else known, lambda _: [], 5.0, virtual_clock())
        found = await hosts.of("web")
        assert len(asyncio.all_tasks()) == 1, "nobody asks any more"
        return virtual_clock().now(), found

    return run(main())


@pytest.mark.parametrize(
    ("seconds", "instant", "expected"),
    [
        ({"v6": 0.9}, 0.9, (("10.0.0.1", "fd00::1"), 60.0)),
        ({"v6": 100.0}, 1.0, (("10.0.0.1",), 5.0)),
        ({"v4": 100.0, "v6": 3.0}, 4.0, (("fd00::1",), 5.0)),
    ],
)
def test_a_version_that_is_silent_is_waited_for_a_moment_once_there_is_an_address(seconds, instant, expected):
    assert looked_up(Slow(BOTH, **seconds)) == (instant, expected)


def test_a_version_that_has_become_silent_keeps_its_last_addresses():
    known = Known(100)
    looked_up(Slow(BOTH), known)

    assert looked_up(Slow(BOTH, v6=100.0), known) == (1.0, (("10.0.0.1", "fd00::1"), 5.0))


@pytest.mark.parametrize("reply", [host(), DOWN])
def test_what_leads_nowhere_ends_no_waiting(reply):
    assert looked_up(Slow(BOTH | {("web", A): reply}, v6=4.0))[0] == 4.0


def test_an_address_that_this_machine_has_no_way_to_ends_no_waiting(monkeypatch):
    monkeypatch.setattr(addresses, "has_route", lambda address: ":" in address)

    assert looked_up(Slow(BOTH, v6=4.0)) == (4.0, (("10.0.0.1", "fd00::1"), 60.0))


def test_two_failures_are_one_although_addresses_are_remembered():
    """Else nobody would hear that the name servers are gone."""
    look = Look({("web", A): host("10.0.0.1")})
    look.of()
    look.script.replies = {("web", A): DOWN, ("web", AAAA): DOWN}

    with pytest.raises(DiscoveryError, match="nobody answers"):
        look.of()


def test_what_is_given_is_not_asked_for_and_remembered():
    look = Look()
    assert look.of({4: ("10.0.0.1",)}, [4]).found == ("10.0.0.1",)
    assert look.script.asked == []

    look.script.replies = {("web", A): DOWN, ("web", AAAA): host("fd00::1")}
    assert look.of().found == ("10.0.0.1", "fd00::1")


def test_a_listed_host_is_not_asked_for():
    look = Look(listed=["127.0.0.1", "::1", "127.0.0.1"], families=(4,))

    assert look.of() == (("127.0.0.1",), 5.0)
    assert look.script.asked == []
