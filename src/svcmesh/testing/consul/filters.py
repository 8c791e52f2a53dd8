"""The part of go-bexpr that filters of discovery use: comparisons, membership, emptiness, and, or, not, brackets.

``Service.Meta.version == "2" and "canary" in Service.Tags``. A selector that goes into a list of objects
(``Checks.Status``) holds if any of them does, and keeps or drops the whole entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from svcmesh.testing.consul.answers import HttpError

Test = Callable[[Any], bool]

_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*"|`[^`]*`)|(==|!=|\(|\))|([A-Za-z0-9_./\-]+))')


def compile_filter(text: str) -> Test:
    """Return a function that says whether an entry is kept.

    Raises:
        HttpError: 400, the expression cannot be understood.
    """
    parser = _Parser(_tokens(text), text)
    test = parser.either()
    if parser.left:
        raise parser.error()
    return test


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise HttpError(400, f"Failed to create boolean expression evaluator: {text!r}")
        found.append(match[0].strip())
        position = match.end()
    return found


class _Parser:
    """Recursive descent over ``or``, ``and``, ``not``, comparisons."""

    def __init__(self, tokens: list[str], text: str) -> None:
        self.left = tokens
        self._text = text

    def error(self) -> HttpError:
        return HttpError(400, f"Failed to create boolean expression evaluator: {self._text!r}")

    def either(self) -> Test:
        first = self._both()
        while self._take("or"):
            first = _or(first, self._both())
        return first

    def _both(self) -> Test:
        first = self._single()
        while self._take("and"):
            first = _and(first, self._single())
        return first

    def _single(self) -> Test:
        if self._take("not"):
            negated = self._single()
            return lambda entry: not negated(entry)
        if self._take("("):
            inner = self.either()
            if not self._take(")"):
                raise self.error()
            return inner
        return self._comparison()

    def _comparison(self) -> Test:
        first = self._next()
        if self._take("is"):
            negated = self._take("not")
            if not self._take("empty"):
                raise self.error()
            path = first.split(".")
            return lambda entry: any(not found for found in _select(entry, path)) != negated
        negated = self._take("not")
        for operator in ("==", "!=", "in", "contains", "matches"):
            if self._take(operator):
                return _comparison(first, operator, self._next(), negated=negated)
        raise self.error()

    def _take(self, word: str) -> bool:
        if self.left and self.left[0] == word:
            self.left.pop(0)
            return True
        return False

    def _next(self) -> str:
        if not self.left:
            raise self.error()
        return self.left.pop(0)


def _comparison(first: str, operator: str, second: str, *, negated: bool) -> Test:
    path, value = (second, first) if operator == "in" else (first, second)
    wanted, steps = _value(value), path.split(".")

    def one(found: Any) -> bool:
        if operator in {"==", "!="}:
            return _plain(found) == wanted
        if operator == "matches":
            return isinstance(found, str) and re.search(wanted, found) is not None
        return wanted in found if isinstance(found, list | dict | str) else False

    return lambda entry: any(one(found) for found in _select(entry, steps)) != (negated or operator == "!=")


def _value(token: str) -> str:
    return token[1:-1].replace('\\"', '"') if token[0] in '"`' else token


def _plain(found: Any) -> str:
    return str(found).lower() if isinstance(found, bool) else str(found)


def _select(found: Any, path: list[str]) -> Iterator[Any]:
    """Yield what a path leads to; a list of objects leads to something for each."""
    if not path:
        yield found
    elif isinstance(found, dict):
        if path[0] in found:
            yield from _select(found[path[0]], path[1:])
    elif isinstance(found, list):
        for one in found:
            yield from _select(one, path)


def _or(one: Test, other: Test) -> Test:
    return lambda entry: one(entry) or other(entry)


def _and(one: Test, other: Test) -> Test:
    return lambda entry: one(entry) and other(entry)
