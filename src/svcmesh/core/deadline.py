"""The ambient deadline: one budget of time for everything that happens inside a ``with`` block.

It lives in a context variable, so that it follows tasks and ``asyncio.to_thread``, and it is only ever
shortened: a callee can promise less time than it was given, never more. In production it is a bare float on
the system's clock, because the success path reads it on every call; while a virtual clock is alive (tests) it is
kept on every clock, so that advancing any of them spends it.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
import types
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from svcmesh.core import callables, checks
from svcmesh.core.clock import SYSTEM, Clock, virtual_clocks
from svcmesh.core.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

Instants = dict[Clock, float]

AMBIENT: contextvars.ContextVar[float | Instants | None] = contextvars.ContextVar("svcmesh.deadline", default=None)
"""A float is an instant of the system's clock; a mapping holds one instant for each clock."""

_Outer = tuple[object, float | Instants | None, "_Outer | None"]

_OUTER: contextvars.ContextVar[_Outer | None] = contextvars.ContextVar("svcmesh.deadline.outer", default=None)
"""Whose block it is, and what to return to; in the context, so that one `deadline` object serves many tasks at once."""


class deadline:  # noqa: N801 - reads as a statement: `with deadline(2.0):`
    """Give everything inside the block at most ``seconds`` in total; a longer outer budget is shortened.

    Args:
        seconds: at least 0, finite. Calls made when it is used up raise `DeadlineExceeded` without being sent.

    Raises:
        ConfigError: negative, NaN or infinite seconds.

    Threads: it follows tasks and ``asyncio.to_thread``; for other threads and executors see `in_context`.
    """

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = checks.duration("deadline", seconds, zero=True)

    def __enter__(self) -> Self:
        """Start the budget now."""
        instants: Instants = {clock: clock.now() + self._seconds for clock in (SYSTEM, *virtual_clocks)}
        outer = AMBIENT.get()
        _OUTER.set((self, outer, _OUTER.get()))
        AMBIENT.set(_earliest(outer, instants))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Return to the outer budget."""
        block = _OUTER.get()
        while block is not None:  # None is left when a generator ends in another context than it was started in
            owner, ambient, outer = block
            if owner is self:
                AMBIENT.set(ambient)
                _OUTER.set(outer)
                return
            block = outer  # a generator's, which has been left behind inside


class DeadlineInSteps:
    """A `deadline` for what runs in steps, and shares its thread with others in between: the parts of an answer.

    It begins when it is made, and each ``with`` block is a step. A shorter `deadline` that is begun within one step, as
    a generator does around its ``yield``, is in force in those that follow, until the step that ends it.

    Args:
        seconds: at least 0, finite.

    Threads: one step at a time; each may be on another thread.
    """

    __slots__ = ("_blocks", "_given", "_inside", "_outside")

    def __init__(self, seconds: float) -> None:
        self._inside: float | Instants | None = _earliest(
            None, {clock: clock.now() + seconds for clock in (SYSTEM, *virtual_clocks)}
        )
        self._given: float | Instants | None = None
        self._blocks: _Outer | None = None
        self._outside: tuple[float | Instants | None, _Outer | None] = None, None

    def __enter__(self) -> Self:
        """Begin a step, with what the last one has left."""
        outer, inside = AMBIENT.get(), self._inside
        self._outside = outer, _OUTER.get()
        if outer is not None and inside is not None:
            inside = _earliest(outer, {**inside} if isinstance(inside, dict) else {SYSTEM: inside})
        self._given = inside
        AMBIENT.set(inside)
        if self._blocks is not None:
            _OUTER.set(self._blocks)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remember what the step has left, and return to what was outside."""
        left, self._blocks = AMBIENT.get(), _OUTER.get()
        if left is not self._given:  # else the budget is still ours: one that is shorter outside may be longer later
            self._inside = left
        AMBIENT.set(self._outside[0])
        _OUTER.set(self._outside[1])


