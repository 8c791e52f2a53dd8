"""The storage and the listener that pybreaker gets: they answer from memory and take notes."""

from __future__ import annotations

from datetime import UTC, datetime

import pybreaker

from svcmesh.policy.bridge import Foreign, Ledger, Scribe
from svcmesh.policy.relay import Relay


def relay() -> Relay:
    return Relay(lambda error: None)


def test_only_the_failure_too_many_reaches_fail_max():
    ledger = Ledger(3, relay())
    ledger.failures = 99
    below = ledger.counter
    ledger.tripped = True

    assert (below, ledger.counter) == (2, 3)


def test_an_open_circuit_shows_its_failures():
    """As stock does: nobody asks any more whether it is to open."""
    ledger = Ledger(3, relay())
    ledger.failures = 3
    ledger.state = pybreaker.STATE_OPEN

    assert ledger.counter == 3


def test_a_stock_machine_opens_when_the_ledger_says_so_and_not_before():
    ledger = Ledger(5, relay())
    circuit = pybreaker.CircuitBreaker(fail_max=5, state_storage=ledger, throw_new_error_on_trip=False)

    def fail():
        raise ConnectionError

    for tripped, state in ((False, "closed"), (True, "open")):
        ledger.tripped = tripped
        try:
            circuit.call(fail)
        except ConnectionError:
            assert circuit.current_state == state


def test_writes_reach_the_users_storage_when_delivered_and_not_before():
    outbox = relay()
    ledger = Ledger(3, outbox)
    users = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
    ledger.foreign = Foreign(users, "breaker")
    opened_at = datetime(2026, 11, 22, tzinfo=UTC)
    ledger.state = pybreaker.STATE_OPEN
    ledger.opened_at = opened_at
    ledger.increment_counter()
    ledger.increment_success_counter()

    assert (users.state, users.opened_at, users.counter, users.success_counter) == ("closed", None, 0, 0)
    assert (ledger.state, ledger.opened_at, ledger.success_counter) == ("open", opened_at, 1)
    outbox.deliver()
    assert (users.state, users.opened_at, users.counter, users.success_counter) == ("open", opened_at, 1, 1)

    ledger.reset_counter()
    ledger.reset_success_counter()
    outbox.deliver()
    assert (users.counter, users.success_counter, ledger.success_counter) == (0, 0, 0)


def test_listeners_hear_everything_later_but_the_new_state_is_known_at_once():
    heard, known, outbox = [], [], relay()

    class Listener(pybreaker.CircuitBreakerListener):
        def before_call(self, cb, func, *args, **kwargs):
            heard.append("before")

        def failure(self, cb, exc):
            heard.append("failure")

        def success(self, cb):
            heard.append("success")

        def state_change(self, cb, old_state, new_state):
            heard.append(new_state.name)

    scribe = Scribe((Listener(),), outbox, lambda old, new: known.append((old, new)))
    circuit = pybreaker.CircuitBreaker(listeners=[scribe])
    circuit.call(int)
    circuit.open()

    assert (heard, known) == ([], [("closed", "open")])
    outbox.deliver()
    assert heard == ["before", "success", "open"]
