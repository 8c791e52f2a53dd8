"""Least request: of a few endpoints drawn at random, the one with the fewest calls in flight. The default.

Two choices are enough: the longest queue grows with log log n instead of log n, for one comparison. An endpoint that
slows down gathers calls in flight and so gets fewer new ones before anything has failed.

- Equal weights: candidates come in pairs from a schedule (`svcmesh.balance.schedule`), drawn without replacement, and
  a tie goes to the first of the pair. The first ones take turns, so that an idle client spreads its calls evenly.
- Unequal weights: candidates are drawn by weight, and the one with less ``(active + 1) ** bias / weight`` wins. Where
  all of them are idle the first drawn wins: the draw has respected the weights already, and the formula alone would
  never call the lighter of two servers while nothing else runs. Envoy schedules this case by a weighted queue
  instead, which needs a lock and follows the load more slowly; when idle, both share by weight.

Source: Mitzenmacher, IEEE TPDS 12(10), 2001; Envoy least_request_lb.cc; gRFC A48, which draws with replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from svcmesh.balance.cell import Cell
from svcmesh.balance.configuration import Configuration
from svcmesh.balance.load import Load, by_weight, least_of, least_of_all, load_of
from svcmesh.balance.picker import Picker, Rng
from svcmesh.balance.random_choice import Random, random_choice
from svcmesh.balance.redraw import ChooseFrom, Draw, RedrawPicker, equal_weights, excluding, serving
from svcmesh.balance.schedule import Lap, laps
from svcmesh.core import checks
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError


@dataclass(frozen=True)
class LeastRequest(Configuration):
    """The least loaded of ``choice_count`` endpoints drawn at random.

    Args:
        choice_count: how many are compared, at least 2; default 2. More than there are endpoints means all of them.
        active_request_bias: with unequal weights, how strongly calls in flight count: at least 0, default 1.0. With 0
            they do not count at all and the weights alone decide. With equal weights any bias above 0 is the same.
        full_scan: compare all endpoints instead; a tie goes to a random one of the best. Time grows with their number.

    Raises:
        ConfigError: one of them is out of its range, or no number.

    Cost: O(1) with equal weights and two choices, in a few C operations; otherwise O(choice_count) draws.

    Threads: any; counts that change during the comparison can only skew that one choice.
    """

    choice_count: int = 2
    active_request_bias: float = 1.0
    full_scan: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        checks.whole("choice_count", self.choice_count, 2)
        if checks.number("active_request_bias", self.active_request_bias) < 0:
            raise ConfigError(f"active_request_bias must be at least 0, not {self.active_request_bias!r}")
        checks.flag("full_scan", self.full_scan)

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:
        """Return a picker over cells that live longer than it does."""
        drawn = serving(cells)
        if len(drawn) < 2 or self.active_request_bias == 0:
            return Random().over(cells, rng, clock)
        equal = equal_weights(drawn)
        load = load_of(self.active_request_bias, equal=equal)

        def among(allowed: Sequence[Cell]) -> Cell:
            if self.full_scan:
                return least_of_all(allowed, load, rng)
            return least_of(by_weight(allowed, self.choice_count, rng), load)

        together = min(self.choice_count, len(drawn))
        if self.full_scan:
            choose: Draw = lambda: least_of_all(drawn, load, rng)  # noqa: E731 - one of five ways to choose
        elif equal and together == 2:
            choose = _of_two(laps(drawn, rng, 2))
            return _PairPicker(cells, drawn, rng, choose, excluding(drawn, choose, among))
        elif equal:
            choose = _of_many(drawn, rng, together)
        elif together == 2 and self.active_request_bias == 1:
            choose = _of_two_by_weight(drawn, rng)
        else:
            choose = _of_many_by_weight(drawn, rng, together, load)
        return RedrawPicker(cells, choose, excluding(drawn, choose, among))


class _PairPicker(RedrawPicker):
    """The default, least of two equals, with `pick` written out.

    `pick` and `choose` have the same five lines, since a call from one to the other would cost a third of it. Each
    walks laps of its own; those of `pick` begin at the first one, since a mesh only chooses. Of two candidates it has
    the endpoint of the first one at hand, who is chosen while few are busy.
    """

    _new_lap: Callable[[], Lap[Cell]] | None = None

    def __init__(
        self, cells: Sequence[Cell], drawn: Sequence[Cell], rng: Rng, choose: Draw, choose_from: ChooseFrom
    ) -> None:
        super().__init__(cells, choose, choose_from)
        self._drawn = drawn
        self._rng = rng
        self._pair: Lap[Cell] = iter(())

    def pick(
        self,
        key: int | None = None,  # noqa: ARG002 - no affinity
        exclude: Collection[Endpoint] = (),
    ) -> Endpoint | None:
        """Return an endpoint that is not excluded, or None when there is none; the key is ignored."""
        if exclude:
            return self.pick_from(exclude)
        pair = self._pair
        try:
            one, other = next(pair)
        except StopIteration:
            one, other = self._begin_lap()
        return (one if one.started - one.finished <= other.started - other.finished else other).endpoint

    def _begin_lap(self) -> tuple[Cell, ...]:
        """Return the first pair of a new lap."""
        new_lap = self._new_lap
        if new_lap is None:
            endpoints = [cell.endpoint for cell in self._drawn]
            self._new_lap = new_lap = laps(self._drawn, self._rng, 2, of_first=endpoints)
        self._pair = pair = new_lap()
        return next(pair)


def _of_two(new_lap: Callable[[], Lap[Cell]]) -> Draw:
    """Compare two: the success path of the default. It calls nothing but the C iterator of the lap.

    Two threads may both begin a new lap: one lap is lost then, which does no harm.
    """
    pair = new_lap()

    def begin_lap() -> tuple[Cell, ...]:
        nonlocal pair
        pair = new_lap()
        return next(pair)

    def choose() -> Cell:
        try:
            one, other = next(pair)
        except StopIteration:
            one, other = begin_lap()
        return one if one.started - one.finished <= other.started - other.finished else other

    return choose


def _of_many(cells: Sequence[Cell], rng: Rng, together: int) -> Draw:
    """Compare three or more."""
    new_lap = laps(cells, rng, together)
    group = new_lap()

    def begin_lap() -> tuple[Cell, ...]:
        nonlocal group
        group = new_lap()
        return next(group)

    def choose() -> Cell:
        try:
            candidates = next(group)
        except StopIteration:
            candidates = begin_lap()
        best = candidates[0]
        lowest = best.started - best.finished
        for cell in candidates:
            active = cell.started - cell.finished
            if active < lowest:
                best, lowest = cell, active
        return best

    return choose


def _of_two_by_weight(cells: Sequence[Cell], rng: Rng) -> Draw:
    """Compare two drawn by weight; one that is drawn again is replaced once, for a choice should be one."""
    draw = random_choice(cells, rng)

    def choose() -> Cell:
        one, other = draw(), draw()
        if one is other:
            other = draw()
        first, second = one.started - one.finished, other.started - other.finished
        if first or second:  # load_of() with a bias of 1, multiplied by both weights
            return one if (first + 1) * other.endpoint.weight <= (second + 1) * one.endpoint.weight else other
        return one

    return choose


def _of_many_by_weight(cells: Sequence[Cell], rng: Rng, together: int, load: Load) -> Draw:
    """Compare any number drawn by weight, with any bias."""
    draw = random_choice(cells, rng)
    more = range(together - 1)

    def choose() -> Cell:
        candidates = [draw()]
        for _ in more:
            cell = draw()
            candidates.append(draw() if cell in candidates else cell)
        return least_of(candidates, load)

    return choose
