"""What retries may cost: a share of the calls, so that they cannot become a storm.

A limit on attempts bounds one call; when a server is down, every call uses it up and the load triples just then.
A budget bounds the sum: of all calls of the last seconds, one in five may cost an attempt more, and a fixed trickle
keeps quiet services able to retry at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

from svcmesh.core import checks

_SLOTS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryBudget:
    """How many retries a service may cost its endpoints.

    Args:
        ratio: retries allowed per call, from 0 to 1; default 0.2.
        per_second: retries allowed every second whatever the number of calls, at least 0; default 10.
        window: seconds for which a call counts, more than 0; default 10.

    Raises:
        ConfigError: a value outside its range.

    Source: Finagle, `RetryBudget` (20 %, 10 per second, time to live 10 s).
    """

    ratio: float = 0.2
    per_second: float = 10
    window: float = 10

    def __post_init__(self) -> None:
        """Check the ranges."""
        checks.between("ratio", self.ratio, 0, 1)
        checks.duration("window", self.window)
        checks.between("per_second", self.per_second, 0, 1e9)


class Budget:
    """The tokens of one service: a retry takes one, a call brings ``ratio``, ``per_second`` are there anyway.

    Attributes:
        calls: calls ever made. The success path adds one to it and does nothing else here.

    Invariant: the retries of any ``window`` are at most ``ratio`` times its calls plus ``per_second * window``. So
    over any time, retries are at most ``ratio * calls + per_second * (time + window)``.

    The window is ten slots, as Finagle's bucket. Calls are noticed only when somebody asks; those made since the
    last look are spread evenly over the time since then. That errs in time, never in number: no call brings more
    than ``ratio`` in all, and of a long quiet stretch only the share that the window covers is left.

    Threads: any; the lock is held for arithmetic alone, on the failing path alone. ``calls += 1`` loses nothing
    under the GIL (see `Cell`).
    """

    __slots__ = ("_config", "_lock", "_seen", "_slot", "_slots", "_start", "_updated", "_width", "calls")

    def __init__(self, config: RetryBudget, now: float) -> None:
        self.calls = 0
        self._config = config
        self._width = config.window / _SLOTS
        self._start = now
        self._updated = now
        self._seen = 0
        self._slot = 0
        self._slots = [0.0] * _SLOTS
        self._lock = Lock()

    def tokens(self, now: float) -> float:
        """Return how many retries could be paid now; never below 0."""
        with self._lock:
            return max(0.0, self._balance(now))

    def try_withdraw(self, now: float) -> bool:
        """Pay for one retry; return False, and take nothing, when there is not enough.  Cost: O(1)."""
        with self._lock:
            # A sum of shares like 0.2 falls short of 1 by rounding alone.
            if self._balance(now) < 1 - 1e-9:
                return False
            self._slots[self._slot % _SLOTS] -= 1
            return True

    def _balance(self, now: float) -> float:
        self._accrue(max(now, self._updated))
        return sum(self._slots) + self._config.per_second * self._config.window

    def _accrue(self, now: float) -> None:
        """Empty the slots that went out of the window, and put the new calls where they belong in time."""
        slot = max(self._slot, int((now - self._start) / self._width))
        for number in range(max(self._slot + 1, slot - _SLOTS + 1), slot + 1):
            self._slots[number % _SLOTS] = 0.0
        self._slot = slot
        calls = self.calls
        if calls != self._seen:
            self._spread(self._config.ratio * (calls - self._seen), now)
            self._seen = calls
        self._updated = now

    def _spread(self, deposit: float, now: float) -> None:
        elapsed = now - self._updated
        if elapsed <= 0:
            self._slots[self._slot % _SLOTS] += deposit
            return
        for number in range(max(0, self._slot - _SLOTS + 1), self._slot + 1):
            begin = self._start + number * self._width
            overlap = min(begin + self._width, now) - max(begin, self._updated)
            if overlap > 0:
                self._slots[number % _SLOTS] += deposit * overlap / elapsed
