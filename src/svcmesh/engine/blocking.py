"""The driver for callers who wait: effects are performed on their own thread."""

from __future__ import annotations

from threading import Event
from typing import Any

from svcmesh.core.outcome import Kind, Outcome
from svcmesh.engine.effects import Discard, Done, Start, Wait
from svcmesh.engine.exchange import Attempt, BlockingExchange, outcome_of
from svcmesh.engine.machine import Call
from svcmesh.engine.member import Member
from svcmesh.engine.news import block_until_news
from svcmesh.engine.view import View


def run(call: Call, exchange: BlockingExchange) -> Any:
    """Perform ``call`` to its end; return its value or raise its error."""
    now = call.view.clock.now
    try:
        while True:
            effect = call.poll(now())
            if isinstance(effect, Start):
                outcome = perform(exchange, effect.attempt)
                call.ended(effect.attempt, outcome, now())
            elif isinstance(effect, Wait):
                wait(call, effect)
            elif isinstance(effect, Discard):
                exchange.discard(effect.outcome)
            elif isinstance(effect, Done):
                break
    except BaseException:  # KeyboardInterrupt and the like: give back whatever is held
        give_up(call, exchange)
        raise
    if effect.outcome.error is not None:
        raise effect.outcome.error
    return effect.outcome.value


def give_up(call: Call, exchange: BlockingExchange) -> None:
    """Abandon ``call``, and release the answers that it held."""
    now = call.view.clock.now
    call.abandon(now())
    while isinstance(effect := call.poll(now()), Discard):
        exchange.discard(effect.outcome)


def resume(
    view: View, exchange: BlockingExchange, member: Member, started: float, deadline: float, error: BaseException
) -> Any:
    """Go on with a call whose first attempt, on the success path, raised ``error``."""
    call = Call(view, exchange, started, deadline)
    attempt = call.adopt(member, started)
    if not isinstance(error, Exception):
        call.abandon(view.clock.now())
        raise error
    call.ended(attempt, outcome_of(exchange, error), view.clock.now())
    return run(call, exchange)


def admit(call: Call) -> Attempt:
    """Perform ``call`` until an attempt may start, and return that; for transports that do the attempt elsewhere."""
    now = call.view.clock.now
    try:
        while True:
            effect = call.poll(now())
            if isinstance(effect, Start):
                return effect.attempt
            if isinstance(effect, Wait):
                wait(call, effect)
            elif isinstance(effect, Done):
                raise effect.outcome.error or RuntimeError("a call ended well before it began")
    except BaseException:
        call.abandon(now())
        raise


def perform(exchange: BlockingExchange, attempt: Attempt) -> Outcome:
    """Make one attempt and return how it ended."""
    try:
        return Outcome(Kind.SUCCESS, value=exchange.send(attempt))
    except Exception as error:  # noqa: BLE001 - whatever it is, the exchange knows what it means
        return outcome_of(exchange, error)


def wait(call: Call, effect: Wait) -> None:
    """Block until the instant that the machine named, or news that it wants to hear."""
    if effect.seen is None:
        call.view.clock.wait(Event(), effect.until)
    else:
        block_until_news(call.view.cluster, effect.seen, effect.until)
