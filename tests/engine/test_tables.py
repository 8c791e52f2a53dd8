"""Tables are built beside the worker, for the newest state; until then who has gone is walked past."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from threading import Event, Thread, current_thread
from threading import enumerate as enumerate_threads

import pytest

from svcmesh import Mesh, deadline
from svcmesh.balance import Maglev, hash_key
from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import Picker, Rng
from svcmesh.core import giving_way
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import DeadlineExceeded
from svcmesh.core.snapshot import Snapshot
from svcmesh.engine.cluster import Cluster
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.tables import Narrowed
from svcmesh.engine.view import View
from svcmesh.policy import OutlierDetection, Policy
from svcmesh.testing import FakeClock
from tests.engine.scripted import Stage, lost, turn
from tests.transport.grpc.kit import eventually

FIVE = tuple(Endpoint(f"10.0.0.{n}:80") for n in range(1, 6))
KEYS = [hash_key(f"key {n}") for n in range(200)]
PATIENCE = 30.0


@dataclass(frozen=True)
class Watched(Maglev):
    """A small table; ``built`` is over whom each was, and by which thread; ``gate`` holds back all but the first."""

    table_size: int = 1009
    built: list[tuple[list[str], Thread]] = field(default_factory=list, compare=False)
    gate: Event = field(default_factory=Event, compare=False)
    broken: Event = field(default_factory=Event, compare=False)

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:
        if self.built and cells:
            assert self.gate.wait(PATIENCE)
        if self.broken.is_set():
            raise ValueError("out of slots")
        if cells:
            self.built.append(([cell.endpoint.address for cell in cells], current_thread()))
        return super().over(cells, rng, clock)


class Scene:
    """A service under a watched table, with a worker."""

    def __init__(self, *, outliers: OutlierDetection | None = None) -> None:
        self.clock = FakeClock()
        self.runtime = Runtime(self.clock, random.Random(1))
        self.balancer = Watched()
        self.cluster = Cluster("service", self.runtime, timers=False)
        self.set(*FIVE)
        policy = Policy(load_balancer=self.balancer, outlier_detection=outliers)
        self.view = View(self.cluster, policy)

    def set(self, *endpoints: Endpoint) -> None:
        self.cluster.apply(Snapshot(endpoints, authoritative=True))

    def owners(self) -> list[str | None]:
        found = [self.view.picker.choose_from(key, ()) for key in KEYS]
        return [None if cell is None else cell.endpoint.address for cell in found]

    def offered(self) -> set[str]:
        return {cell.endpoint.address for cell in self.view.picker.cells}

    def close(self) -> None:
        self.balancer.gate.set()
        self.runtime.close()
        self.runtime.worker.join()


def table_of(*endpoints: Endpoint) -> list[str]:
    picker = Maglev(1009).picker(endpoints)
    return [found.address for key in KEYS if (found := picker.pick(key)) is not None]


def played(play: Callable[[Scene], None], **kwargs: OutlierDetection) -> None:
    scene = Scene(**kwargs)
    try:
        play(scene)
    finally:
        scene.close()


def test_the_first_table_is_there_at_once() -> None:
    def play(scene: Scene) -> None:
        assert scene.owners() == table_of(*FIVE)
        assert [thread for _, thread in scene.balancer.built] == [current_thread()]
        assert not scene.runtime.worker.running

    played(play)


@dataclass(frozen=True)
class Held(Watched):
    """One whose first table is held back, too; ``begun``: it is being built."""

    begun: Event = field(default_factory=Event, compare=False)

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:
        if cells:
            self.begun.set()
            assert self.gate.wait(PATIENCE)
        return super().over(cells, rng, clock)


class Five:
    """Discovery that lists five endpoints for whatever is asked for."""

    async def watch(self, service: str) -> AsyncIterator[Snapshot]:
        yield Snapshot(FIVE)
        await asyncio.Event().wait()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_calls_that_wait_for_the_first_table_end_by_their_deadlines(colour: str) -> None:
    """Those that waited when it was begun, and those that come meanwhile; an event loop goes on."""
    held = Held()
    policy = Policy(load_balancer=held, outlier_detection=OutlierDetection())
    with Mesh(Five(), policy=policy) as mesh:
        orders = mesh.service("orders")

        async def ask() -> str:
            return "answer"

        plain, awaited = orders.guard(lambda: "answer"), orders.guard(ask)
        ended: list[BaseException | str] = []

        def call(seconds: float) -> None:
            with deadline(seconds):
                try:
                    ended.append(plain() if colour == "sync" else asyncio.run(awaited()))
                except DeadlineExceeded as error:
                    ended.append(error)

        callers = [Thread(target=call, args=(0.2,))]
        callers[0].start()
        assert orders.endpoints == ()  # which begins to follow discovery, should the call come too late to
        assert held.begun.wait(PATIENCE)
        callers.append(Thread(target=call, args=(0.05,)))
        callers[1].start()
        for caller in callers:
            caller.join(10)
        in_time = list(ended)
        held.gate.set()
        for caller in callers:
            caller.join()
        assert [type(end) for end in in_time] == [DeadlineExceeded] * 2
        call(PATIENCE)
        assert ended[2:] == ["answer"]


def test_a_first_table_under_another_policy_keeps_no_failing_call_of_the_others() -> None:
    """Whoever asks for the service under it waits, and holds no lock that others need."""
    stage, held = Stage(Policy(outlier_detection=OutlierDetection()), FIVE), Held()
    asking = Thread(target=View, args=(stage.cluster, Policy(load_balancer=held)))
    failing = Thread(target=stage.fail, args=(FIVE[0], 5))
    asking.start()
    assert held.begun.wait(PATIENCE)
    failing.start()
    failing.join(10)
    in_time = not failing.is_alive()
    ejected = [*stage.view.ejections()] if in_time else []
    held.gate.set()
    asking.join()
    failing.join()

    assert in_time
    assert ejected == [FIVE[0].address]


def test_who_leaves_is_called_no_more_although_its_table_is_still_in_force() -> None:
    """Keys of others stay where they are; those of whoever left walk on along their paths."""

    def play(scene: Scene) -> None:
        before, paths = scene.owners(), Maglev(1009).picker(FIVE)
        scene.set(*FIVE[1:])

        assert len(scene.balancer.built) == 1
        meanwhile = scene.owners()
        expected = [paths.pick(key, [FIVE[0]]) for key in KEYS]
        assert meanwhile == [None if endpoint is None else endpoint.address for endpoint in expected]
        assert all(now == then for now, then in zip(meanwhile, before, strict=True) if then != FIVE[0].address)

        scene.balancer.gate.set()
        eventually(lambda: scene.owners() == table_of(*FIVE[1:]), "the new table is not in force")
        assert scene.balancer.built[1][1] is not current_thread()

    played(play)


def test_who_comes_is_called_when_there_is_a_table_with_it() -> None:
    def play(scene: Scene) -> None:
        new = Endpoint("10.0.0.9:80")
        scene.set(*FIVE, new)
        assert scene.offered() == {endpoint.address for endpoint in FIVE}

        scene.balancer.gate.set()
        eventually(lambda: scene.owners() == table_of(*FIVE, new), "the new table is not in force")

    played(play)


def test_of_changes_that_come_fast_only_the_last_gets_a_table() -> None:
    def play(scene: Scene) -> None:
        for n in range(100):
            scene.set(*FIVE[: 2 + n % 3], Endpoint(f"10.0.1.{n}:80"))
        last = {endpoint.address for endpoint in scene.cluster.offered}
        scene.balancer.gate.set()
        eventually(lambda: scene.offered() == last, "the last table is not in force")

        assert len(scene.balancer.built) <= 3, "the first, the one under way, the last"

    played(play)


def test_who_stays_keeps_its_counts() -> None:
    def play(scene: Scene) -> None:
        member = scene.view.enter(0.0, KEYS[0])
        assert member is not None
        stays = [endpoint for endpoint in FIVE if endpoint == member.endpoint]
        scene.balancer.gate.set()
        scene.set(*stays, Endpoint("10.0.0.9:80"))
        eventually(lambda: len(scene.offered()) == 2, "the new table is not in force")

        assert scene.cluster.members[member.endpoint.address] is member
        assert member in scene.view.picker.cells
        assert member.in_flight == 1
        member.finished += 1

    played(play)


def test_whoever_fails_a_call_into_an_ejection_does_not_wait_for_the_table() -> None:
    """Else 50 ms of hashing would stand in the way of the retry, or of a whole event loop."""

    def play(scene: Scene) -> None:
        member = scene.view.enter(0.0, KEYS[0])
        assert member is not None
        for _ in range(5):
            member.started += 1
            scene.view.settle(member, (), lost(), 0.0, 0.0)
        member.finished += 1

        assert len(scene.balancer.built) == 1
        assert member.endpoint.address not in set(scene.owners())

    played(play, outliers=OutlierDetection())


def test_nothing_is_built_where_nothing_changed_that_a_table_depends_on() -> None:
    def play(scene: Scene) -> None:
        scene.set(*(Endpoint(e.address, metadata={"version": "2"}) for e in FIVE))
        scene.cluster.rebuild()
        assert len(scene.balancer.built) == 1
        assert not scene.runtime.worker.running

    played(play)


def test_weights_and_names_to_hash_by_do_change_a_table() -> None:
    def play(scene: Scene) -> None:
        scene.balancer.gate.set()
        heavy = (Endpoint(FIVE[0].address, weight=7), *FIVE[1:])
        scene.set(*heavy)
        eventually(lambda: scene.owners() == table_of(*heavy), "weights")
        named = (Endpoint(FIVE[0].address, metadata={"hash_key": "other"}), *FIVE[1:])
        scene.set(*named)
        eventually(lambda: scene.owners() == table_of(*named), "names")

    played(play)


def test_a_whole_new_set_is_waited_for_as_there_is_nobody_else() -> None:
    def play(scene: Scene) -> None:
        scene.balancer.gate.set()
        others = tuple(Endpoint(f"10.0.9.{n}:80") for n in range(3))
        scene.set(*others)
        assert scene.owners() == table_of(*others)
        scene.set()
        assert set(scene.owners()) == {None}

    played(play)


def test_a_table_that_takes_long_holds_up_neither_the_worker_nor_its_end() -> None:
    """Heartbeats and watches of other services go on; who closes a mesh does not wait for what nobody will ask."""

    def play(scene: Scene) -> None:
        scene.set(*FIVE[1:])
        turn(scene.runtime)
        assert len(scene.balancer.built) == 1, "it is held back"

        scene.runtime.close()
        scene.runtime.worker.join()
        assert not scene.runtime.worker.running
        assert len(scene.balancer.built) == 1, "it still is"

        scene.balancer.gate.set()
        scene.set(*FIVE[1:3])
        assert scene.owners() == table_of(*FIVE[1:3])

    played(play)


def test_a_table_is_built_in_the_pauses_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls would wait for both."""
    monkeypatch.setattr(giving_way, "SLICE", 0.0)
    monkeypatch.setattr(giving_way, "PATIENCE", PATIENCE)
    at_work, done = Event(), Event()

    def work(_: object) -> None:
        at_work.set()
        assert done.wait(PATIENCE)

    def play(scene: Scene) -> None:
        scene.set(*FIVE[1:])
        turn(scene.runtime)
        builder = next(thread for thread in enumerate_threads() if thread.name == "svcmesh-table")
        scene.runtime.worker.call(work)
        assert at_work.wait(PATIENCE)
        scene.balancer.gate.set()
        builder.join(0.5)
        waits = builder.is_alive()
        done.set()
        assert waits
        eventually(lambda: scene.owners() == table_of(*FIVE[1:]), "the new table is not in force")

    played(play)


