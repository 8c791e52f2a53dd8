"""Being told to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from svcmesh.cli.demo.interruption import ENDING, Interrupted, Interruptible

USUAL = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """Let signals end this process, as is usual, also where the tests run under nohup or in a shell's background."""
    before = {number: signal.signal(number, handler) for number, handler in USUAL.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_the_first_signal_is_an_exception_and_others_are_ignored(number: signal.Signals) -> None:
    """Cleaning up after the first signal is not disturbed by a second one; afterwards all is as before."""
    before = [signal.getsignal(one) for one in ENDING]
    cleaned: list[bool] = []

    def run() -> None:
        with Interruptible():
            try:
                os.kill(os.getpid(), number)
            finally:
                for other in ENDING:
                    os.kill(os.getpid(), other)
                cleaned.append(True)

    with pytest.raises(Interrupted) as interrupted:
        run()

    assert cleaned == [True]
    assert interrupted.value.status == 128 + number
    assert [signal.getsignal(one) for one in ENDING] == before


def test_a_hushed_block_is_not_interrupted() -> None:
    """After `hush` not even the first signal raises."""
    with Interruptible() as signals:
        signals.hush()
        for number in ENDING:
            os.kill(os.getpid(), number)

    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_nohup_is_respected() -> None:
    """A hang-up that is ignored when the block begins does not interrupt it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interruptible():
        os.kill(os.getpid(), signal.SIGHUP)

    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_it_is_no_error() -> None:
    """Code that handles all errors does not swallow it."""
    assert not issubclass(Interrupted, Exception)


def test_a_signal_whose_exception_was_lost_is_heeded_later() -> None:
    """Python loses what a finalizer raises; the next `heed` raises it again, and before any signal it does nothing."""
    with Interruptible() as signals:
        signals.heed()
        with suppress(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted) as interrupted:
            signals.heed()

    assert interrupted.value.status == 128 + signal.SIGTERM
