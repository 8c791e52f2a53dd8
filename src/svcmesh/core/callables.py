"""What a call of something does: run it, or only make what runs later.

Who puts a call between a beginning and an end, to count it or to give it a budget of time, has to know this before
the first call: what runs after the end is not counted, and has no budget.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any

_DECORATORS: tuple[Any, ...] = contextlib.contextmanager, contextlib.asynccontextmanager
_BLOCKS = tuple(decorate(print).__code__ for decorate in _DECORATORS)
"""The code that all functions share which one of these has decorated: nothing else tells them from other functions."""


MOST_LAYERS = 100
"""How many wrappers are looked through: there are objects that have any attribute, and say that they wrap another."""


def is_async(fn: object) -> bool:
    """Return whether ``fn`` is a coroutine function, or an object that is called like one."""
    return any(inspect.iscoroutinefunction(each) for each in _called(fn))


def runs_later(fn: object) -> bool:
    """Return whether a call of ``fn`` only makes a generator of either colour, or a context manager of one."""
    return any(
        inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) or any(map(_is_block, _layers(each)))
        for each in _called(fn)
    )


def _called(fn: object) -> tuple[object, object]:
    return fn, type(fn).__call__ if callable(fn) else None  # of an instance, that of its class is what a call runs


def _is_block(fn: object) -> bool:
    return any(getattr(fn, "__code__", None) is code for code in _BLOCKS)


def _layers(fn: object) -> Iterator[object]:
    """Yield ``fn`` and what it says that it wraps."""
    for _ in range(MOST_LAYERS):
        yield fn
        fn = fn.func if isinstance(fn, functools.partial) else getattr(fn, "__wrapped__", None)
        if fn is None:
            return
