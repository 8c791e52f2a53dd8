"""What stands between pybreaker's state machine and the world: a storage of our own, and messages to users' own.

pybreaker asks its storage whether to open and tells its listeners what happened, both under its lock. So the storage
it gets is ours, which answers from memory, and the only listener it has is ours, which takes notes; users' listeners
and storages are told afterwards, when no lock is held.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from threading import Lock
from typing import Any

import pybreaker
from pybreaker import CircuitBreakerListener, CircuitBreakerStorage

from svcmesh.core.errors import ConfigError
from svcmesh.policy.circuit import StorageFactory
from svcmesh.policy.relay import Relay


class Foreign:
    """A storage of the user's. One that is given as a function is made at first need: making it may block, and fail.

    Threads: any that may block.
    """

    def __init__(self, given: CircuitBreakerStorage | StorageFactory, name: str) -> None:
        self._given = given
        self._name = name
        self._made: CircuitBreakerStorage | None = None
        self._lock = Lock()

    def get(self) -> CircuitBreakerStorage:
        """Return the storage.

        Raises:
            ConfigError: the function made something else. What it raises itself comes through; it is asked again.
        """
        with self._lock:
            if self._made is None:
                made: object = self._given
                if not isinstance(made, CircuitBreakerStorage):
                    made = self._given(self._name)  # type: ignore[operator]  # not a storage, so the function
                if not isinstance(made, CircuitBreakerStorage):
                    raise ConfigError(f"storage made {made!r} for {self._name}, which is not a pybreaker storage")
                self._made = made
            return self._made


class Ledger(CircuitBreakerStorage):
    """pybreaker's storage, in memory: the state, and the one answer that makes the machine open.

    Attributes:
        tripped: the failure about to be reported is the one too many, by whatever rule the breaker goes.
        failures: what `counter` shows as long as it is not tripped, for listeners that read ``fail_counter``.
        foreign: the user's storage, told of all that is written here.
    """

    def __init__(self, fail_max: int, outbox: Relay) -> None:
        super().__init__("svcmesh")
        self.tripped = False
        self.failures = 0
        self.foreign: Foreign | None = None
        self._fail_max = fail_max
        self._outbox = outbox
        self._state: str = pybreaker.STATE_CLOSED
        self._successes = 0
        self._opened_at: datetime | None = None

    @property
    def state(self) -> str:
        """The state of the machine."""
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state

        def write(storage: CircuitBreakerStorage) -> None:
            storage.state = state

        self._mirror(write)

    @property
    def counter(self) -> int:
        """`fail_max` when the machine is to open, and less while it is to stay closed."""
        if self.tripped:
            return self._fail_max
        return min(self.failures, self._fail_max - (self._state == pybreaker.STATE_CLOSED))

    @property
    def success_counter(self) -> int:
        """Successes since it became half-open."""
        return self._successes

    @property
    def opened_at(self) -> datetime | None:
        """Wall-clock time at which it opened, for storages that others read; nothing here goes by it."""
        return self._opened_at

    @opened_at.setter
    def opened_at(self, datetime: datetime) -> None:
        self._opened_at = datetime

        def write(storage: CircuitBreakerStorage) -> None:
            storage.opened_at = datetime

        self._mirror(write)

    def increment_counter(self) -> None:
        """Pass a failure on; what counts here is `tripped`."""
        self._mirror(lambda storage: storage.increment_counter())

    def reset_counter(self) -> None:
        """Forget the failures."""
        self.failures = 0
        self._mirror(lambda storage: storage.reset_counter())

    def increment_success_counter(self) -> None:
        """Count a success of a probe."""
        self._successes += 1
        self._mirror(lambda storage: storage.increment_success_counter())

    def reset_success_counter(self) -> None:
        """Forget the successes of probes."""
        self._successes = 0
        self._mirror(lambda storage: storage.reset_success_counter())

    def _mirror(self, write: Callable[[CircuitBreakerStorage], object]) -> None:
        foreign = self.foreign
        if foreign is not None:
            self._outbox.note(lambda: write(foreign.get()))


class Scribe(CircuitBreakerListener):
    """The one listener that pybreaker knows: it passes everything on to users' listeners, later."""

    def __init__(
        self,
        listeners: tuple[CircuitBreakerListener, ...],
        outbox: Relay,
        changed: Callable[[str, str], None],
    ) -> None:
        self._listeners = listeners
        self._outbox = outbox
        self._changed = changed

    def before_call(self, cb: pybreaker.CircuitBreaker, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Pass on that a result is about to be reported."""
        self._tell(lambda listener: listener.before_call(cb, func, *args, **kwargs))

    def failure(self, cb: pybreaker.CircuitBreaker, exc: BaseException) -> None:
        """Pass on a failure."""
        self._tell(lambda listener: listener.failure(cb, exc))

    def success(self, cb: pybreaker.CircuitBreaker) -> None:
        """Pass on a success."""
        self._tell(lambda listener: listener.success(cb))

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: Any, new_state: Any) -> None:
        """Take over the new state at once, and pass it on."""
        self._changed(old_state.name, new_state.name)
        self._tell(lambda listener: listener.state_change(cb, old_state, new_state))

    def _tell(self, message: Callable[[CircuitBreakerListener], object]) -> None:
        for listener in self._listeners:
            self._outbox.note(lambda listener=listener: message(listener))  # type: ignore[misc]
