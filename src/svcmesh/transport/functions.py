"""Plain functions and coroutine functions as transports: what `Service.guard` and `resilient` make of them.

The success path is a text of its own (`svcmesh.transport.function_line`): read the clock and the ambient deadline,
enter, count, call. All decisions are in the machine, which it hands over to with the functions below.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar, cast

from tenacity.retry import retry_base

from svcmesh.core import deadline
from svcmesh.core.callables import is_async, runs_later
from svcmesh.core.clock import SYSTEM
from svcmesh.core.endpoint import PICKED
from svcmesh.core.errors import ConfigError, FaultInjected, SvcmeshError
from svcmesh.core.outcome import GATEWAY_STATUSES, Kind, Outcome
from svcmesh.engine import awaiting, blocking
from svcmesh.engine.exchange import Attempt
from svcmesh.engine.in_time import OutOfTime, in_time
from svcmesh.engine.machine import Call
from svcmesh.engine.member import NEVER, Member
from svcmesh.engine.view import View
from svcmesh.policy.fault import Abort
from svcmesh.policy.retry import Retry
from svcmesh.transport import plain_outcome
from svcmesh.transport.function_line import line

P = ParamSpec("P")
R = TypeVar("R")
Function = Callable[..., Any]
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Before = contextvars.Token[Any] | float | None
"""What gives the ambient deadline of before back; where a signal raised as ours was put there, that deadline itself."""


def guarded(fn: Callable[P, R], view: View, *, idempotent: bool, alone: bool = False) -> Callable[P, R]:
    """Return ``fn`` called through ``view``, with the same signature; sync or async as it is.

    Args:
        idempotent: it may be repeated although it may have been executed.
        alone: there is no service behind ``view``, see `svcmesh.engine.alone`: every exception counts as a failure, not
            only those that speak of the network, and there is no endpoint to fill in.

    Raises:
        ConfigError: ``fn`` is neither a function nor a coroutine function, or its ``endpoint`` has another default.
    """
    if isinstance(fn, staticmethod | classmethod):  # decorated from above: what is guarded is the function below
        inner = guarded(fn.__func__, view, idempotent=idempotent, alone=alone)
        return cast("Callable[P, R]", type(fn)(inner))
    picks = _picks(fn, alone)
    traits = _Traits(fn, view, picks, idempotent, blame_all=alone)
    return cast("Callable[P, R]", _line(traits, awaits=is_async(fn)))


class _Traits:
    """What all calls of one guarded function have in common.

    Attributes:
        view: the one that its straight line goes by. line: that line, as long as somebody has it. text: of that line.
    """

    __slots__ = ("blame_all", "fn", "idempotent", "line", "name", "picks", "text", "view")

    def __init__(self, fn: Function, view: View, picks: bool, idempotent: bool, blame_all: bool) -> None:
        self.fn = fn
        self.view = view
        self.picks = picks
        self.idempotent = idempotent
        self.blame_all = blame_all
        self.name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
        self.line: Callable[[], Function | None] = lambda: None
        self.text = _text(view)

    def current(self) -> View:
        """Return the view of a call that begins now; the straight line goes by it from now on, if its text allows."""
        view = self.view.current
        if view is not self.view and _text(view) == self.text:
            line = self.line()
            if line is not None:
                self.view = view
                line.__globals__.update(view_=view, limit_=view.limit)
        return view


def _text(view: View) -> tuple[bool, bool]:
    """Return what of a policy is part of the text of a straight line: that there is one, and how it ends."""
    return view.clock is SYSTEM and not view.hash_on, view.learns  # the machine makes the key


def _line(traits: _Traits, *, awaits: bool) -> Function:
    view, ambient = traits.view, deadline.AMBIENT
    names = {
        "view_": view,
        "clock_": view.clock.now,
        "limit_": view.limit,
        "get_": ambient.get,
        "put_": ambient.set,
        "reset_": ambient.reset,
        "slowly_": functools.partial(_await_slowly if awaits else _call_slowly, traits),
        "resume_": functools.partial(_await_further if awaits else _call_further, traits),
        "in_time_": in_time,
        "reapers_": view.runtime.reapers,
    }
    straight, learns = traits.text
    check = None if awaits else functools.partial(_check_answer, traits)
    made = line(traits.fn, names, picks=traits.picks, awaits=awaits, straight=straight, learns=learns, check=check)
    traits.line = weakref.ref(made)
    return made


def _restore(before: Before) -> None:
    if not isinstance(before, contextvars.Token):
        deadline.AMBIENT.set(before)
        return
    with suppress(ValueError):  # a coroutine that is closed, not awaited to its end, may find itself in another context
        deadline.AMBIENT.reset(before)


def _call_slowly(traits: _Traits, args: tuple[Any, ...], kwargs: dict[str, Any], now: float) -> Any:
    view = traits.current()
    exchange = BlockingFunction(traits, view, (args, kwargs))
    return blocking.run(Call(view, exchange, now, view.deadline(now)), exchange)


async def _await_slowly(traits: _Traits, args: tuple[Any, ...], kwargs: dict[str, Any], now: float) -> Any:
    view = traits.current()
    exchange = AwaitingFunction(traits, view, (args, kwargs))
    return await awaiting.run(Call(view, exchange, now, view.deadline(now)), exchange)


def _call_further(
    traits: _Traits,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    now: float,
    member: Member,
    before: Before,
    error: BaseException,
    view: View,
) -> Any:
    """Hand a call over to the machine, whose first attempt ended in ``error``."""
    _restore(before)
    exchange = BlockingFunction(traits, view, (args, kwargs))
    return blocking.resume(view, exchange, member, now, view.deadline(now), error)


async def _await_further(
    traits: _Traits,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    now: float,
    member: Member,
    before: Before,
    error: BaseException,
    view: View,
) -> Any:
    """Do the same with an awaited one."""
    late = isinstance(error, OutOfTime)
    _restore(before)
    exchange = AwaitingFunction(traits, view, (args, kwargs))
    return await awaiting.resume(view, exchange, member, now, view.deadline(now), error, late=late)


class _FunctionExchange:
    """One call of a guarded function, for the machine."""

    deferred = False
    unsent = False  # who knows what a function has done
    patient = False
    lookup = NEVER

    def __init__(self, traits: _Traits, view: View, arguments: Arguments) -> None:
        self._traits = traits
        self._view = view
        self._args, self._kwargs = arguments
        self.key = view.key_of(self) if view.hash_on else None
        self.idempotent = traits.idempotent
        self.method = traits.name

    def headers(self, name: str) -> tuple[()]:
        """A function has none."""
        return ()

    def query(self, name: str) -> None:
        """A function has none."""

    def computed(self, fn: Function) -> Any:
        """Return what a rule's function says of the arguments."""
        return fn(*self._args, **self._kwargs)

    @property
    def function(self) -> tuple[Function, tuple[Any, ...], dict[str, Any]]:
        """The function and its arguments."""
        return self._traits.fn, self._args, self._kwargs

    def replayable(self) -> bool:
        """Arguments can always be passed again."""
        return True

    def cut_off(self) -> None:
        """A function cannot be closed."""

    def classify(self, error: Exception) -> Outcome:
        """Read the exception; what the policy retries is also held against the endpoint."""
        if isinstance(error, TypeError) and self._is_misused():
            return Outcome(Kind.REJECTED, error, reason="arguments")
        outcome = plain_outcome.classify(error)
        retry = self._view.policy.retry
        if outcome.kind is Kind.ERROR and not isinstance(error, SvcmeshError):
            outcome.blames = self._traits.blame_all or (retry is not None and _wants(retry, outcome))
        return outcome

    def _is_misused(self) -> bool:
        """Whether the function does not take these arguments.

        Most functions are found out before anything is counted, as the straight line has their parameters. This is for
        all others, and asked only once they have raised: what a wrapper says of its parameters need not be true.
        """
        fn, picked = self._traits.fn, {"endpoint": PICKED} if self._traits.picks else {}
        try:
            signature = inspect.signature(fn)
        except (TypeError, ValueError):
            return False  # a builtin that does not tell
        try:
            signature.bind(*self._args, **{**self._kwargs, **picked})
        except TypeError:
            return True
        return False

    def refusal(self, error: SvcmeshError) -> SvcmeshError:
        """Callers of functions catch our errors as they are."""
        return error

    def aborted(self, abort: Abort) -> Outcome:
        """Raise what stands for the status, since a plain function has none."""
        return abort_outcome(abort, f"a call of {self.method}")

    def _arguments(self, attempt: Attempt) -> dict[str, Any]:
        return {**self._kwargs, "endpoint": attempt.member.endpoint} if self._traits.picks else self._kwargs

    def _budget(self, attempt: Attempt) -> AbstractContextManager[None]:
        return deadline.at(self._view.clock, attempt.until)


