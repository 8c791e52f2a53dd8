"""Peak EWMA: of two endpoints the one expected to answer sooner, by its latencies and the calls it has in flight.

The cost of an endpoint is an average of its latencies that jumps to each new peak at once and comes down slowly, times
the calls in flight. So one slow answer is enough to be avoided, and only time and good answers win the calls back.
Where endpoints differ in speed, or one of them stalls, this cuts the tail that `LeastRequest` leaves.

All costs decay at one rate, so which of two is lower does not change by waiting. The pick therefore reads no clock and
computes no exponential: each end of a call stores the logarithm of the cost as if it had decayed from the clock's
zero, and a pick compares two of those plus the logarithms of the calls in flight.

Source: Finagle, PeakEwma.scala; tower, peak_ewma.rs. Unlike Finagle's, a look at a cost does not restart its average:
there the looks of other calls take weight from the next observation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp, inf, log
from typing import Final

from svcmesh.balance.cell import Cell
from svcmesh.balance.configuration import Configuration
from svcmesh.balance.picker import Picker, Rng
from svcmesh.balance.random_choice import random_choice
from svcmesh.balance.redraw import EmptyPicker, RedrawPicker, equal_weights, excluding, serving
from svcmesh.balance.schedule import LONG, Lap, laps
from svcmesh.core import checks
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Endpoint

UNKNOWN: Final = -inf  # the level of an endpoint that nothing is known of: called first, but by one call only
BUSY_UNKNOWN: Final = 1e12  # and its level while that call has not answered
SHORTEST: Final = 1e-9  # a latency of 0 has no logarithm
WORST: Final = 60.0  # doubling its cost at each failure must not banish an endpoint for ever


@dataclass(frozen=True)
class PeakEwma(Configuration):
    """Of two endpoints drawn at random, the one with the lower expected latency times calls in flight.

    Args:
        decay_time: seconds in which a latency loses all but 37 % of its weight, more than 0; default 10.
        failure_penalty: seconds that a failed call counts for, at least, more than 0; default 1. A failure that comes
            fast would otherwise look like a fast answer and attract calls; each counts for at least twice the cost so
            far, but not for more than 60 s, or than the penalty where that is longer.

    With unequal weights, candidates are drawn by weight. An endpoint that nothing is known of gets one call at once;
    until that has ended it gets others only where no other is drawn, or one that is as unknown.

    Raises:
        ConfigError: a value outside its range.

    Cost: O(1); a pick reads no clock. The end of a call takes a clock, an exponential and a logarithm.

    Threads: any; ends that coincide may lose one observation of two.
    """

    decay_time: float = 10.0
    failure_penalty: float = 1.0
    _kept: str = field(init=False, repr=False, compare=False)  # a text has its hash at hand, which each end asks for

    def __post_init__(self) -> None:
        """Check every field."""
        checks.duration("decay_time", self.decay_time)
        checks.duration("failure_penalty", self.failure_penalty)
        object.__setattr__(self, "_kept", f"latency by {self.decay_time!r} and {self.failure_penalty!r}")

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:
        """Return a picker over cells that live longer than it does."""
        drawn = serving(cells)
        if not drawn:
            return EmptyPicker(cells)
        return _EwmaPicker(cells, drawn, self, rng, clock)

    def latency_of(self, cell: Cell) -> Latency:
        """Return what is known of a cell: the same for all balancers that are equal to this one."""
        latency: Latency | None = cell.kept.get(self._kept)
        return cell.kept.setdefault(self._kept, Latency(cell)) if latency is None else latency

    def latencies_of(self, cells: Sequence[Cell]) -> list[Latency]:
        """Return what is known of each of these cells; of most of thousands something is."""
        kept = self._kept
        return [cell.kept.get(kept) or self.latency_of(cell) for cell in cells]

    def learn(self, cell: Cell, seconds: float, now: float, failed: bool | None) -> None:
        """Take in the end of an attempt; see `svcmesh.balance.picker.Learning`."""
        latency: Latency | None = cell.kept.get(self._kept)
        if latency is None:
            latency = self.latency_of(cell)
        if failed:
            latency.fail(seconds, now, self)
        elif failed is None:
            latency.wait(seconds, now, self.decay_time)
        else:
            latency.observe(seconds, now, self.decay_time)


class Latency:
    """What is known of the latency of one endpoint; it stays with its cell.

    Attributes:
        cost: the average, in seconds, as of ``stamp``. level: ``log(cost) + stamp / decay_time``.
    """

    __slots__ = ("cell", "cost", "level", "stamp")

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.cost = 0.0
        self.stamp = -inf
        self.level = UNKNOWN

    def fail(self, seconds: float, now: float, config: PeakEwma) -> None:
        """Take in a failure after ``seconds``, as a latency that is no advantage."""
        doubled = 2 * self.worth(now, config.decay_time)
        self.observe(max(min(seconds, WORST), config.failure_penalty, min(doubled, WORST)), now, config.decay_time)

    def wait(self, seconds: float, now: float, decay_time: float) -> None:
        """Take in that an answer would have taken longer than this; what it says of nobody else is no news."""
        if self.level != UNKNOWN and seconds > self.worth(now, decay_time):
            self.observe(seconds, now, decay_time)

    def worth(self, now: float, decay_time: float) -> float:
        """Return the cost as it has decayed until ``now``, in seconds."""
        return self.cost and self.cost * exp((self.stamp - max(now, self.stamp)) / decay_time)

    def observe(self, seconds: float, now: float, decay_time: float) -> None:
        """Take in a latency: at once if it is a peak, else by the time since the last one."""
        stamp, cost = self.stamp, self.cost
        if now < stamp:  # noqa: PLR1730 - max() would take twice as long
            now = stamp  # a clock that was set back must not raise
        if seconds > cost:  # noqa: SIM108 - there is more to say on one side
            cost = seconds
        else:
            cost = seconds + (cost - seconds) * exp((stamp - now) / decay_time)
        if cost < SHORTEST:  # noqa: PLR1730 - as above
            cost = SHORTEST
        self.cost = cost
        self.stamp = now
        self.level = log(cost) + now / decay_time


class _EwmaPicker(RedrawPicker):
    """Compare two levels; learn at each end of a call."""

    def __init__(self, cells: Sequence[Cell], drawn: Sequence[Cell], config: PeakEwma, rng: Rng, clock: Clock) -> None:
        if cells[0].owner is not None:
            for cell in cells:
                cell.learnt = config.latency_of(cell)
        choose = _lower_of_two(config.latencies_of(drawn), rng) if len(drawn) > 1 else lambda: drawn[0]

        def among(allowed: Sequence[Cell]) -> Cell:
            return min(allowed, key=lambda cell: _load(config.latency_of(cell)))

        super().__init__(cells, choose, excluding(drawn, choose, among))
        self._config = config
        self._decay_time = config.decay_time
        self._now = clock.now

    def finished(self, endpoint: Endpoint, seconds: float, failed: bool) -> None:
        """Count an attempt as ended, and learn from the time it took."""
        try:
            cell = endpoint._cell  # noqa: SLF001 - as in `Picker.started`
            if cell.owner is self._owner and not failed:
                cell.finished += 1
                latency: Latency = cell.learnt  # from here on `Latency.observe`, written out
                decay_time, now = self._decay_time, self._now()
                stamp, cost = latency.stamp, latency.cost
                if now < stamp:  # noqa: PLR1730
                    now = stamp
                if seconds < cost:
                    seconds += (cost - seconds) * exp((stamp - now) / decay_time)
                if seconds < SHORTEST:  # noqa: PLR1730
                    seconds = SHORTEST
                latency.cost = seconds
                latency.stamp = now
                latency.level = log(seconds) + now / decay_time
                return
        except AttributeError:
            pass
        found = self._by_address.get(endpoint.address)
        if found is not None:
            found.finished += 1
            self._config.learn(found, seconds, self._now(), failed)


_LOGS = tuple(log(count + 1) for count in range(1024))


def _load(latency: Latency) -> float:
    """Return the logarithm of the load, for comparison."""
    active = latency.cell.in_flight
    if latency.level == UNKNOWN:
        return BUSY_UNKNOWN + active if active else UNKNOWN
    return latency.level + log(max(0, active) + 1)


def _lower_of_two(known: list[Latency], rng: Rng) -> Callable[[], Cell]:
    """Return a function that draws two and returns the one of lower load; the first of equals."""
    new_pairs = _pairs(known, rng)
    pair, logs, unknown = new_pairs(), _LOGS, UNKNOWN

    def begin() -> tuple[Latency, ...]:
        nonlocal pair
        pair = new_pairs()
        return next(pair)

    def choose() -> Cell:
        try:
            one, other = next(pair)
        except StopIteration:
            one, other = begin()
        first, second = one.cell, other.cell
        try:
            low = one.level + logs[first.started - first.finished]
            high = other.level + logs[second.started - second.finished]
        except IndexError:
            low = high = unknown  # more calls in flight than logarithms at hand
        if low == unknown or high == unknown:  # noqa: PLR1714 - a tuple of them would cost more
            return first if _load(one) <= _load(other) else second
        return first if low <= high else second

    return choose


def _pairs(known: list[Latency], rng: Rng) -> Callable[[], Lap[Latency]]:
    """Return a function that starts a new lap of pairs: of all in turn, or with unequal weights drawn by these."""
    cells = [latency.cell for latency in known]
    if equal_weights(cells):
        return laps(known, rng, 2, beside=[cells, [cell.endpoint for cell in cells]])
    by_cell = dict(zip(cells, known, strict=True))
    draw = random_choice(cells, rng)

    def lap() -> Lap[Latency]:
        first, second = [[by_cell[draw()] for _ in range(LONG)] for _ in range(2)]
        other = [y if x is not y else by_cell[draw()] for x, y in zip(first, second, strict=True)]
        return zip(first, other, strict=True)

    return lap
