"""The callables of a channel, by what a stub asked for. Interceptors ask anew on every call, so they are kept.

What a stub passes is the key: the path and the serializers. Stock channels keep nothing, so that theirs need not be
hashable, while an object with ``__call__`` that compares by value (a dataclass) is not; it is known by its identity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Key = tuple[Any, ...]
"""Kind, path, serializer, deserializer, and whether the method is registered."""
MOST_MULTICALLABLES = 1024
"""Kept per channel; callers may pass fresh lambdas as serializers each time."""


class Multicallables:
    """Has each callable made once. Threads: any; two that ask at once may get one each."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Any, Any] = {}

    def get(self, key: Key, make: Callable[[Key], Any]) -> Any:
        """Return the callable of ``key``, made now if need be."""
        try:
            found = self._kept.get(key)
        except TypeError:
            return self._found(tuple(map(_hashable, key)), key, make)
        return self._found(key, key, make) if found is None else found

    def _found(self, known: Any, key: Key, make: Callable[[Key], Any]) -> Any:
        found = self._kept.get(known)
        if found is None:
            found = make(key)
            if len(self._kept) >= MOST_MULTICALLABLES:
                self._kept.clear()
            self._kept[known] = found
        return found


class _Itself:
    """Stands for an object that has no hash, and keeps it, so that no other gets its address."""

    __slots__ = ("_one",)

    def __init__(self, one: Any) -> None:
        self._one = one

    def __hash__(self) -> int:
        return id(self._one)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and other._one is self._one


def _hashable(part: Any) -> Any:
    try:
        hash(part)
    except TypeError:
        return _Itself(part)
    return part
