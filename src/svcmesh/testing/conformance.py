"""What every discovery backend must do, as tests that its author runs: ours run them, and anybody's can.

Subclass `DiscoveryConformance` in a test file, name the class ``Test…``, and say how the registry is set::

    class TestMine(DiscoveryConformance):
        def open(self):
            return MyDiscovery("http://127.0.0.1:9999")

        def put(self, service, addresses): ...  # make the registry list just these

Each test is an ordinary blocking method, which makes its own event loop: it needs pytest, or any other runner of
methods whose name begins with ``test``, and no plugin. Wire times are real, so a backend under test should be set to
look often. What the engine does for all backends (back-off, last-known-good, protection from empty answers) is no
backend's business, and is not tested here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Any, ClassVar, TypeVar, cast
from unittest import SkipTest

from svcmesh.core.errors import SvcmeshError
from svcmesh.core.snapshot import Snapshot
from svcmesh.discovery.base import Discovery
from svcmesh.mesh import Mesh

NAMES = ("", ".", "..", "a/b", "a b", "ä", "a" * 5000, "\0", "{service}", "%2e", "-", "a=b&c=d", "\ud800")
"""Service names that nobody means well. A backend answers that it has no such service, or refuses them."""

T = TypeVar("T")

_QUIET = 0.5  # seconds in which nothing changes
_MOST_YIELDS = 500  # snapshots in them; one that does not wait makes tens of thousands


class DiscoveryConformance:
    """Tests of one discovery backend.

    Attributes:
        patience: seconds within which a change of the registry has to be seen.
        service, other: names of two services that the backend can have.
        one, two: addresses that its endpoints can have.
    """

    patience: ClassVar[float] = 10.0
    service: ClassVar[str] = "orders"
    other: ClassVar[str] = "billing"
    one: ClassVar[str] = "127.0.0.1:8001"
    two: ClassVar[str] = "127.0.0.2:8001"

    def open(self) -> Discovery:
        """Return the backend, connected to the registry that `put` changes."""
        raise NotImplementedError("return the discovery that is to be tested")

    def put(self, service: str, addresses: Sequence[str]) -> None:
        """Make the registry list just these addresses for ``service``; none: it has no such service any more.

        It may block, and run a loop of its own: it is called on a thread.
        """
        raise NotImplementedError("set what the registry lists")

    def break_registry(self) -> bool:
        """Make the registry fail; return whether that can be done. Where it cannot, that test is skipped."""
        return False

    def mend_registry(self) -> None:
        """Undo `break_registry`."""

    # -- what is there ---------------------------------------------------------------------------------------------

    def test_it_is_a_discovery(self) -> None:
        """It has a ``watch``, and making it starts no thread."""
        before = threading.active_count()

        backend = self.open()
        _check(isinstance(backend, Discovery), f"{backend!r} has no method watch(service)")
        _check(threading.active_count() == before, "making it started a thread")

    def test_what_is_listed_is_yielded_at_once(self) -> None:
        """The first snapshot comes without a change, and is no empty one: that would be a service without endpoints."""
        self.put(self.service, [self.one, self.two])

        async def first() -> None:
            async with aclosing(self._watch(self.open(), self.service)) as snapshots:
                found = await asyncio.wait_for(anext(snapshots), self.patience)
                _check(isinstance(found, Snapshot), f"{found!r} was yielded, which is no Snapshot")
                _check(found.endpoints, "two endpoints are listed, and the first snapshot is empty")

        self._run(first())
        self._run(self._sees(self.open(), self.service, {self.one, self.two}))

    def test_an_unknown_service_is_empty(self) -> None:
        """It is no error, and nothing to wait for."""
        self.put(self.other, [self.one])
        self.put(self.service, [])

        self._run(self._sees(self.open(), self.service, set()))

    def test_services_are_kept_apart(self) -> None:
        """Each watch has the endpoints of its own service, also where one name begins with the other."""
        longer = self.service + "-extra"
        for name, addresses in ((self.service, [self.one]), (longer, [self.two])):
            self.put(name, addresses)
        backend = self.open()

        async def both() -> None:
            await asyncio.gather(self._sees(backend, self.service, {self.one}), self._sees(backend, longer, {self.two}))

        self._run(both())
        self.put(longer, [])

    # -- what changes ----------------------------------------------------------------------------------------------

    def test_additions_and_removals_are_yielded(self) -> None:
        """In time, without anybody asking again."""
        self.put(self.service, [self.one])
        self._run(self._follows([self.one, self.two], [self.two], [self.one]))

    def test_the_last_endpoint_can_go_and_come_back(self) -> None:
        """An empty service is a snapshot, and the watch holds."""
        self.put(self.service, [self.one])
        self._run(self._follows([], [self.one]))

    def test_a_service_may_appear_while_it_is_watched(self) -> None:
        """Callers often start before whom they call."""
        self.put(self.service, [])
        self._run(self._follows([self.one]))

    def test_two_watches_of_one_service_see_the_same(self) -> None:
        """One does not take the other's changes away, also when one of them ends."""
        self.put(self.service, [self.one])

        async def watched() -> None:
            backend = self.open()
            async with aclosing(self._watch(backend, self.service)) as first:
                async with aclosing(self._watch(backend, self.service)) as second:
                    await self._until(first, {self.one})
                    await self._until(second, {self.one})
                    await asyncio.to_thread(self.put, self.service, [self.one, self.two])
                    await self._until(first, {self.one, self.two})
                    await self._until(second, {self.one, self.two})
                await asyncio.to_thread(self.put, self.service, [self.two])
                await self._until(first, {self.two})

        self._run(watched())

    def test_a_quiet_registry_is_not_told_of_without_pause(self) -> None:
        """To yield what was yielded before is harmless, but not as fast as it goes: all services share one thread."""
        self.put(self.service, [self.one])

        async def counted() -> None:
            count, end = 0, asyncio.get_running_loop().time() + _QUIET
            with suppress(TimeoutError):
                async with asyncio.timeout_at(end), aclosing(self._watch(self.open(), self.service)) as snapshots:
                    async for _ in snapshots:
                        count += 1
                        await asyncio.sleep(0)
            _check(count <= _MOST_YIELDS, f"{count} snapshots in {_QUIET:g} s, in which nothing changed")

        self._run(counted())

    # -- beginning and ending --------------------------------------------------------------------------------------

    def test_a_watch_that_is_cancelled_ends_at_once(self) -> None:
        """Also in the middle of a wait, and it leaves no task behind."""
        self.put(self.service, [self.one])

        async def cancelled() -> None:
            before = asyncio.all_tasks()
            task = asyncio.ensure_future(self._forever(self.open()))
            await asyncio.sleep(0.2)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(task, self.patience)
            left = [task for task in asyncio.all_tasks() - before if not task.done()]
            _check(not left, f"the watch has ended, and left {left}")

        self._run(cancelled())

    def test_a_watch_can_begin_again_also_on_another_loop(self) -> None:
        """The engine does so after every failure, and a forked child does."""
        backend = self.open()
        for addresses in ([self.one], [self.two]):
            self.put(self.service, addresses)
            self._run(self._sees(backend, self.service, set(addresses)))

    def test_names_that_nobody_means_well_are_harmless(self) -> None:
        """Hosts of URLs become service names: each is empty or refused by an error of svcmesh's."""
        backend = self.open()

        async def ask(name: str) -> None:
            async with aclosing(self._watch(backend, name)) as snapshots:
                try:
                    found = await asyncio.wait_for(anext(snapshots), self.patience)
                except SvcmeshError:
                    return
                _check(isinstance(found, Snapshot), f"{name[:40]!r} yielded {found!r}")
                _check(not found.endpoints, f"{name[:40]!r} has {found.endpoints}")

        for name in NAMES:
            self._run(ask(name))

    def test_a_mesh_calls_what_is_listed(self) -> None:
        """From the registry to the endpoints of a service, and on as they change."""
        self.put(self.service, [self.one])
        with Mesh(self.open()) as mesh:
            changed = threading.Event()
            service = mesh.service(self.service)
            service.wait_ready(self.patience)
            _check({e.address for e in service.endpoints} == {self.one}, f"a mesh has {service.endpoints}")
            mesh.events.subscribe(lambda _: changed.set(), "endpoints.changed")
            self.put(self.service, [self.one, self.two])
            _check(changed.wait(self.patience), f"the mesh saw no change within {self.patience:g} s")
            _check({e.address for e in service.endpoints} == {self.one, self.two}, f"a mesh has {service.endpoints}")

    # -- failures --------------------------------------------------------------------------------------------------

    def test_a_broken_registry_is_an_error_and_never_an_empty_service(self) -> None:
        """An empty snapshot would take the endpoints away from callers that can do very well without the registry."""
        self.put(self.service, [self.one])
        backend = self.open()
        if not self.break_registry():
            raise SkipTest("break_registry is not there")
        try:

            async def fails() -> None:
                async with aclosing(self._watch(backend, self.service)) as snapshots:
                    try:
                        found = await asyncio.wait_for(anext(snapshots), self.patience)
                    except SvcmeshError:
                        return
                    raise AssertionError(f"the registry is broken, and {found!r} was yielded")

            self._run(fails())
        finally:
            self.mend_registry()
        self._run(self._recovers(backend))

    def test_a_registry_that_breaks_under_a_watch_empties_nothing(self) -> None:
        """A watch raises when it notices; until then it says nothing, and never that there is nothing."""
        self.put(self.service, [self.one])
        backend = self.open()

        async def breaks() -> bool:
            async with aclosing(self._watch(backend, self.service)) as snapshots:
                await self._until(snapshots, {self.one})
                if not await asyncio.to_thread(self.break_registry):
                    return False
                with suppress(TimeoutError, SvcmeshError):
                    async with asyncio.timeout(_QUIET):
                        async for found in snapshots:
                            _check(found.endpoints, "the registry is broken, and an empty snapshot was yielded")
                            await asyncio.sleep(0)
            return True

        broken = False
        try:
            broken = self._run(breaks())
        finally:
            self.mend_registry()
        if not broken:
            raise SkipTest("break_registry is not there")
        self._run(self._recovers(backend))

    # -- tools -----------------------------------------------------------------------------------------------------

    def _run(self, main: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            return await asyncio.wait_for(main, 10 * self.patience)

        return asyncio.run(bounded())

    @staticmethod
    def _watch(backend: Discovery, service: str) -> AsyncGenerator[Snapshot, None]:
        return cast("AsyncGenerator[Snapshot, None]", backend.watch(service))

    async def _until(self, snapshots: AsyncGenerator[Snapshot, None], expected: set[str]) -> None:
        """Read snapshots until one has just the expected addresses."""
        seen: Any = "nothing"
        try:
            async with asyncio.timeout(self.patience):
                async for snapshot in snapshots:
                    _check(isinstance(snapshot, Snapshot), f"{snapshot!r} was yielded, which is no Snapshot")
                    seen = {endpoint.address for endpoint in snapshot.endpoints}
                    if seen == expected:
                        return
                    await asyncio.sleep(0)
        except TimeoutError:
            pass
        else:
            raise AssertionError(f"the watch ended by itself after {seen}")
        raise AssertionError(f"{expected or 'nothing'} is listed; after {self.patience:g} s the watch said {seen}")

    async def _sees(self, backend: Discovery, service: str, expected: set[str]) -> None:
        async with aclosing(self._watch(backend, service)) as snapshots:
            await self._until(snapshots, expected)

    async def _recovers(self, backend: Discovery) -> None:
        """Ask a registry that is well again until it answers, as the engine does."""
        end = asyncio.get_running_loop().time() + self.patience
        while True:
            try:
                return await self._sees(backend, self.service, {self.one})
            except SvcmeshError as error:
                late = asyncio.get_running_loop().time() >= end
                _check(not late, f"{self.patience:g} s after the registry was mended: {error}")
                await asyncio.sleep(0.1)

    async def _follows(self, *states: Sequence[str]) -> None:
        async with aclosing(self._watch(self.open(), self.service)) as snapshots:
            await asyncio.wait_for(anext(snapshots), self.patience)
            for addresses in states:
                await asyncio.to_thread(self.put, self.service, addresses)
                await self._until(snapshots, set(addresses))

    async def _forever(self, backend: Discovery) -> None:
        async with aclosing(self._watch(backend, self.service)) as snapshots:
            async for _ in snapshots:
                await asyncio.sleep(0)  # else one that never waits could not even be cancelled


def _check(holds: object, told: str) -> None:
    """Fail with ``told``; a plain assert would say nothing of a package's own file, and nothing at all under ``-O``."""
    if not holds:
        raise AssertionError(told)
