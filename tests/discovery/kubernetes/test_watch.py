"""The rules of lists and watches, one by one, in virtual time against an API server that a test writes down."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from svcmesh.core.clock import sleep_until
from svcmesh.core.emit import silent
from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.kubernetes import watch as module
from svcmesh.discovery.kubernetes.answers import Event, Page
from svcmesh.discovery.kubernetes.client import PAGE, Scope
from svcmesh.discovery.kubernetes.errors import Gone, KubernetesError, Unreachable
from svcmesh.discovery.kubernetes.slices import Slice
from svcmesh.discovery.kubernetes.watch import Feed, Surface
from svcmesh.discovery.pace import SPREAD
from svcmesh.testing.sim import run, virtual_clock

SCOPE = Scope("prod", "orders")


@pytest.fixture(autouse=True)
def come_back():
    """Do so as users' clients do."""


def one(name, version="1", service="orders"):
    return Slice(name, service, version, 4)


def page(version, *names, more="", service="orders"):
    return Page(tuple(one(name, service=service) for name in names), version, more)


def put(version, name, service="orders"):
    return Event(one(name, version, service), version)


def gone(version, name, service="orders"):
    return Event(one(name, version, service), version, deleted=True)


class Script:
    """A client whose n-th list and n-th watch are the n-th that were given; the last one is repeated.

    A watch is a sequence of pauses (seconds), batches (lists of events) and at last perhaps an error.
    """

    def __init__(self, pages, watches):
        self.pages, self.watches = list(pages), list(watches)
        self.listed = []  # (instant, more, limit)
        self.watched = []  # (instant, version)
        self.seconds = []

    async def page(self, scope, more="", limit=PAGE, known=None):
        assert scope == SCOPE
        self.listed.append((round(virtual_clock().now(), 3), more, limit))
        found = self.pages[min(len(self.listed), len(self.pages)) - 1]
        if isinstance(found, Exception):
            raise found
        return found

    async def watch(self, scope, version, seconds):
        assert scope == SCOPE
        clock = virtual_clock()
        self.watched.append((round(clock.now(), 3), version))
        self.seconds.append(seconds)
        for step in self.watches[min(len(self.watched), len(self.watches)) - 1]:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, float):
                await sleep_until(clock, clock.now() + step)
            else:
                yield step

    def versions(self):
        return [version for _, version in self.watched]


FOREVER = (1e9,)


def followed(pages, watches, seconds=1000.0, wait=300.0):
    """Follow for so long; return the script, ``(instant, touched, names)`` of what came, and what ended it."""
    script = Script(pages, watches)
    found = []

    async def main():
        clock = virtual_clock()
        feed = Feed(Surface(script, clock, silent, Random(1), wait), SCOPE)

        async def follow():
            async for touched in feed.follow():
                names = sorted(one.name for one in feed.of("orders"))
                found.append((round(clock.now(), 3), sorted(touched), names))
            raise AssertionError("it never ends by itself")

        task = asyncio.ensure_future(follow())
        await asyncio.wait([task, asyncio.ensure_future(sleep_until(clock, seconds))], return_when="FIRST_COMPLETED")
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            return None
        return task.exception()

    return script, found, run(main())


def test_a_list_and_then_what_changes():
    watch = (1.0, [put("12", "b")], 1.0, [gone("13", "a"), put("14", "c")], 1e9)
    script, found, _ = followed([page("10", "a")], [watch])

    assert found == [(0, ["orders"], ["a"]), (1, ["orders"], ["a", "b"]), (2, ["orders"], ["b", "c"])]
    assert script.watched == [(0, "10")]


def test_an_empty_list_is_told_too():
    assert followed([page("10")], [FOREVER])[1] == [(0, [], [])]


def test_pages_are_put_together_and_the_last_one_has_the_version():
    script, found, _ = followed([page("10", "a", more="x"), page("10", "b", more="y"), page("10", "c")], [FOREVER])

    assert found == [(0, ["orders"], ["a", "b", "c"])]
    assert [more for _, more, _ in script.listed] == ["", "x", "y"]
    assert script.versions() == ["10"]


def test_a_page_that_is_forgotten_has_everything_listed_in_one_piece():
    script, found, _ = followed([page("10", "a", more="x"), Gone("410"), page("20", "a", "b")], [FOREVER])

    assert found == [(0, ["orders"], ["a", "b"])]
    assert [(more, limit) for _, more, limit in script.listed] == [("", PAGE), ("x", PAGE), ("", 0)]


def test_a_list_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST_SLICES", 10)
    for endless in (page("10", "a", "b", more="x"), page("10", more="x")):
        assert "does not end" in str(followed([endless], [FOREVER])[2])


def test_more_slices_than_anybody_has_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST_SLICES", 10)
    watch = ([put(str(number), f"s{number}") for number in range(11)], 1e9)
    error = followed([page("10")], [watch])[2]
    assert isinstance(error, DiscoveryError)
    assert "more than 10" in str(error)


def test_a_watch_that_ends_in_time_goes_on_at_its_last_version():
    watches = [(300.0,), (100.0, [put("12", "b")], 200.0), (60.0, [Event(None, "77")], 240.0), FOREVER]
    script, found, error = followed([page("10", "a")], watches)

    assert script.watched == [(0, "10"), (300, "10"), (600, "12"), (900, "77")]
    assert len(script.listed) == 1, "nothing is listed again"
    assert [names for _, _, names in found] == [["a"], ["a", "b"], ["a", "b"]]
    assert error is None


