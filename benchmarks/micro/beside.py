"""What a thread does beside the one that is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread


@contextmanager
def working(step: Callable[[], object], every: float = 0.0) -> Iterator[None]:
    """Have a thread take the step again and again until the block ends.

    Args:
        step: what it does. every: seconds that it rests before each step; 0 (default): it computes without a pause.
    """
    done = Event()

    def work() -> None:
        while not (done.wait(every) if every else done.is_set()):
            step()

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