def remaining() -> float | None:
    """Return the seconds left of the ambient deadline, never negative; None when there is none."""
    ambient = AMBIENT.get()
    if ambient is None:
        return None
    if isinstance(ambient, dict):
        left = min(instant - clock.now() for clock, instant in ambient.items())
    else:
        left = ambient - SYSTEM.now()
    return None if left == math.inf else max(0.0, left)  # a policy without a timeout


def in_context(fn: Callable[P, R]) -> Callable[P, R]:
    """Return ``fn`` bound to the current context, deadline included, for use in another thread, executor or task.

    Of a coroutine function it makes one that runs in this context however late, and wherever, it is awaited. A
    deadline around the call shortens the one that ``fn`` was bound in.

    Raises:
        ConfigError: ``fn`` cannot be called, or only makes a generator or a context manager of one: its body runs after
            the call, where these are used.

    Threads: the result may be called from any number of threads and tasks at once.
    """
    if not callable(fn):
        raise ConfigError(f"in_context takes what can be called, not {fn!r}")
    if callables.runs_later(fn):
        raise ConfigError(f"{fn!r} only makes a generator, whose body runs after the call: bind what uses it")
    bound = contextvars.copy_context()
    if callables.is_async(fn):
        coroutine_function = cast("Callable[P, Coroutine[Any, Any, Any]]", fn)

        @functools.wraps(fn)
        async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            return await _steps(_copied(bound), coroutine_function(*args, **kwargs))

        return cast("Callable[P, R]", run_async)

    @functools.wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return _copied(bound).run(fn, *args, **kwargs)

    return run


def _copied(bound: contextvars.Context) -> contextvars.Context:
    """Return a copy of ``bound``, since one context cannot be entered twice at a time, that ends no later than here."""
    context, here = bound.copy(), AMBIENT.get()
    if here is not None:
        context.run(_shorten, {**here} if isinstance(here, dict) else {SYSTEM: here})
    return context


def _shorten(instants: Instants) -> None:
    AMBIENT.set(_earliest(AMBIENT.get(), instants))


@types.coroutine
def _steps(context: contextvars.Context, coroutine: Coroutine[Any, Any, R]) -> Generator[Any, Any, R]:
    """Await ``coroutine``, each step of it in ``context``; what it waits for sees nothing of that."""
    step: Callable[[], Any] = functools.partial(coroutine.send, None)
    while True:
        try:
            awaited = context.run(step)
        except StopIteration as end:
            return cast("R", end.value)
        try:
            step = functools.partial(coroutine.send, (yield awaited))
        except GeneratorExit:
            context.run(coroutine.close)
            raise
        except BaseException as error:  # noqa: BLE001 - whatever is thrown in is thrown on
            step = functools.partial(coroutine.throw, error)


def ambient_on(clock: Clock) -> float | None:
    """Return the instant of ``clock`` at which the ambient deadline ends, or None when there is none."""
    ambient = AMBIENT.get()
    if ambient is None:
        return None
    if not isinstance(ambient, dict):
        return ambient if clock is SYSTEM else clock.now() + ambient - SYSTEM.now()
    if clock in ambient:
        return ambient[clock]
    return clock.now() + min(instant - other.now() for other, instant in ambient.items())


@contextlib.contextmanager
def at(clock: Clock, instant: float) -> Generator[None, None, None]:
    """Let the budget of everything inside end at ``instant`` of ``clock``, which is no later than the ambient one."""
    token = AMBIENT.set(instant if clock is SYSTEM else {clock: instant})
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # a generator that is closed in another context than it was started in
            AMBIENT.reset(token)


def _earliest(ambient: float | Instants | None, instants: Instants) -> float | Instants:
    """Return the earlier of two deadlines, clock by clock; a clock new to the outer one gets what is left of it."""
    if ambient is not None:
        outer: Instants = ambient if isinstance(ambient, dict) else {SYSTEM: ambient}
        left = min(instant - clock.now() for clock, instant in outer.items())
        for clock in {*instants, *outer}:
            limit = outer[clock] if clock in outer else clock.now() + left
            instants[clock] = min(limit, instants.get(clock, limit))
    return instants[SYSTEM] if len(instants) == 1 and SYSTEM in instants else instants