def test_the_time_of_a_watch_is_spread_by_a_tenth():
    script, _, _ = followed([page("10")], [(300.0,)], seconds=20_000.0)

    assert 270 <= min(script.seconds) < 280
    assert 320 < max(script.seconds) <= 330


def test_versions_are_handed_back_as_they_came():
    script, _, _ = followed([page("zz-9")], [([put("b", "a"), put("a", "b")],), FOREVER])

    assert script.versions() == ["zz-9", "a"]


def test_a_watch_that_breaks_off_goes_on_where_it_was():
    """Somewhat later, since all others were cut off as well; and what comes first is what was missed."""
    watches = [(60.0, [put("12", "b")], Unreachable("cut")), ([put("13", "c")], 1e9)]
    script, found, error = followed([page("10", "a")], watches)

    (_, first), (again, second) = script.watched
    assert (first, second) == ("10", "12")
    assert 60 < again <= 60 + SPREAD
    assert found[-1][2] == ["a", "b", "c"]
    assert len(script.listed) == 1
    assert error is None


def test_a_watch_that_breaks_off_twice_without_a_word_is_a_failure():
    script, _, error = followed([page("10", "a")], [(Unreachable("cut"),)])

    assert isinstance(error, Unreachable)
    assert script.versions() == ["10", "10"]


def test_a_watch_that_is_cut_off_each_minute_is_none():
    """A load balancer does that to whoever says nothing."""
    script, _, error = followed([page("10", "a")], [(60.0, Unreachable("idle"))])

    assert error is None
    assert len(script.watched) > 10
    assert len(script.listed) == 1


@pytest.mark.parametrize("after", [(), ([put("12", "b")],), (60.0,)])
def test_a_version_that_is_forgotten_has_everything_listed_anew(after):
    script, found, error = followed([page("10", "a"), page("90", "c")], [(*after, Gone("410")), FOREVER])

    assert found[-1][1:] == (["orders"], ["c"])
    assert 0 <= script.listed[1][0] - script.watched[0][0] - (60 if after == (60.0,) else 0) <= SPREAD
    assert script.versions() == ["10", "90"]
    assert error is None


def test_a_version_that_is_forgotten_at_once_again_is_a_failure():
    script, _, error = followed([page("10", "a")], [(Gone("410"),)])

    assert isinstance(error, Gone)
    assert len(script.listed) == 2


def test_versions_that_are_forgotten_now_and_then_are_none():
    script, _, error = followed([page("10", "a")], [(100.0, Gone("410"))])

    assert error is None
    assert len(script.listed) > 5


@pytest.mark.parametrize("error", [KubernetesError("403"), DiscoveryError("nonsense")])
def test_what_the_api_server_refuses_is_a_failure_and_empties_nothing(error):
    _, found, ended = followed([page("10", "a")], [(1.0, error)])
    assert (ended, found) == (error, [(0, ["orders"], ["a"])])

    _, found, ended = followed([error], [FOREVER])
    assert (ended, found) == (error, [])


def test_watches_that_end_at_once_are_not_begun_without_pause():
    script, _, error = followed([page("10", "a")], [([Event(None, "11")],)], seconds=100.0)

    assert error is None
    assert len(script.watched) <= 4 + 100 / 2


def test_watches_that_end_at_once_and_never_say_anything_are_a_failure():
    """Of a proxy, say: nobody would hear of a change, and all would look well. After a failure everything is listed."""
    script, _, error = followed([page("10", "a")], [()], seconds=100.0)

    assert isinstance(error, Unreachable)
    assert "it ended as it began" in str(error)
    assert len(script.watched) == 2


def test_a_watch_that_was_asked_for_briefly_may_be_brief():
    script, _, error = followed([page("10", "a")], [(0.6,)], seconds=100.0, wait=1.0)

    assert error is None
    assert len(script.watched) > 20


def test_a_slice_that_changes_its_service_is_taken_from_the_other():
    watch = ([put("12", "a", "billing")], [put("13", "a", "orders")], [gone("14", "a")], [gone("15", "never")], 1e9)
    _, found, _ = followed([page("10", "a")], [watch])

    assert [(touched, names) for _, touched, names in found] == [
        (["orders"], ["a"]),
        (["billing", "orders"], []),
        (["billing", "orders"], ["a"]),
        (["orders"], []),
        (["orders"], []),
    ]


def test_what_is_no_longer_listed_is_touched():
    pages = [page("10", "a"), page("20", "b", service="billing")]
    _, found, _ = followed(pages, [(60.0, Gone("410")), FOREVER])

    assert found[-1][1:] == (["billing", "orders"], [])


@pytest.mark.parametrize("error", [Unreachable("cut"), Gone("410")])
def test_a_thousand_clients_do_not_come_back_at_once(error):
    """All were cut off in one moment; at most 5 % of them ask in any tenth of a second."""

    async def main():
        clock = virtual_clock()
        scripts = [Script([page("10", "a")], [(60.0, error), FOREVER]) for _ in range(1000)]

        async def follow(number, script):
            async for _ in Feed(Surface(script, clock, silent, Random(number), 300.0), SCOPE).follow():
                pass

        tasks = [asyncio.ensure_future(follow(number, script)) for number, script in enumerate(scripts)]
        await sleep_until(clock, 100.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return sorted(script.watched[1][0] for script in scripts)

    instants = run(main())
    assert 60.0 <= instants[0] <= instants[-1] <= 60.0 + SPREAD
    assert all(later - first > 0.1 for first, later in zip(instants, instants[50:], strict=False))
