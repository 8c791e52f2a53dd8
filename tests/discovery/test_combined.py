"""Several sources as one, in virtual time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import svcmesh
from svcmesh.core.clock import sleep_until
from svcmesh.core.emit import silent
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError, DiscoveryError
from svcmesh.discovery import first, union
from svcmesh.discovery.base import Lag
from svcmesh.discovery.combined import joined
from svcmesh.discovery.uri_parts import Surroundings
from svcmesh.testing.sim import run, virtual_clock
from tests.discovery.scripted import Scripted, addresses, listed

A, B, NONE = listed("10.0.0.1:80"), listed("10.0.0.2:80"), listed()


@pytest.fixture(autouse=True)
def come_back():
    """Do so as users' clients do."""


def opened(combined, emit=silent):
    return combined.opened(Surroundings(virtual_clock(), emit, {}))


async def after(seconds):
    await sleep_until(virtual_clock(), virtual_clock().now() + seconds)


async def pending(watch, seconds):
    """Return the task of the next snapshot, which does not come within so many seconds."""
    task = asyncio.ensure_future(anext(watch))
    await after(seconds)
    assert not task.done()
    return task


# -- the first -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected", "instant"),
    [
        ([A, B], ["10.0.0.1:80"], 0),
        ([NONE, B], ["10.0.0.2:80"], 0),
        (["down", B], ["10.0.0.2:80"], 0),
        ([None, B], ["10.0.0.2:80"], 5),
        ([None, NONE, B], ["10.0.0.2:80"], 5),
        ([NONE, NONE], [], 0),
    ],
    ids=["the preferred", "without endpoints", "that fails", "that is silent", "two of them", "all without"],
)
def test_the_first_that_has_endpoints_counts(said, expected, instant):
    async def main():
        watch = opened(first(*map(Scripted, said))).watch("web")
        found = await addresses(watch), virtual_clock().now()
        await watch.aclose()
        return found

    assert run(main()) == (expected, instant)


def test_a_source_that_fails_is_waited_for_and_gone_back_to():
    async def main():
        one, two = Scripted(A), Scripted(B)
        watch = opened(first(one, two)).watch("web")
        assert await addresses(watch) == ["10.0.0.1:80"]
        one.say("down")
        task = await pending(watch, 4.9)
        assert [e.address for e in (await task).endpoints] == ["10.0.0.2:80"]
        assert 5.0 <= virtual_clock().now() <= 10.0
        one.say(A)
        assert await addresses(watch) == ["10.0.0.1:80"]
        await watch.aclose()
        return one.open, two.open

    assert run(main()) == (0, 0)


@pytest.fixture
def drawn(monkeypatch):
    """Have strands draw what a test says."""

    def draw(number):
        monkeypatch.setattr("svcmesh.discovery.strand.Random", lambda: SimpleNamespace(random=lambda: number))

    return draw


@pytest.mark.parametrize("draw", [0.0, 0.1, 0.199, 0.201, 0.9, 1.0 - 2**-53])
@pytest.mark.parametrize("seconds", [0.01, 1.0, 4.99])
def test_a_failure_shorter_than_the_patience_changes_nothing(drawn, draw, seconds):
    """Whenever in that time the source happens to be asked again."""

    async def main():
        one, two = Scripted(A), Scripted(B)
        watch = opened(first(one, two)).watch("web")
        await anext(watch)
        one.say("down")
        task = await pending(watch, seconds)
        one.say(listed("10.0.0.1:80"))
        found = (await task).endpoints
        await watch.aclose()
        return [endpoint.address for endpoint in found]

    drawn(draw)
    assert run(main()) == ["10.0.0.1:80"]


def test_without_patience_a_failure_passes_the_source_over_at_once():
    async def main():
        one = Scripted(A)
        watch = opened(first(one, Scripted(B), patience=0)).watch("web")
        await anext(watch)
        one.say("down")
        found = await addresses(watch), virtual_clock().now()
        await watch.aclose()
        return found

    assert run(main()) == (["10.0.0.2:80"], 0)


def test_a_source_that_is_silent_after_a_failure_is_waited_for_no_longer(drawn):
    async def main():
        one = Scripted(A)
        watch = opened(first(one, Scripted(B))).watch("web")
        await anext(watch)
        one.say("down")
        task = await pending(watch, 1.0)
        one.say(None)
        found = [endpoint.address for endpoint in (await task).endpoints], virtual_clock().now()
        await watch.aclose()
        return found

    drawn(0.9)
    assert run(main()) == (["10.0.0.2:80"], 10)


