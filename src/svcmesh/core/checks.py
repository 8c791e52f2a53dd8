"""Checks that every configuration object shares, so that all of them fail in the same words.

A mistake in a policy must show when the policy is built, with the name of the field and the value found.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from svcmesh.core.errors import ConfigError

LARGEST = sys.float_info.max
"""The largest number that is finite."""

LONGEST = 320
"""Bits of numbers whose digits are still shown."""


def shown(value: object) -> str:
    """Return ``value`` as errors show it: of a number of a hundred digits and more only how large it is."""
    if isinstance(value, int) and value.bit_length() > LONGEST:
        return f"a number of {value.bit_length():,} bits"
    try:
        return repr(value)
    except ValueError:  # of such a number within it
        return f"a {type(value).__name__} with numbers too large to be shown"


def seconds(field: str, value: float | None, *, zero: bool = False) -> float | None:
    """Return ``value`` as a float of seconds, or None for None.

    Raises:
        ConfigError: not a finite number, negative, or zero where ``zero`` is not allowed.
    """
    if value is None:
        return None
    number_of_seconds = number(field, value)
    if number_of_seconds < 0 or (number_of_seconds == 0 and not zero):
        raise ConfigError(f"{field} must be {'at least' if zero else 'more than'} 0 seconds, not {value!r}")
    return number_of_seconds


def duration(field: str, value: float, *, zero: bool = False) -> float:
    """Return ``value`` as a float of seconds, where None means nothing.

    Raises:
        ConfigError: as `seconds`, and for None.
    """
    if value is None:
        raise ConfigError(f"{field} must be a number of seconds, not None")
    return seconds(field, value, zero=zero) or 0.0


def number(field: str, value: float) -> float:
    """Return ``value`` as a float.

    Raises:
        ConfigError: not a number, or NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
        raise ConfigError(f"{field} must be a finite number, not {shown(value)}")
    return float(value)


def between(field: str, value: float, low: float, high: float) -> float:
    """Return ``value`` as a float from ``low`` to ``high``, ends included.

    Raises:
        ConfigError: outside that range or not a number.
    """
    found = number(field, value)
    if not low <= found <= high:
        raise ConfigError(f"{field} must be from {low:g} to {high:g}, not {value!r}")
    return found


def flag(field: str, value: bool) -> bool:
    """Return ``value`` when it is True or False: a word such as "no" would count as true.

    Raises:
        ConfigError: otherwise.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{field} must be True or False, not {value!r}")
    return value


def optional(field: str, value: object, kind: type) -> None:
    """Refuse what is neither a ``kind`` nor None.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, kind | None):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        raise ConfigError(f"{field} must be {article} {kind.__name__} or None, not {value!r}")


def hashed(field: str, value: int | None) -> int | None:
    """Return ``value`` when it is a hash, any whole number, or None.

    Raises:
        ConfigError: otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, int | None):
        raise ConfigError(f"{field} must be a whole number, the hash of what the call is about, not {value!r}")
    return value


def whole(field: str, value: int, low: int) -> int:
    """Return ``value`` when it is a whole number of at least ``low``.

    Raises:
        ConfigError: otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{field} must be a whole number of at least {low}, not {shown(value)}")
    return value


def pairs(field: str, value: Any, what: str) -> tuple[tuple[Any, Any], ...]:
    """Return a mapping, or the pairs of one, as pairs, which can be hashed and pickled; of one key the last.

    Args:
        field: whose. value: what was given. what: what it must be, in words.

    Raises:
        ConfigError: it is neither.
    """
    found = value.items() if isinstance(value, Mapping) else value
    if not isinstance(found, str | bytes) and isinstance(found, Iterable):
        given = tuple(found)
        if all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in given):
            with suppress(TypeError):  # a key that cannot be one
                return tuple(dict(given).items())
    raise ConfigError(f"{field} must be {what}, not {value!r}")
