"""What a call of something does: run it, or only make what runs later.

Who puts a call between a beginning and an end, to count it or to give it a budget of time, has to know this before
the first call: what runs after the end is not counted, and has no budget.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any

_DECORATORS: tuple[Any, ...] = contextlib.contextmanager, contextlib.asynccontextmanager
_BLOCKS = tuple(decorate(print).__code__ for decorate in _DECORATORS)
"""The code that all functions share which one of these has decorated: nothing else tells them from other functions."""


def is_async(fn: object) -> bool:
    """Return whether ``fn`` is a coroutine function, or an object that is called like one."""
    return any(inspect.iscoroutinefunction(each) for each in _called(fn))


def takes_one(fn: Callable[..., Any]) -> bool:
    """Return whether ``fn`` can be called with one argument, as far as it tells."""
    try:
        inspect.signature(fn).bind(None)
    except TypeError:
        return False
    except ValueError:  # a builtin that does not tell
        return True
    return True


def runs_later(fn: object) -> bool:
    """Return whether a call of ``fn`` only makes a generator of either colour, or a context manager of one.

    What ``fn`` says that it wraps is not asked: it may use that up before it returns.
    """
    return any(
        inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) or _is_block(each) for each in _called(fn)
    )


def _called(fn: object) -> tuple[object, object]:
    fn = _bare(fn)
    return fn, _bare(type(fn).__call__) if callable(fn) else None  # of an instance, that of its class is what runs


def _bare(fn: object) -> object:
    """Return what ``fn`` calls, where it only adds arguments to it."""
    while isinstance(fn, functools.partial | MethodType | staticmethod):
        fn = fn.func if isinstance(fn, functools.partial) else fn.__func__
    return fn


def _is_block(fn: object) -> bool:
    return any(getattr(fn, "__code__", None) is code for code in _BLOCKS)
