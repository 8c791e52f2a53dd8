"""A circuit breaker that costs a closed circuit nothing: pybreaker's states, our own counting, permits and windows.

pybreaker holds a lock while the guarded call runs, and counts failures in a row alone. Here calls run outside it and
only results that matter are reported to it, by calls that do nothing but succeed or fail: failures while closed, and
the probes of a half-open circuit. Successes of a closed circuit are not reported at all: totals that only grow are
read when a failure is judged (see `Timeline`), for a rate over a window as for a number in a row.

Late results tell of a circuit that no longer exists. Each state has a number, each probe another, and a result that
comes with an old one is dropped. A probe that is never heard of again loses its place after its lease.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock

import pybreaker

from svcmesh.core.errors import SvcmeshError
from svcmesh.policy.bridge import Foreign, Ledger, Scribe
from svcmesh.policy.circuit import CircuitBreaker
from svcmesh.policy.relay import Deed, Relay
from svcmesh.policy.traffic import Traffic
from svcmesh.policy.window import Look, Window

_SHORTEST_LEASE = 1.0


def _ignore(*_: object) -> None:
    """Be told, and do nothing."""


class Breaker:
    """One circuit: closed, open or half-open.

    Args:
        config: its settings.
        name: what pybreaker, its listeners and storages call it.
        on_change: told of the old and the new state, outside every lock, in order.
        on_listener_error: given what a user's listener, storage or exclusion raised; default: dropped.
        defer: carries out what makes and writes the user's storage, on a thread where it may block; default: at once.

    Attributes:
        state: ``"closed"``, ``"open"`` or ``"half-open"``.
        half_opens_at: instant from which an open circuit may be probed; None when it is not open.
        circuit: the pybreaker object, for those who want to look at it.

    Invariant: each permit of `admit` ends in one `settle`, or frees its place when its lease is over.

    Threads: any. One short lock for arithmetic; no code of users and no I/O runs under it.
    """

    def __init__(
        self,
        config: CircuitBreaker,
        name: str,
        *,
        on_change: Callable[[str, str], object] = _ignore,
        on_listener_error: Callable[[Exception], object] = _ignore,
        defer: Callable[[Deed], object] = lambda deed: deed(),
    ) -> None:
        self.state: str = pybreaker.STATE_CLOSED
        self.half_opens_at: float | None = None
        self._config = config
        self._on_change = on_change
        self._on_listener_error = on_listener_error
        self._defer = defer
        self._lock = Lock()
        self._serial = 0  # numbers states and permits alike, so that none is ever taken for another
        self._epoch = 0
        self._permits: dict[int, float] = {}  # of probes: when each one's lease ends
        self._now = float("-inf")
        self._window = Window(config)
        self._told = Relay(on_listener_error)
        self._stored = Relay(on_listener_error)
        fail_max = config.consecutive or config.minimum_calls
        self._ledger = Ledger(fail_max, self._stored)
        self.circuit = pybreaker.CircuitBreaker(
            fail_max=fail_max,
            reset_timeout=config.open_for,
            success_threshold=config.probes,
            listeners=[Scribe(tuple(config.listeners), self._told, self._changed)],
            state_storage=self._ledger,
            name=name,
            throw_new_error_on_trip=False,
        )
        if config.storage is not None:
            self._ledger.foreign = Foreign(config.storage, name)  # last: what the machine wrote by now is no news
        self._read: str = pybreaker.STATE_CLOSED  # what the user's storage said last; that is also how it begins

    def admit(self, now: float) -> int | None:
        """Return a permit for one call, or None when it is refused.  Cost: a lock unless closed."""
        if self.state == pybreaker.STATE_CLOSED:
            return self._epoch
        with self._lock:
            self._wake(now)
            permit = self._probe(now)
        self._report()
        return permit

    def wake(self, now: float) -> bool:
        """Make an open circuit half-open when its time has come; return whether that happened."""
        if self.state != pybreaker.STATE_OPEN:
            return False
        with self._lock:
            woken = self._wake(now)
        self._report()
        return woken

    def hasten(self, now: float) -> None:
        """Let an open circuit be probed from ``now`` on: there is a sign that the other side is back."""
        with self._lock:
            if self.half_opens_at is not None:
                self.half_opens_at = min(self.half_opens_at, now)

    def retry_after(self, now: float) -> float:
        """Return the seconds after which an open circuit may be probed; 0 where it is not open.

        Probes that are under way may end at any moment, so while a half-open circuit waits for them nobody knows.
        """
        with self._lock:
            return 0.0 if self.half_opens_at is None else max(0.0, self.half_opens_at - now)

    def settle(
        self,
        permit: int | None,
        good: bool | None,
        now: float,
        traffic: Traffic,
        error: BaseException | None = None,
        seconds: float | None = None,
    ) -> None:
        """Take the end of a call.

        Args:
            permit: what `admit` gave; None for a call of the success path, which counts only while closed.
            good: whether it succeeded; None: ignored, which gives the permit back and changes nothing.
            now: the current instant.
            traffic: the successes of what is guarded, this call's included.
            error: what it raised, if anything. It is told to listeners, and left exactly as it was. An error that
                is not an `Exception` (a cancellation, an interrupt) is ignored.
            seconds: how long it took, where the breaker looks at slow calls.
        """
        good = self._worth(good, error)
        slow = good is not None and self._is_slow(seconds)
        # Read outside the lock: what counts the successes has locks of its own.
        judged = None if good is None or (good and not slow) else self._window.look(now, traffic)
        with self._lock:
            self._now = max(now, self._now)
            if self.state == pybreaker.STATE_CLOSED and (permit is None or permit == self._epoch):
                if judged is not None:
                    self._count(bool(good), slow, error, judged)
            elif permit is not None and self._permits.pop(permit, None) is not None and good is not None:
                self._tell(good and not slow, error)
        self._report()

    def sync(self, now: float) -> None:
        """Take over what others wrote to the user's storage: an opened or a closed circuit. May block: it is I/O.

        Call it once when the breaker is made and again every few seconds; it does nothing without a storage. A
        circuit that others opened is open here for ``open_for`` from now. Only what the storage says anew counts:
        one that could not be written to goes on saying ``closed``, and must not close a circuit opened here.
        """
        foreign = self._ledger.foreign
        if foreign is None:
            return
        self._stored.deliver()
        if not self._stored.idle:
            return  # another thread is writing there; what would be read now may be older than what is here
        try:
            found = foreign.get().state
        except Exception as error:  # noqa: BLE001 - user code: a storage that fails leaves the circuit as it is
            self._on_listener_error(error)
            return
        with self._lock:
            self._now = max(now, self._now)
            news, self._read = found != self._read, found
            if news:
                self._adopt(found)
        self._report()

    # -- under the lock ------------------------------------------------------------------------------------------

    def _wake(self, now: float) -> bool:
        self._now = max(now, self._now)
        if self.half_opens_at is None or now < self.half_opens_at:
            return False
        self.circuit.half_open()
        return True

    def _probe(self, now: float) -> int | None:
        if self.state == pybreaker.STATE_CLOSED:
            return self._epoch
        if self.state == pybreaker.STATE_OPEN:
            return None
        for permit in [permit for permit, ends in self._permits.items() if ends <= now]:
            del self._permits[permit]
        if len(self._permits) >= self._config.probes:
            return None
        self._serial += 1
        self._permits[self._serial] = now + max(self._config.open_for, _SHORTEST_LEASE)
        return self._serial

    def _count(self, good: bool, slow: bool, error: BaseException | None, judged: Look) -> None:
        """Count a failure or a slow call of a closed circuit, and open it when that was one too many."""
        tripped = self._window.count(judged, failed=not good, slow=slow)
        self._ledger.failures = self._window.shown
        if not good:
            self._ledger.tripped = tripped
            self._tell(False, error)
            self._ledger.tripped = False
        elif tripped:
            self.circuit.open()

    def _tell(self, good: bool, error: BaseException | None) -> None:
        """Report to pybreaker, by a call that does nothing else, and leave the error as it was found."""
        if good:
            self.circuit.call(_succeed)
            return
        shown = error if isinstance(error, Exception) else SvcmeshError(f"{self.circuit.name} failed or was too slow")
        traceback, context = shown.__traceback__, shown.__context__
        with suppress(type(shown)):  # it is `shown` itself that comes back
            self.circuit.call(_fail, shown)
        shown.__traceback__, shown.__context__ = traceback, context

    def _changed(self, old: str, new: str) -> None:
        """Take over a change of state; pybreaker calls this in the middle of it."""
        self.state = new
        self._serial += 1
        self._epoch = self._serial
        self._permits.clear()
        self.half_opens_at = self._now + self._config.open_for if new == pybreaker.STATE_OPEN else None
        if new == pybreaker.STATE_CLOSED:
            self._window.restart(self._now)
        self._told.note(lambda: self._on_change(old, new))

    def _adopt(self, found: str) -> None:
        foreign, self._ledger.foreign = self._ledger.foreign, None  # no need to tell it what it told us
        if found == pybreaker.STATE_OPEN and self.state != pybreaker.STATE_OPEN:
            self.circuit.open()
        elif found == pybreaker.STATE_CLOSED and self.state != pybreaker.STATE_CLOSED:
            self.circuit.close()
        self._ledger.foreign = foreign

    # -- outside it ----------------------------------------------------------------------------------------------

    def _worth(self, good: bool | None, error: BaseException | None) -> bool | None:
        """What the end counts as, once exclusions have been asked."""
        if good is not False or error is None:
            return good
        if not isinstance(error, Exception):
            return None
        try:
            return None if self._config.excludes(error) else good
        except Exception as broken:  # noqa: BLE001 - user code; a rule that fails excludes nothing
            self._on_listener_error(broken)
            return good

    def _is_slow(self, seconds: float | None) -> bool:
        slow = self._config.slow
        return slow is not None and seconds is not None and seconds > slow.seconds

    def _report(self) -> None:
        self._told.deliver()
        if not self._stored.idle:
            self._defer(self._stored.deliver)


def _succeed() -> None:
    """Be a success, for pybreaker to count."""


def _fail(error: Exception) -> None:
    """Be a failure, for pybreaker to count."""
    raise error