class BlockingFunction(_FunctionExchange):
    """One call of a plain function."""

    def send(self, attempt: Attempt) -> Any:
        """Call the function; it cannot be interrupted, but `remaining` tells it how long it may take."""
        with self._budget(attempt):
            answer = self._traits.fn(*self._args, **self._arguments(attempt))
        _check_answer(self._traits, answer)
        return answer

    def discard(self, outcome: Outcome) -> None:
        """A result of a function needs no release."""


class AwaitingFunction(_FunctionExchange):
    """One call of a coroutine function."""

    async def send(self, attempt: Attempt) -> Any:
        """Await the function; the driver cancels it when its time is up."""
        with self._budget(attempt):
            return await self._traits.fn(*self._args, **self._arguments(attempt))

    async def discard(self, outcome: Outcome) -> None:
        """A result of a function needs no release."""


def abort_outcome(abort: Abort, what: str) -> Outcome:
    """Return how an injected abort ends what has no statuses of its own: with an exception that carries one."""
    error = FaultInjected(f"injected fault: {abort.status} in place of {what}")
    error.status = abort.status
    return Outcome(Kind.STATUS, error, reason=str(abort.status), blames=abort.http_status in GATEWAY_STATUSES)


def _wants(retry: Retry, outcome: Outcome) -> bool:
    if not isinstance(retry.retry, retry_base | None):
        return False  # a function of a call's state, which it is asked about once, by the machine
    try:
        return retry.matches(outcome)
    except Exception:  # noqa: BLE001 - a strategy of the user's; `Retry.decide` reports it
        return False


