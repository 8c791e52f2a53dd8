"""A watch outlives its registry: back-off, last known good, visible age, and nothing left open."""

from __future__ import annotations

import asyncio
import random

import pytest

from svcmesh.core.clock import sleep_until
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import DiscoveryError
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.watch import watch
from svcmesh.engine.watch_state import WatchState
from svcmesh.testing.sim import run, virtual_clock


def snapshot(text):
    return Snapshot(tuple(Endpoint(f"{letter}:1") for letter in text))


@pytest.fixture(autouse=True)
def come_back():
    """Do so as users' clients do."""


class Scripted:
    """A backend whose n-th watch does what the n-th script says; the last one is repeated.

    A script holds seconds to wait, letters to yield as endpoints, anything else to yield as it is, and errors.
    """

    def __init__(self, *scripts):
        self.scripts = scripts
        self.watches = []  # instants
        self.closed = 0
        self.open = 0

    async def watch(self, service):
        clock = virtual_clock()
        script = self.scripts[min(len(self.watches), len(self.scripts) - 1)]
        self.watches.append(clock.now())
        self.open += 1
        try:
            for step in script:
                if isinstance(step, int | float):
                    await sleep_until(clock, clock.now() + step)
                elif isinstance(step, BaseException):
                    raise step
                else:
                    yield snapshot(step) if isinstance(step, str) else step
        finally:
            self.open -= 1
            self.closed += 1


class Run:
    """What a watch of ``discovery`` did in ``seconds`` of virtual time."""

    def __init__(self, discovery, seconds=100.0, seed=1, cancel=True, max_stale=None):
        self.max_stale = max_stale
        self.published = []
        self.events = []
        self.failures = []
        self.state = WatchState()
        self.error = None
        self.ages = []
        run(self._main(discovery, seconds, random.Random(seed)))

    async def _main(self, discovery, seconds, rng):
        clock = virtual_clock()
        task = asyncio.ensure_future(
            watch(
                discovery,
                "orders",
                clock=clock,
                rng=rng,
                publish=lambda s: self.published.append((round(clock.now(), 3), "".join(e.host for e in s.endpoints))),
                emit=lambda name, service, **fields: self.events.append((name, service, fields)),
                failed=self.failures.append,
                state=self.state,
                max_stale=self.max_stale,
            )
        )
        await asyncio.wait([task, asyncio.ensure_future(sleep_until(clock, seconds))], return_when="FIRST_COMPLETED")
        self.age = self.state.age(clock.now())
        task.cancel()
        await asyncio.wait([task])
        self.error = None if task.cancelled() else task.exception()

    def names(self):
        return [name for name, _, _ in self.events]


DOWN = DiscoveryError("registry down")


def test_snapshots_are_published():
    discovery = Scripted(["ab", 10, "abc", 1000])
    result = Run(discovery)

    assert result.published == [(0, "ab"), (10, "abc")]
    assert result.events == []
    assert result.age == 0.0


def test_a_failure_takes_nothing_away_and_is_told():
    result = Run(Scripted(["ab", 10, DOWN], [1000]))

    assert result.published == [(0, "ab")]
    ((name, service, fields),) = result.events
    assert (name, service, fields["error"]) == ("discovery.failed", "orders", "registry down")
    assert 0 <= fields["retry_in"] <= 5.0
    assert result.failures == ["registry down"]
    assert result.age == 90.0, "since the watch broke"


def test_recovery_is_told_and_ends_the_age():
    result = Run(Scripted(["ab", 10, DOWN], [DOWN], [5, "ab", 1000]))

    assert result.names() == ["discovery.failed", "discovery.failed", "discovery.recovered"]
    assert result.published == [(0, "ab")], "nothing changed"
    assert result.failures == ["registry down", "registry down", None]
    assert result.age == 0.0


def test_what_is_known_is_dropped_when_it_is_too_old_and_comes_back_with_the_next_answer():
    """Once per outage, at the instant, although nothing is asked just then; what calls are told says why."""
    result = Run(Scripted(["ab", 10, DOWN], [60, DOWN], ["ab", 1000]), seconds=300, max_stale=20)

    (_, first), (dropped, nobody), (back, again) = result.published
    assert (first, nobody, again) == ("ab", "", "ab")
    assert 30 <= dropped <= 30.1, "20 s after the watch broke"
    assert back >= 70
    assert result.names() == ["discovery.failed", "discovery.expired", "discovery.failed", "discovery.recovered"]
    assert result.events[1] == ("discovery.expired", "orders", {"age": 20.0})
    too_old = "registry down; what was known is not used any more (max_stale)"
    assert result.failures == ["registry down", too_old, too_old, None]
    assert not result.state.expired


