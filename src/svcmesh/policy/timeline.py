"""What a growing total was some time ago: how windows are counted without counting on the success path.

A success adds one to a total and knows nothing of windows. Once per tick somebody notes the total, so "how many in
the last 30 seconds" is a subtraction, made only when a failure has to be judged.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from threading import Lock


class Timeline:
    """Samples of a total that never shrinks, one per tick at most, for as long as ``horizon``.

    Args:
        horizon: seconds that can be looked back, more than 0.
        tick: seconds between two samples, more than 0. What is counted in a window is off by what happens in a tick.

    Attributes:
        tick: as given.
        due: the instant from which `roll` takes the next sample; before it `roll` does nothing.

    Whoever adds to the total calls `roll` first, whenever ``now >= due``. So when two samples are further apart than
    a tick, nothing was added after the first tick of the gap, and the total was then what the later sample says. An
    attempt that begins in one tick and ends in a later one may count as if it had ended when it began.

    Threads: any. A lock is held for arithmetic alone, once per tick and once per judged failure.
    """

    __slots__ = ("_horizon", "_instants", "_lock", "_totals", "due", "tick")

    def __init__(self, horizon: float, tick: float) -> None:
        self._horizon = horizon
        self.tick = tick
        self._instants = array("d")  # plain numbers: thousands of these would keep the garbage collector busy
        self._totals = array("q")
        self._lock = Lock()
        self.due = float("-inf")

    def roll(self, now: float, total: int) -> None:
        """Note that the total is ``total`` at the instant ``now``; does nothing before `due`."""
        with self._lock:
            if now < self.due:
                return
            instants, totals = self._instants, self._totals
            instants.append(now)
            totals.append(max(total, totals[-1]) if totals else total)
            self.due = now + self.tick
            # One sample older than the horizon stays: it says what the total was where the window begins.
            while len(instants) > 1 and instants[1] <= now - self._horizon:
                del instants[0], totals[0]

    def at(self, instant: float) -> int:
        """Return what the total was at ``instant``; 0 when nothing has been noted.

        The total of the newest sample up to ``instant``, or, when that one is a tick older or more, of the next.
        """
        with self._lock:
            if not self._totals:
                return 0
            after = bisect_right(self._instants, instant)
            if after == 0:
                return self._totals[0]
            if after < len(self._totals) and instant - self._instants[after - 1] >= self.tick:
                return self._totals[after]
            return self._totals[after - 1]
