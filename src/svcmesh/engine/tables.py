"""Pickers that take long to build, built where no call waits for them.

A table for hashing takes tens of milliseconds, and endpoints come and go, are ejected and return by the second. So
a change is put in force at once by leaving out of the table in force whoever is to be called no more: their keys walk
on along their own paths. The table for those who are left, and for those who came, is built later and always for the
newest state: of changes that follow each other faster than tables are built, most get none.

A table of millions of slots takes many seconds, and the worker has heartbeats to send meanwhile. So each is built on a
thread that ends with it, or soon after the worker; one at a time, and in the pauses of the worker
(`svcmesh.core.giving_way.beside`), since threads that compute only keep each other waiting, and the callers with them.
The worker orders tables and puts them in force, and when it closes it waits for none.

Only where nothing of the table in force is left, the first time above all, it is built where it is needed: by the
worker when the first endpoints come, else by whoever makes the view, before it takes the cluster's lock. Calls wait for
it as for endpoints, no longer than their deadlines: what they need meanwhile takes no lock that is held for so long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from threading import RLock

from svcmesh.balance.affinity import AffinityPicker, host_key, weights
from svcmesh.balance.cell import Cell
from svcmesh.balance.picker import LoadBalancer, Picker, addresses
from svcmesh.balance.redraw import EmptyPicker
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.giving_way import beside
from svcmesh.core.own_thread import on_own_thread
from svcmesh.engine.runtime import Runtime

_Wanted = tuple[tuple[Cell, ...], tuple[str, ...], tuple[float, ...]]
"""All that a table depends on, in the order of the list: who, placed by what, of which weight. Three tuples and not one
of thousands, which the garbage collector would have to look through with every thread waiting."""

_NONE: _Wanted = ((), (), ())


class Tables:
    """The table in force for one view, and the next one. Threads: `over` holds the cluster's lock.

    Args:
        lock: returns that lock, which is another one after a fork.
        publish: has the view ask anew, because there is a new table. Holds no lock.
    """

    def __init__(
        self, balancer: LoadBalancer, runtime: Runtime, lock: Callable[[], RLock], publish: Callable[[], object]
    ) -> None:
        self._balancer = balancer
        self._runtime = runtime
        self._lock = lock
        self._publish = publish
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget everything: cells are others in a forked child, and what was being built is not."""
        self._table: Picker = EmptyPicker(())
        self._made = self._wanted = _NONE
        self._building = False

    def over(self, cells: Sequence[Cell]) -> Picker:
        """Return a picker over ``cells``, as far as there is a table with them; see to it that there will be one."""
        self._wanted = wanted = (tuple(cells), tuple([host_key(cell) for cell in cells]), weights(cells))
        if wanted == self._made:
            return self._table
        known = set(self._table.cells)
        staying = [cell for cell in cells if cell in known]
        if not staying or not (self._building or self._runtime.worker.submit(self._build())):
            self._table, self._made = self._make(wanted), wanted
            return self._table
        self._building = True
        return Narrowed(self._table, staying)

    def _make(self, wanted: _Wanted) -> Picker:
        return self._balancer.over(wanted[0], self._runtime.rng, self._runtime.clock)

    async def _build(self) -> None:
        """Build tables until one is of the newest state, and put it in force; runs on the worker."""
        try:
            while not await self._built():
                pass
        except BaseException as error:
            # the worker ends, or a balancer that is not ours has failed; the next change tries again
            with self._lock():
                self._building = False
            if not isinstance(error, Exception):
                raise
            asyncio.get_running_loop().call_exception_handler({"message": "no new table", "exception": error})
        else:
            self._publish()

    async def _built(self) -> bool:
        """Build one, when it is its turn; return whether it is of the newest state."""
        async with self._runtime.one_table:
            wanted = self._wanted
            make = partial(beside, asyncio.get_running_loop(), partial(self._make, wanted))
            table = await on_own_thread(make, name="svcmesh-table", exit_as=RuntimeError)
        with self._lock():
            if wanted is not self._wanted and wanted != self._wanted:
                return False
            self._table, self._made, self._building = table, wanted, False
            return True


class Narrowed(Picker):
    """A table without some of its endpoints, until there is one for those that are left."""

    def __init__(self, table: Picker, staying: Sequence[Cell]) -> None:
        super().__init__(staying)
        left = set(staying)
        self._table = table
        self._gone = [cell.endpoint for cell in table.cells if cell not in left]
        self._gone_by_address = frozenset(addresses(self._gone))

    def choose(self) -> Cell | None:
        """Choose for a call without a key."""
        return self.choose_from(None, ())

    def choose_from(self, key: int | None, exclude: Collection[Endpoint]) -> Cell | None:
        """Return the first on the path of the key that stays and is not excluded."""
        table, gone = self._table, self._gone_by_address
        if isinstance(table, AffinityPicker):  # which need not be told anew on each call who is gone
            return table.choose_beyond(key, gone | addresses(exclude) if exclude else gone)
        return table.choose_from(key, [*self._gone, *exclude])