def test_an_outage_that_is_shorter_than_the_limit_drops_nothing():
    """Nor do many of them together: each answer begins anew."""
    discovery = Scripted(*[["ab", 10, DOWN], [5, DOWN]] * 10, ["ab", 1000])
    result = Run(discovery, seconds=400, max_stale=30)

    assert result.published == [(0, "ab")]
    assert "discovery.expired" not in result.names()


def test_without_an_answer_nothing_can_be_too_old():
    assert Run(Scripted([DOWN]), max_stale=5).published == []


def test_before_the_first_answer_there_is_no_age():
    assert Run(Scripted([DOWN])).age is None


def test_back_off_grows_and_is_capped_at_five_seconds():
    discovery = Scripted([DOWN])
    result = Run(discovery, seconds=600.0)
    waits = [fields["retry_in"] for _, _, fields in result.events]

    assert all(wait <= min(5.0, 0.1 * 2 ** (number - 1)) for number, wait in enumerate(waits, 1))
    assert min(waits[7:]) > 4.5


def test_back_off_starts_again_after_a_watch_that_held():
    """With a moment of this client's own, since others have lost the registry in the same one."""
    waits = [Run(Scripted(*[[DOWN]] * 8, ["ab", 10, DOWN], [1000]), seed=seed).events[-1] for seed in range(40)]

    assert min(fields["retry_in"] for *_, fields in waits) < 1.0
    assert 4.0 < max(fields["retry_in"] for *_, fields in waits) <= 5.0


def test_a_backend_that_answers_and_breaks_at_once_is_not_asked_without_pause():
    discovery = Scripted(["ab", DOWN])
    Run(discovery, seconds=600.0)

    assert len(discovery.watches) < 600 / 5 * 1.1


@pytest.mark.parametrize(("asked_for", "earliest"), [(3.0, 3.0), (3600.0, 5.0)])
def test_a_registry_may_ask_for_more_time_and_those_whom_it_asks_do_not_come_together(asked_for, earliest):
    """A loaded one, and one that took a token's rights, tell all of their clients the same in one moment."""
    script = [DiscoveryError("busy", retry_after=asked_for)]
    waits = [Run(Scripted(script, [1000]), seed=seed).events[0][2]["retry_in"] for seed in range(40)]

    assert earliest <= min(waits) < earliest + 0.5
    assert earliest + 3.5 < max(waits) <= earliest + 4.0


def test_a_backend_that_asks_for_nonsense_is_watched_on():
    nonsense = DiscoveryError("busy", retry_after="soon")
    result = Run(Scripted([nonsense], ["ab", 1000]))

    assert [name for name, *_ in result.events] == ["discovery.failed", "discovery.recovered"]


@pytest.mark.parametrize("away", [0.0, 0.5, 2.0, 30.0])
def test_a_thousand_clients_do_not_come_back_together(away):
    """They lose the registry in one moment; at most 5 % of them ask it in any tenth of a second once it is back."""
    lost, back = 60.0, 60.0 + away
    instants = []

    class Registry:
        async def watch(self, service):
            clock = virtual_clock()
            now = clock.now()
            if lost <= now < back:
                raise DOWN
            if now >= back:
                instants.append(now)
            yield snapshot("ab")
            await sleep_until(clock, lost if now < lost else 1e9)
            raise DOWN

    async def main():
        clock = virtual_clock()
        common = {"clock": clock, "publish": lambda _: None, "emit": lambda *_, **__: None}
        clients = [
            asyncio.ensure_future(watch(Registry(), "orders", rng=random.Random(number), **common))
            for number in range(1000)
        ]
        await sleep_until(clock, back + 20.0)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    run(main())
    assert len(instants) == 1000
    instants.sort()
    assert all(later - first > 0.1 for first, later in zip(instants, instants[50:], strict=False))


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ([], "the watch ended by itself"),
        (["ab"], "the watch ended by itself"),
        ([ZeroDivisionError("bug")], "ZeroDivisionError: bug"),
        ([OSError(111, "Connection refused")], "ConnectionRefusedError: .*Connection refused"),
        ([["a:1"]], "Scripted.watch yielded .'a:1'., which is no Snapshot"),
        ([asyncio.CancelledError()], "CancelledError"),
    ],
)
def test_whatever_a_backend_does_the_watch_goes_on(script, told):
    """An end, a bug, nonsense, or a cancelled task of the backend's own: each is a failure, and it is asked again."""
    discovery = Scripted(script, [1, "xyz", 1000])
    result = Run(discovery)

    assert result.names() == ["discovery.failed", "discovery.recovered"]
    with pytest.raises(DiscoveryError, match=told):
        raise DiscoveryError(result.events[0][2]["error"])
    assert result.published[-1][1] == "xyz"


