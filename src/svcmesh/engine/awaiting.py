"""The driver for callers who await: the same effects as `blocking`, performed in the caller's task."""

from __future__ import annotations

from typing import Any

from svcmesh.core.clock import sleep_until
from svcmesh.core.loop import NoLoop
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.effects import Discard, Done, Start, Wait
from svcmesh.engine.exchange import Attempt, AwaitingExchange, outcome_of
from svcmesh.engine.in_time import CutShort, OutOfTime, in_time
from svcmesh.engine.machine import Call
from svcmesh.engine.member import Member
from svcmesh.engine.news import await_news
from svcmesh.engine.view import View


async def run(call: Call, exchange: AwaitingExchange) -> Any:
    """Perform ``call`` to its end; return its value or raise its error."""
    now = call.view.clock.now
    try:
        while True:
            effect = call.poll(now())
            if isinstance(effect, Start):
                outcome = await perform(call, exchange, effect.attempt)
                call.ended(effect.attempt, outcome, now())
            elif isinstance(effect, Wait):
                await wait(call, effect)
            elif isinstance(effect, Discard):
                await exchange.discard(effect.outcome)
            elif isinstance(effect, Done):
                break
        if effect.outcome.error is None:
            return effect.outcome.value
        error = effect.outcome.error
    except CutShort as cut:
        await give_up(call, exchange)
        error = cut.error
    except GeneratorExit:  # closed by hand or by the garbage collector: nothing can be awaited any more
        call.abandon(now())
        raise
    except BaseException:  # a cancellation, above all: give back whatever is held
        await give_up(call, exchange)
        raise
    raise error


async def give_up(call: Call, exchange: AwaitingExchange) -> None:
    """Abandon ``call``, and release the answers that it held."""
    now = call.view.clock.now
    call.abandon(now())
    while isinstance(effect := call.poll(now()), Discard):
        await exchange.discard(effect.outcome)


async def resume(
    view: View,
    exchange: AwaitingExchange,
    member: Member,
    started: float,
    deadline: float,
    error: BaseException,
    *,
    late: bool,
) -> Any:
    """Go on with a call whose first attempt, on the success path, raised ``error``; ``late``: the reaper cut it off."""
    call = Call(view, exchange, started, deadline)
    attempt = call.adopt(member, started)
    now = view.clock.now()
    if late:
        call.ended(attempt, call.timed_out(attempt), now)
    elif isinstance(error, Exception):
        call.ended(attempt, outcome_of(exchange, error), now)
    else:
        call.abandon(now)
        raise error.error if isinstance(error, CutShort) else error
    try:
        return await run(call, exchange)
    except NoLoop as refusal:  # there is something to wait for: the next attempt
        if refusal is error:
            raise
        raise refusal from error


async def admit(call: Call) -> Attempt:
    """Perform ``call`` until an attempt may start, and return that; for transports that do the attempt elsewhere."""
    now = call.view.clock.now
    try:
        while True:
            effect = call.poll(now())
            if isinstance(effect, Start):
                return effect.attempt
            if isinstance(effect, Wait):
                await wait(call, effect)
            elif isinstance(effect, Done):
                raise effect.outcome.error or RuntimeError("a call ended well before it began")
    except BaseException:
        call.abandon(now())
        raise


async def perform(call: Call, exchange: AwaitingExchange, attempt: Attempt) -> Outcome:
    """Make one attempt, cut off when its time is up, and return how it ended."""
    try:
        value = await in_time(exchange.send(attempt), call.view.runtime.reapers, attempt.until)
    except OutOfTime:
        return call.timed_out(attempt)
    except Exception as error:  # noqa: BLE001 - whatever it is, the exchange knows what it means
        return outcome_of(exchange, error)
    return Outcome(Kind.SUCCESS, value=value)


async def wait(call: Call, effect: Wait) -> None:
    """Suspend until the instant that the machine named, or news that it wants to hear."""
    if effect.seen is None:
        await sleep_until(call.view.clock, effect.until)
    else:
        await await_news(call.view.cluster, effect.seen, effect.until)