def test_nothing_is_no_answer_while_another_source_fails():
    """What the failing one has, nobody else can know to be nothing: an outage of a registry would empty services."""

    async def main():
        for said in (["down", listed(authoritative=True)], [NONE, "down"], ["down", "out"]):
            watch = opened(first(*map(Scripted, said))).watch("web")
            with pytest.raises(DiscoveryError, match="down"):
                await anext(watch)

    run(main())


def test_when_all_fail_that_is_told_with_each_reason():
    async def main():
        one, two = Scripted(A), Scripted("two is down")
        watch = opened(first(one, two)).watch("web")
        await anext(watch)
        one.say("one is down")
        with pytest.raises(DiscoveryError, match=r"of 2 sources.*one is down; two is down"):
            await anext(watch)

    run(main())


def test_sources_that_are_silent_for_ever_are_waited_for():
    """As a single one is; a call that waits has a deadline."""

    async def main():
        one = Scripted()
        watch = opened(first(one, Scripted())).watch("web")
        task = await pending(watch, 1000.0)
        one.say(A)
        assert (await task).endpoints == A.endpoints
        await watch.aclose()

    run(main())


# -- all together --------------------------------------------------------------------------------------------------


def test_a_union_has_the_endpoints_of_all():
    async def main():
        one, two = Scripted(A), Scripted(B)
        watch = opened(union(one, two)).watch("web")
        assert await addresses(watch) == ["10.0.0.1:80", "10.0.0.2:80"]
        two.say(listed("10.0.0.3:80"))
        assert await addresses(watch) == ["10.0.0.1:80", "10.0.0.3:80"]
        await watch.aclose()
        return one.open, two.open

    assert run(main()) == (0, 0)


def test_a_source_that_fails_keeps_what_it_said():
    async def main():
        one, two = Scripted(A), Scripted(B)
        watch = opened(union(one, two)).watch("web")
        await anext(watch)
        one.say("down")
        task = await pending(watch, 1000.0)
        two.say(NONE)
        assert [e.address for e in (await task).endpoints] == ["10.0.0.1:80"]
        await watch.aclose()

    run(main())


@pytest.mark.parametrize(("said", "instant"), [([A, None], 5), ([A, "down"], 0)])
def test_a_source_without_an_answer_holds_the_others_up_for_a_while_only(said, instant):
    async def main():
        watch = opened(union(*map(Scripted, said))).watch("web")
        found = await addresses(watch), virtual_clock().now()
        await watch.aclose()
        return found

    assert run(main()) == (["10.0.0.1:80"], instant)


def test_after_a_failure_of_all_what_they_said_still_counts():
    """The engine asks again; the first that is back does not take the endpoints of the others away."""

    async def main():
        one, two = Scripted(A), Scripted(B)
        both = opened(union(one, two))
        watch = both.watch("web")
        await anext(watch)
        one.say("down")
        two.say("down")
        with pytest.raises(DiscoveryError, match="of 2 sources"):
            await anext(watch)
        one.say(A)
        again = both.watch("web")
        assert await addresses(again) == ["10.0.0.1:80", "10.0.0.2:80"]
        await again.aclose()

    run(main())


def test_since_when_a_part_of_a_union_fails_is_known_until_it_answers():
    async def main():
        one, two = Scripted(A), Scripted(B)
        both = opened(union(one, two))
        watch = both.watch("web")
        await anext(watch)
        assert both.lag("web") is None
        one.say("down")
        task = await pending(watch, 60.0)
        assert both.lag("web") == Lag(0.0, "1 of 2 sources: down")
        assert both.lag("other") is None
        one.say(listed("10.0.0.3:80"))
        await task
        assert both.lag("web") is None
        await watch.aclose()

    run(main())


def test_what_was_out_of_date_before_a_failure_of_all_still_is():
    async def main():
        one, two = Scripted(A), Scripted(B)
        both = opened(union(one, two))
        watch = both.watch("web")
        await anext(watch)
        one.say("down")
        task = await pending(watch, 60.0)
        two.say("down")
        with pytest.raises(DiscoveryError, match="of 2 sources"):
            await task
        assert both.lag("web") is None, "nobody watches: that the watch fails is known elsewhere"
        two.say(B)
        again = both.watch("web")
        await anext(again)
        assert both.lag("web") == Lag(0.0, "1 of 2 sources: down")
        await again.aclose()

    run(main())


def test_nothing_of_some_is_no_answer_while_another_never_answered():
    async def main():
        watch = opened(union(Scripted(listed(authoritative=True)), Scripted("down"))).watch("web")
        with pytest.raises(DiscoveryError, match="down"):
            await anext(watch)

    run(main())


