"""Weighted round robin by what servers report of their load: gRPC's ``weighted_round_robin``.

`LeastRequest` and `PeakEwma` go by what one client sees. Where many clients share servers of unequal strength, or the
servers do work that no client sees, only the servers know how busy they are. Each report makes a weight; every
``weight_update_period`` the weights make a schedule, which is walked until the next one.

The next schedule is made by the first pick after its time has come. So there is no timer: a client that makes no calls
does no work, and one without a mesh has the same picker.

Source: gRFC A58; Envoy, client_side_weighted_round_robin, which is equal but for the weight of endpoints of which
nothing is known: their median where gRPC, and this, has the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice

from svcmesh.balance.cell import Cell
from svcmesh.balance.configuration import Configuration
from svcmesh.balance.load_report import LoadReport
from svcmesh.balance.picker import Picker, Rng
from svcmesh.balance.redraw import Draw, EmptyPicker, RedrawPicker, excluding, serving
from svcmesh.balance.server_load import ServerLoad, weight_of, weights_at
from svcmesh.balance.static_stride import laps, scaled
from svcmesh.core import checks
from svcmesh.core.clock import Clock
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError

SHORTEST = 0.1
"""Seconds between two schedules, at least."""


@dataclass(frozen=True)
class OrcaWeightedRoundRobin(Configuration):
    """Each endpoint in its turn, as often as its own reports of its load say (ORCA).

    Reports come with answers: in the header ``endpoint-load-metrics`` of HTTP, in trailing metadata of that name of
    gRPC (grpcio shows ``endpoint-load-metrics-bin``, in which gRPC's servers send them by themselves, to no program).
    A weight is calls per second by utilization, where errors add to the latter. An
    endpoint that has not reported, or not for long enough, has the mean of the others; where nobody has, this is
    `RoundRobin`. The registry's weights do not count, except that 0 takes no traffic.

    Args:
        blackout_period: seconds for which an endpoint must have reported before its weight counts, at least 0; default
            10. They begin anew after an expiration, and after a refused connection: another process answers then.
        weight_expiration_period: seconds without a report after which its weight counts no more, more than 0; default
            180.
        weight_update_period: seconds between two schedules; default 1. Less than 0.1 counts as 0.1.
        error_utilization_penalty: what the share of errors, ``eps / rps_fractional``, is multiplied by before it is
            added to the utilization, at least 0; default 1.0.
        metric_names_for_computing_utilization: metrics of which the largest is the utilization, such as
            ``"named_metrics.queue"``, ``"utilization.disk"`` or ``"mem_utilization"``; default none. Where none of them
            is above 0, it is ``application_utilization``, and where that is not, ``cpu_utilization``.

    Raises:
        ConfigError: a value outside its range.

    Cost: a pick is O(1), a look at the clock and a step of a C iterator; one pick in each period takes O(n).

    Threads: any; of schedules that are made at the same time one is used.
    """

    blackout_period: float = 10.0
    weight_expiration_period: float = 180.0
    weight_update_period: float = 1.0
    error_utilization_penalty: float = 1.0
    metric_names_for_computing_utilization: Iterable[str] = ()
    _kept: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check every field, and store the names as a tuple."""
        checks.duration("blackout_period", self.blackout_period, zero=True)
        checks.duration("weight_expiration_period", self.weight_expiration_period)
        checks.duration("weight_update_period", self.weight_update_period)
        if checks.number("error_utilization_penalty", self.error_utilization_penalty) < 0:
            raise ConfigError(f"error_utilization_penalty must be at least 0, not {self.error_utilization_penalty!r}")
        names = _names(self.metric_names_for_computing_utilization)
        object.__setattr__(self, "metric_names_for_computing_utilization", names)
        told = self.error_utilization_penalty, self.weight_expiration_period, names
        object.__setattr__(self, "_kept", f"load by {told!r}")

    def over(self, cells: Sequence[Cell], rng: Rng, clock: Clock) -> Picker:
        """Return a picker over cells that live longer than it does."""
        drawn = serving(cells)
        return _OrcaPicker(cells, drawn, self, rng, clock) if drawn else EmptyPicker(cells)

    def load_of(self, cell: Cell) -> ServerLoad:
        """Return what the reports of a cell have come to: the same for all balancers that weigh them as this one."""
        load: ServerLoad | None = cell.kept.get(self._kept)
        return cell.kept.setdefault(self._kept, ServerLoad()) if load is None else load

    def reported(self, cell: Cell, report: LoadReport, now: float) -> None:
        """Take in a report; see `svcmesh.balance.picker.Reported`."""
        names = tuple(self.metric_names_for_computing_utilization)
        weight = weight_of(report, self.error_utilization_penalty, names)
        self.load_of(cell).take(weight, now, self.weight_expiration_period)

    def refused(self, cell: Cell) -> None:
        """Take note that a cell has refused a connection; see `svcmesh.balance.picker.Reported`.

        gRFC A58 has the blackout begin anew with each new connection. The channels of grpcio tell nobody of one.
        """
        if self._kept in cell.kept:
            self.load_of(cell).begin_anew()

    def weights(self, loads: Iterable[ServerLoad], now: float) -> list[int]:
        """Return the weights of endpoints as a schedule has them."""
        return scaled(weights_at(loads, now, self.blackout_period, self.weight_expiration_period))


class _OrcaPicker(RedrawPicker):
    """A schedule, and the next one when its time has come."""

    def __init__(
        self, cells: Sequence[Cell], drawn: Sequence[Cell], config: OrcaWeightedRoundRobin, rng: Rng, clock: Clock
    ) -> None:
        self._config = config
        self._now = clock.now
        choose = _scheduled(drawn, config, rng, clock) if len(drawn) > 1 else lambda: drawn[0]

        def among(allowed: Sequence[Cell]) -> Cell:
            sums = list(accumulate(config.weights(map(config.load_of, allowed), clock.now())))
            point = rng.random() * sums[-1]
            return next(cell for cell, end in zip(allowed, sums, strict=True) if point < end)

        super().__init__(cells, choose, excluding(drawn, choose, among))

    def reported(self, endpoint: Endpoint, report: LoadReport) -> None:
        """Take in what a server says of its load, where no mesh does; unknown endpoints are ignored."""
        cell = self._by_address.get(endpoint.address)
        if cell is not None:
            self._config.reported(cell, report, self._now())


def _scheduled(cells: Sequence[Cell], config: OrcaWeightedRoundRobin, rng: Rng, clock: Clock) -> Draw:
    """Return a function that walks schedules, each for its period."""
    now, period = clock.now, max(SHORTEST, config.weight_update_period)
    loads = [config.load_of(cell) for cell in cells]
    weights: list[int] = []
    due = 0.0
    new_lap: Callable[[], Iterator[Cell]]
    lap: Iterator[Cell]

    def renew(instant: float) -> None:
        nonlocal due, weights, new_lap, lap
        due = instant + period  # first, so that others go on with the schedule there is
        found = config.weights(loads, instant)
        if found != weights:
            weights, new_lap = found, laps(cells, found, rng)
            steps = list(new_lap())
            lap = islice(steps, int(rng.random() * len(steps)), None)  # who is first in the list is not always first

    def begin_lap() -> Cell:
        nonlocal lap
        fresh = new_lap()
        first = next(fresh)
        lap = fresh
        return first

    def choose() -> Cell:
        instant = now()
        if instant >= due:
            renew(instant)
        try:
            return next(lap)
        except StopIteration:
            return begin_lap()

    renew(now())
    return choose


def _names(given: object) -> tuple[str, ...]:
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        names = tuple(given)
        if all(isinstance(name, str) and name for name in names):
            return names
    raise ConfigError(f"metric_names_for_computing_utilization must be names such as 'named_metrics.x', not {given!r}")
