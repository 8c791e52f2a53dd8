"""Maglev: consistent hashing by a table, the most even way to give keys to endpoints and the cheapest to ask.

Each endpoint fills a table in an order of its own, turn by turn, so that shares differ by one slot at most and a pick
is one look-up. When an endpoint leaves, its slots go to the others and few other slots change (0.2 % of the keys with
65,537 slots and ten endpoints). It is Envoy's table to the slot.

Source: Eisenbud et al., "Maglev", NSDI 2016; Envoy, maglev_lb.cc, for the weights.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import isqrt
from typing import ClassVar, Final

from svcmesh.balance import bounded_load
from svcmesh.balance.affinity import AffinityPicker, host_key, no_key, normalized, numbers
from svcmesh.balance.bounded_load import Bound
from svcmesh.balance.cell import Cell
from svcmesh.balance.configuration import Configuration
from svcmesh.balance.picker import Picker, Rng
from svcmesh.balance.redraw import EmptyPicker, serving
from svcmesh.balance.turns import turns
from svcmesh.core import checks
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.core.giving_way import giving_way
from svcmesh.core.hashing import xxh64

LARGEST: Final = 5_000_011


@dataclass(frozen=True)
class Maglev(Configuration):
    """A table whose slots belong to endpoints; a key belongs to one slot.

    Args:
        table_size: slots, a prime number up to 5,000,011; default 65,537. A hundred for each endpoint keep shares even
            to 1 %. More endpoints than slots means that some own nothing.
        hash_balance_factor: as in `RingHash`; as in Envoy, where overflow goes depends on the order of the list.

    Raises:
        ConfigError: the size is no prime or too large, or the factor is out of its range.

    Cost: a pick is two look-ups. Building takes up to a microsecond per slot, whatever the weights, and a byte for
    each, or two with more than 256 endpoints.

    Threads: any; nothing changes after building.
    """

    affinity: ClassVar[bool] = True
    slow: ClassVar[bool] = True

    table_size: int = 65537
    hash_balance_factor: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        checks.whole("table_size", self.table_size, 2)
        if self.table_size > LARGEST:
            raise ConfigError(f"table_size must be at most {LARGEST:,}, not {checks.shown(self.table_size)}")
        if not _is_prime(self.table_size):
            raise ConfigError(f"table_size must be a prime number, not {self.table_size!r}")
        bounded_load.check(self.hash_balance_factor)

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:  # noqa: ARG002 - it measures no time
        """Return a picker over cells that live longer than it does."""
        listed = serving(cells)
        if not listed:
            return EmptyPicker(cells)
        bound = Bound(listed, normalized(listed), self.hash_balance_factor) if self.hash_balance_factor else None
        names = [host_key(cell) for cell in giving_way(listed, AT_ONCE)]
        order = sorted(range(len(names)), key=names.__getitem__)  # for the table that of the list must not matter
        placed = [listed[place] for place in order]
        table = _filled([names[place] for place in order], normalized(placed), self.table_size)
        return (_TablePicker if bound is None else _WalkedPicker)(cells, table, placed, rng, bound)


class _WalkedPicker(AffinityPicker):
    """The table and its paths.

    The table has numbers of endpoints: in references it would be four to eight times as large, more than the caches
    near the processor hold, and the larger part of a pick would be to wait for it.
    """

    def __init__(
        self, cells: Sequence[Cell], table: array[int], placed: Sequence[Cell], rng: Rng, bound: Bound | None
    ) -> None:
        super().__init__(cells, rng, bound)
        self._table = table
        self._size = len(table)
        self._placed = placed
        self._endpoints = [cell.endpoint for cell in placed]

    def owner(self, key: int) -> Cell:
        """Return whose the key is."""
        return self._placed[self._table[(key & _MASK) % self._size]]

    def path(self, key: int) -> Iterator[Cell]:
        """Yield the owners of the slots that Envoy's retries look at, then whoever none of them belonged to."""
        key &= _MASK
        seen = set[int]()
        looks = (self._table[((key ^ -attempt) & _MASK) % self._size] for attempt in range(_LOOKS))
        count = len(self._placed)
        rest = ((key + step) % count for step in range(count))
        for number in chain(looks, rest):
            if number not in seen:
                seen.add(number)
                yield self._placed[number]


class _TablePicker(_WalkedPicker):
    """Without a bound: two look-ups, with `pick` written out."""

    def pick(self, key: int | None = None, exclude: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return the endpoint that the key belongs to, or the next of its path that is not excluded, or None."""
        if exclude or key is None:
            cell = self.choose_from(key, exclude)
            return None if cell is None else cell.endpoint
        try:
            return self._endpoints[self._table[(key & _MASK) % self._size]]
        except TypeError:
            raise no_key(key) from None


_MASK = (1 << 64) - 1
_LOOKS = 16
AT_ONCE: Final = 16  # endpoints or turns, of some microseconds each


def _filled(names: Sequence[str], shares: Sequence[float], size: int) -> array[int]:
    """Return the table, as places in the list: in each turn whoever has it takes the next free slot of its order.

    Where most slots are taken, to try one after the other takes long: half of all tries would be for the last few
    hundred slots, up to ``size`` of them for one. For those it is worked out when each would come, as
    ``first + tries * skip = slot`` modulo a prime number has one solution.
    """
    table = numbers(len(names))
    table.frombytes(bytes(table.itemsize * size))
    taken = bytearray(size)
    slots = [xxh64(name) % size for name in giving_way(names, AT_ONCE)]
    skips = [xxh64(name, 1) % (size - 1) + 1 for name in giving_way(names, AT_ONCE)]
    order = turns(shares, size)
    for number in giving_way(islice(order, size - isqrt(size)), AT_ONCE):
        slot, skip = slots[number], skips[number]
        while taken[slot]:
            slot = (slot + skip) % size
        taken[slot] = True
        table[slot] = number
        slots[number] = (slot + skip) % size
    free = list(_zeros(taken))
    for number in giving_way(order):
        first, skip = slots[number], skips[number]
        inverse = pow(skip, -1, size)
        tries = min([(slot - first) * inverse % size for slot in free])
        slot = (first + tries * skip) % size
        free.remove(slot)
        table[slot] = number
    return table


def _zeros(taken: bytearray) -> Iterator[int]:
    slot = taken.find(0)
    while slot >= 0:
        yield slot
        slot = taken.find(0, slot + 1)


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, isqrt(number) + 1))