def test_priorities_make_the_others_a_spare():
    one = listed(Endpoint("a:1"), Endpoint("b:1", priority=3))
    two = listed(Endpoint("b:1"), Endpoint("c:1", priority=1))

    assert {e.address: e.priority for e in joined([one, two], (0, 1)).endpoints} == {"a:1": 0, "b:1": 1, "c:1": 2}
    assert {e.address: e.priority for e in joined([one, two], (1, 0)).endpoints} == {"b:1": 0, "c:1": 1, "a:1": 2}
    assert {e.address: e.priority for e in joined([None, two], (0, 1)).endpoints} == {"b:1": 0, "c:1": 1}


def test_a_union_of_given_lists_is_given():
    yes, no = listed("a:1", authoritative=True), listed("b:1")

    assert joined([yes, yes], (0, 0)).authoritative
    assert not joined([yes, no], (0, 0)).authoritative
    assert not joined([yes, None], (0, 0)).authoritative


@given(
    st.lists(
        st.none() | st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=5, unique_by=lambda e: e[0]),
        max_size=4,
    ),
    st.data(),
)
def test_any_union_has_every_address_once_and_tiers_without_gaps(sources, data):
    priorities = data.draw(st.lists(st.integers(0, 3), min_size=len(sources), max_size=len(sources)))
    said = [None if s is None else listed(*(Endpoint(f"10.0.0.{n}:80", priority=p) for n, p in s)) for s in sources]
    found = joined(said, priorities).endpoints

    assert {e.address for e in found} == {e.address for s in said if s for e in s.endpoints}
    assert {e.priority for e in found} == set(range(len({e.priority for e in found})))


def test_a_source_that_loses_a_cancellation_keeps_nobody_from_ending():
    class Losing:
        async def watch(self, service):
            while True:
                yield A
                try:
                    await after(1.0)
                except asyncio.CancelledError:
                    continue

    async def main():
        watch = opened(union(Losing(), Scripted(B))).watch("web")
        await anext(watch)
        await asyncio.wait_for(watch.aclose(), 60.0)

    run(main())


# -- both ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [first, union])
def test_a_source_that_fails_and_returns_is_told(how, emitted):
    async def main():
        one, two = Scripted("down"), Scripted(B)
        watch = opened(how(one, two), emitted).watch("web")
        await anext(watch)
        one.say(A)
        await anext(watch)
        await watch.aclose()

    run(main())
    assert [name for name, _, _ in emitted] == ["discovery.failed", "discovery.recovered"]
    assert emitted[0][2]["error"] == "down"


@pytest.mark.parametrize("how", [first, union])
def test_a_failing_source_is_asked_with_growing_pauses(how):
    async def main():
        one = Scripted("down")
        watch = opened(how(one, Scripted(B))).watch("web")
        await anext(watch)
        await pending(watch, 60.0)
        return one.watches

    assert 12 < run(main()) < 60


@pytest.mark.parametrize("how", [first, union])
def test_doubts_reach_the_sources(how):
    one = Scripted(A)
    how(one, {"web": ["a:1"]}).refresh("web")

    assert one.refreshed == ["web"]


@pytest.mark.parametrize("how", [first, union])
def test_names_of_all_are_known(how):
    assert how({"Orders": ["a:1"]}, Scripted(), {"stock": [], "Orders": []}).names == ("Orders", "stock")


@pytest.mark.parametrize("how", [first, union])
def test_sources_are_what_a_mesh_takes(how, tmp_path):
    file = tmp_path / "mesh.json"
    file.write_text('{"web": ["10.0.0.1:80"]}')
    with svcmesh.Mesh(how(f"file://{file}", {"web": ["10.0.0.2:80"]})) as mesh:
        service = mesh.service("web")
        service.wait_ready(10)
        assert service.endpoints[0].address == "10.0.0.1:80"


@pytest.mark.parametrize("how", [first, union])
def test_bad_sources_are_refused_when_they_are_combined(how):
    for sources in ((), ("orders",), (7,), ("static://a",)):
        with pytest.raises(ConfigError):
            how(*sources)
    with pytest.raises(ConfigError, match="patience"):
        how({}, patience=-1)


def test_priorities_are_one_for_each_source():
    for priorities in ((0,), (0, 1, 2), (0, -1), (0, 1.5)):
        with pytest.raises(ConfigError, match="priorities"):
            union({}, {}, priorities=priorities)


@pytest.mark.parametrize("how", [first, union])
async def test_without_a_mesh_they_go_by_the_systems_clock(how):
    watch = how({"web": ["a:1"]}).watch("web")
    try:
        assert await addresses(watch) == ["a:1"]
    finally:
        await watch.aclose()