def test_tables_of_several_services_are_built_one_at_a_time() -> None:
    def play(scene: Scene) -> None:
        other = Cluster("other", scene.runtime, timers=False)
        other.apply(Snapshot(FIVE, authoritative=True))
        view = View(other, Policy(load_balancer=Watched(gate=scene.balancer.gate)))
        scene.set(*FIVE[1:])
        other.apply(Snapshot(FIVE[1:], authoritative=True))
        turn(scene.runtime)
        assert [thread.name for thread in enumerate_threads()].count("svcmesh-table") == 1

        scene.balancer.gate.set()
        eventually(lambda: scene.owners() == table_of(*FIVE[1:]), "the new table is not in force")
        eventually(lambda: len(view.picker.cells) == 4 and type(view.picker) is not Narrowed, "nor that of the other")

    played(play)


def test_after_a_table_that_failed_the_next_change_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    """A balancer need not be ours; what it raised is logged, and the table in force stays."""

    def play(scene: Scene) -> None:
        scene.balancer.gate.set()
        scene.balancer.broken.set()
        scene.set(*FIVE[1:])
        eventually(lambda: "no new table" in caplog.text and "out of slots" in caplog.text, "nothing was logged")
        assert scene.offered() == {endpoint.address for endpoint in FIVE[1:]}

        scene.balancer.broken.clear()
        scene.set(*FIVE[2:])
        eventually(lambda: scene.owners() == table_of(*FIVE[2:]), "the new table is not in force")

    played(play)


def test_without_a_worker_tables_are_built_where_they_are_needed() -> None:
    """In a mesh that has been closed, and in simulations."""
    stage = Stage(Policy(load_balancer=Maglev(1009)), FIVE)
    stage.set(*FIVE[1:])
    assert {cell.endpoint for cell in stage.view.picker.cells} == set(FIVE[1:])


def test_a_forked_child_builds_its_own() -> None:
    def play(scene: Scene) -> None:
        scene.set(*FIVE[1:])  # a table is being built on a thread that the child does not have
        scene.balancer.gate.set()
        scene.runtime.worker.close()
        scene.runtime.worker.join()
        scene.cluster.reset_after_fork()

        assert scene.owners() == table_of(*FIVE[1:])

    played(play)
