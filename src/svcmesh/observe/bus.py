"""Who listens to which events. Listening is rare and emitting nothing is free: `wants` is a look into a set."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from threading import Lock
from types import TracebackType
from typing import Any, Self
from weakref import ref

from svcmesh.core.clock import Clock
from svcmesh.core.errors import ConfigError
from svcmesh.observe.events import EVENTS, Event, ListenerFailed

Listener = Callable[[Event], object]


class Subscription:
    """A listener that is heard until `close`, or until the end of a ``with`` block."""

    def __init__(self, events: Events, listener: Listener, names: frozenset[str]) -> None:
        self.listener = listener
        self.names = names
        self._events = events

    def close(self) -> None:
        """Stop listening; harmless when repeated."""
        self._events._remove(self)  # noqa: SLF001 - the two classes are one mechanism

    def __enter__(self) -> Self:
        """Return the subscription."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self.close()


class Listeners:
    """Who is subscribed. Whoever holds this keeps them."""

    __slots__ = ("__weakref__", "subscriptions")

    def __init__(self) -> None:
        self.subscriptions: tuple[Subscription, ...] = ()


class Events:
    """The events of one mesh.

    Threads: any. A listener is called on the thread on which the thing happened, with no lock held; what it
    raises is reported as ``listener.failed`` and goes no further.
    """

    def __init__(self, clock: Clock, on_change: Callable[[], object] = lambda: None) -> None:
        self._clock = clock
        self._on_change = on_change
        self._lock = Lock()
        self._kept: Listeners | None = Listeners()
        self._listeners = ref(self._kept)
        self.wanted: frozenset[str] = frozenset()

    def subscribe(self, listener: Listener, *patterns: str) -> Subscription:
        """Call ``listener`` with every event whose name matches one of ``patterns``; without any, with all.

        Args:
            listener: called with one event; it should be quick, for it runs in the path of what it hears.
            patterns: event names, with ``*`` and ``?`` as in ``breaker.*``.

        Raises:
            ConfigError: a pattern matches no event there is, or the listener cannot be called.
        """
        if not callable(listener):
            raise ConfigError(f"a listener must be callable, not {listener!r}")
        names: set[str] = set()
        for pattern in patterns or ("*",):
            matching = {name for name in EVENTS if isinstance(pattern, str) and fnmatchcase(name, pattern)}
            if not matching:
                raise ConfigError(f"pattern {pattern!r} matches no event; there are {', '.join(sorted(EVENTS))}")
            names |= matching
        subscription = Subscription(self, listener, frozenset(names))
        with self._lock:
            self._replace(lambda others: (*others, subscription))
        self._on_change()
        return subscription

    def hand_over(self) -> Listeners | None:
        """Return the listeners, to be kept by the caller: from now on they are heard as long as it does.

        A running worker refers to these events. A mesh that keeps its listeners itself can be collected all the same,
        although they refer to it.
        """
        kept, self._kept = self._kept, None
        return kept

    def emit(self, name: str, service: str, **fields: Any) -> None:
        """Build the event ``name`` and hand it to its listeners, if there are any."""
        if name not in self.wanted:
            return
        event = EVENTS[name](time=self._clock.now(), service=service, **fields)
        listeners = self._listeners()
        for subscription in () if listeners is None else listeners.subscriptions:
            if name in subscription.names:
                self._call(subscription.listener, event)

    def reset_after_fork(self) -> None:
        """In a forked child: a new lock, since a thread that is gone may have held the old one."""
        self._lock = Lock()

    def _call(self, listener: Listener, event: Event) -> None:
        try:
            listener(event)
        except Exception as error:  # noqa: BLE001 - a listener may raise anything, and no call may suffer from it
            if event.name != ListenerFailed.name:  # else a failing listener of failures would never end
                told = f"{type(error).__name__}: {error}"
                self.emit(ListenerFailed.name, event.service, listener=_name_of(listener), error=told)

    def _remove(self, subscription: Subscription) -> None:
        with self._lock:
            self._replace(lambda others: tuple(s for s in others if s is not subscription))
        self._on_change()

    def _replace(self, change: Callable[[tuple[Subscription, ...]], tuple[Subscription, ...]]) -> None:
        listeners = self._listeners()
        if listeners is not None:  # else the mesh is gone, and nobody will ever be told of anything
            listeners.subscriptions = change(listeners.subscriptions)
            self.wanted = frozenset[str]().union(*(s.names for s in listeners.subscriptions))


def _name_of(listener: Listener) -> str:
    return str(getattr(listener, "__qualname__", None) or type(listener).__qualname__)