@pytest.mark.parametrize("broken", [object(), Scripted])
def test_a_backend_that_cannot_even_be_asked_is_a_failure_too(broken):
    assert set(Run(broken, seconds=10).names()) == {"discovery.failed"}


@pytest.mark.parametrize("script", [["ab", 1, DOWN], ["ab"], ["ab", 1000]])
def test_every_generator_is_closed(script):
    discovery = Scripted(script)
    Run(discovery, seconds=20.0)

    assert discovery.open == 0
    assert discovery.closed == len(discovery.watches) > 0


def test_a_backend_that_fails_while_it_is_closed_harms_nothing():
    class Clumsy:
        async def watch(self, service):
            try:
                yield snapshot("ab")
                await asyncio.get_running_loop().create_future()
            finally:
                raise ValueError("while closing")

    assert Run(Clumsy(), seconds=1).published == [(0, "ab")]


def test_an_iterator_that_cannot_be_closed_will_do():
    class Endless:
        def watch(self, service):
            return self

        def __aiter__(self):
            return self

        async def __anext__(self):
            await sleep_until(virtual_clock(), virtual_clock().now() + 1.0)
            return snapshot("ab")

    assert Run(Endless()).published == [(1, "ab")]


def test_cancelling_ends_it_at_once():
    result = Run(Scripted(["ab", 1000]), seconds=1.0)

    assert result.error is None
    assert result.events == []


def test_an_empty_answer_of_a_registry_that_restarts_takes_nothing_away():
    result = Run(Scripted(["ab", 10, DOWN], ["", 1, DOWN], ["", 2, "abc", 1000]))

    assert [text for _, text in result.published] == ["ab", "abc"]


def test_what_publishing_raises_is_told_and_the_watch_holds():
    async def main():
        clock = virtual_clock()
        events = []

        def publish(found):
            if len(found.endpoints) == 2:
                raise RuntimeError("no picker for two")
            events.append(len(found.endpoints))

        state = WatchState()
        task = asyncio.ensure_future(
            watch(
                Scripted(["ab", 10, "abc", 1000]),
                "orders",
                clock=clock,
                rng=random.Random(1),
                publish=publish,
                emit=lambda name, service, **fields: events.append((name, fields)),
                state=state,
            )
        )
        await sleep_until(clock, 20.0)
        task.cancel()
        await asyncio.wait([task])
        return events, state

    events, state = run(main())
    assert events == [("discovery.failed", {"error": "RuntimeError: no picker for two", "retry_in": 0.0}), 3]
    assert state.failing_since is None


def test_a_backend_that_loses_a_cancellation_keeps_nobody_from_ending():
    """A mesh that is closed waits for its watches. In Python 3.11 `asyncio.wait_for` loses one now and then."""

    class Losing:
        async def watch(self, service):
            while True:
                yield Snapshot(())
                try:
                    await sleep_until(virtual_clock(), virtual_clock().now() + 1.0)
                except asyncio.CancelledError:
                    continue

    async def main():
        clock = virtual_clock()
        watching = asyncio.ensure_future(
            watch(
                Losing(),
                "web",
                clock=clock,
                rng=random.Random(1),
                publish=lambda _: None,
                emit=lambda *_, **__: None,
            )
        )
        await sleep_until(clock, 0.5)
        watching.cancel()
        await asyncio.wait([watching], timeout=60.0)
        assert watching.cancelled()

    run(main())
