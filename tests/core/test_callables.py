"""What a call of something does is known before it is called."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest import mock

import pytest

from svcmesh.core.callables import is_async, runs_later


async def fetch() -> int:
    return 1


def parts() -> Iterator[int]:
    yield 1


async def async_parts() -> AsyncIterator[int]:
    yield 1


@contextmanager
def block() -> Iterator[int]:
    yield 1


@asynccontextmanager
async def async_block() -> AsyncIterator[int]:
    yield 1


@functools.wraps(block)
def through_a_block() -> int:
    with block() as found:
        return found


@functools.wraps(parts)
def all_parts() -> list[int]:
    return list(parts())


class Client:
    async def __call__(self) -> int:
        return 1

    @contextmanager
    def session(self) -> Iterator[int]:
        yield 1

    half = functools.partialmethod(session)

    @functools.wraps(session)
    def through_a_session(self) -> int:
        with self.session() as found:
            return found

    def listed(self) -> list[int]:
        return [1]


class Parts:
    def __call__(self) -> Iterator[int]:
        yield 1


class Blocks:
    @contextmanager
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize("fn", [fetch, functools.partial(fetch), Client(), functools.partial(Client())])
def test_coroutine_functions(fn: Any) -> None:
    assert is_async(fn)
    assert not runs_later(fn)


@pytest.mark.parametrize(
    "fn",
    [
        parts,
        async_parts,
        Parts(),
        functools.partial(Parts()),
        block,
        async_block,
        staticmethod(block),
        functools.partial(block),
        Blocks(),
        Client().session,
        Client.session,
        Client().half,
        functools.partial(Client().session),
    ],
)
def test_generators_and_context_managers_of_them_run_later(fn: Any) -> None:
    assert runs_later(fn)
    assert not is_async(fn)


@pytest.mark.parametrize(
    "fn",
    [
        all_parts,
        through_a_block,
        functools.partial(through_a_block),
        Client().through_a_session,
        Client,
        Client().listed,
        len,
        lambda: parts(),  # noqa: PLW0108
        mock.call,
        3,
        None,
    ],
)
def test_what_else_can_be_called_runs_now(fn: Any) -> None:
    """A class, too, whose instances are called like coroutine functions, and what only looks like a generator function.

    Who wraps one, or a context manager, and calls it inside says that he wraps it, but has it run before he returns.
    """
    assert not runs_later(fn)
    assert not is_async(fn)