def _check_answer(traits: _Traits, answer: object) -> None:
    """Refuse a coroutine from a plain function: its failures would count as successes, since they come later."""
    if not isinstance(answer, CoroutineType):
        return
    answer.close()
    raise ConfigError(
        f"{traits.fn!r} is a plain function that returned a coroutine, whose end cannot be seen: make it 'async def',"
        " or guard the coroutine function that it calls"
    )


def _picks(fn: object, alone: bool) -> bool:
    """Whether ``fn`` declares ``endpoint: Endpoint = PICKED``, to be filled on every attempt."""
    if not callable(fn) or isinstance(fn, type):
        raise ConfigError(f"only a function or a coroutine function can be guarded, not {fn!r}")
    if runs_later(fn):
        raise ConfigError(
            f"{fn!r} only makes a generator or a context manager of one, whose body runs after the call: guard what it"
            " calls, or use 'with service.attempt()' in it"
        )
    try:
        parameter = inspect.signature(fn).parameters.get("endpoint")
    except (TypeError, ValueError):
        return False  # a builtin without a signature
    if parameter is None or parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return False
    if alone:
        if parameter.default is PICKED:
            raise ConfigError(
                f"{fn!r} has a parameter 'endpoint' to be filled, but a policy alone picks no endpoint: decorate it"
                " with Service.guard"
            )
        return False  # it means something else, and callers pass it
    if parameter.default is not PICKED or parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        raise ConfigError(
            f"{fn!r} has a parameter 'endpoint' that svcmesh cannot fill: declare it as 'endpoint: Endpoint = PICKED'"
        )
    return True
