"""gRPC's service config: what of it are fields of a policy.

A service config says things of methods. A policy is one of a service, so the entry that is for all methods counts: the
one that names nothing. What it says that we have no field for is named, and so are entries of single methods.

gRPC takes a config whole or not at all: a field that is known and wrong spoils it. What is not known it skips in
silence; here that is named, too.

Source: gRPC, service_config.proto, proposals A2, A6 and A21.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from svcmesh.core.errors import ConfigError
from svcmesh.policy.backoff import GrpcBackoff
from svcmesh.policy.retry import Retry
from svcmesh.policy.retry_on import of_codes
from svcmesh.policy.status import GRPC_TO_HTTP
from svcmesh.policy.translated import Translated

MOST_ATTEMPTS = 5
"""What gRPC's clients make of a `maxAttempts` that is more."""

_DURATION = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?s")
_WHOLE = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?")
_CODES = tuple(GRPC_TO_HTTP)  # in the order of their numbers; the first is OK
_TOO_MANY = 10**9
_TOLD = 80  # characters of somebody's text that are shown
_OF_METHOD = ("timeout", "retryPolicy")
_OF_RETRIES = ("maxAttempts", "initialBackoff", "maxBackoff", "backoffMultiplier", "retryableStatusCodes")


def policy_of(config: object) -> Translated:
    """Return what a service config says, as a plain value of its JSON. A policy of retries has no time of its own.

    Raises:
        ConfigError: it is none; the message says what is wrong.
    """
    top = _object("the service config", config)
    fields: dict[str, Any] = {}
    left_out = [_told(key) for key in top if key != "methodConfig"]
    seen: set[tuple[str, str]] = set()
    for number, entry in enumerate(_list("methodConfig", top.get("methodConfig"))):
        where = f"methodConfig[{number}]"
        method = _object(where, entry)
        found = _of_method(where, method)
        names = list(_names(where, method))
        if not names:
            left_out.append(f"{where}, which names no method")
        for name in names:
            if name in seen:
                raise ConfigError(f"{where}: {_told('/'.join(name)).strip('/') or 'all'} is named by an entry already")
            seen.add(name)
            if name == ("", ""):
                fields = dict(found.fields)
                left_out += found.left_out
            else:
                left_out.append(f"methodConfig of {_told('/'.join(name))}")
    return Translated(fields, tuple(left_out))


def _names(where: str, method: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the services and methods that an entry is for; both empty: all."""
    for one in _list(f"{where}.name", method.get("name")):
        name = _object(f"{where}.name", one)
        service, called = (name.get(key) or "" for key in ("service", "method"))
        if not isinstance(service, str) or not isinstance(called, str) or (called and not service):
            raise ConfigError(f"{where}.name is {_shown(one)}: a service, or a service and a method of it, as text")
        yield service, called


def _of_method(where: str, method: Mapping[str, Any]) -> Translated:
    said = {key: value for key, value in method.items() if value is not None}
    if "retryPolicy" in said and "hedgingPolicy" in said:
        raise ConfigError(f"{where} has a retryPolicy and a hedgingPolicy: one of them")
    fields: dict[str, Any] = {}
    left_out = [_told(key) for key in said if key not in {"name", *_OF_METHOD}]
    if "timeout" in said:
        seconds = _seconds(f"{where}.timeout", said["timeout"])
        fields |= {"timeout": seconds} if seconds else {}  # to gRPC, too, no time at all is none
    if "retryPolicy" in said:
        policy = _object(f"{where}.retryPolicy", said["retryPolicy"])
        left_out += [f"retryPolicy.{_told(key)}" for key in policy if key not in _OF_RETRIES]
        attempts = _whole(f"{where}.retryPolicy.maxAttempts", policy.get("maxAttempts"))
        if attempts > MOST_ATTEMPTS:
            left_out.append(f"retryPolicy.maxAttempts above {MOST_ATTEMPTS}")
        fields |= {"per_try_timeout": None, "retry": _retry(f"{where}.retryPolicy", policy, attempts)}
    return Translated(fields, tuple(left_out))


def _retry(where: str, policy: Mapping[str, Any], attempts: int) -> Retry:
    if attempts < 2:
        raise ConfigError(f"{where}.maxAttempts is {attempts}: the first one is counted, so it is at least 2")
    codes = _list(f"{where}.retryableStatusCodes", policy.get("retryableStatusCodes"))
    if not codes:
        raise ConfigError(f"{where}.retryableStatusCodes is missing or empty")
    wait = GrpcBackoff(
        initial=_positive(f"{where}.initialBackoff", _seconds(f"{where}.initialBackoff", policy.get("initialBackoff"))),
        cap=_positive(f"{where}.maxBackoff", _seconds(f"{where}.maxBackoff", policy.get("maxBackoff"))),
        multiplier=_multiplier(f"{where}.backoffMultiplier", policy.get("backoffMultiplier")),
    )
    on = of_codes(_code(f"{where}.retryableStatusCodes", code) for code in codes)
    return Retry(max_attempts=min(attempts, MOST_ATTEMPTS), on=on, wait=wait)


def _code(where: str, given: object) -> str:
    if isinstance(given, str) and given.upper() in _CODES[1:]:
        return given.upper()
    if isinstance(given, int) and not isinstance(given, bool) and 0 < given < len(_CODES):
        return _CODES[given]
    raise ConfigError(f"{where} has {_shown(given)}: the name of a gRPC code that is an error is wanted")


def _object(where: str, given: object) -> Mapping[str, Any]:
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise ConfigError(f"{where} is {_shown(given)}: an object is wanted")
    return given


def _list(where: str, given: object) -> list[Any]:
    """Return a list; an empty one where there is none."""
    if given is not None and not isinstance(given, list):
        raise ConfigError(f"{where} is {_shown(given)}: a list is wanted")
    return given or []


def _seconds(where: str, given: object) -> float:
    if not isinstance(given, str) or not _DURATION.fullmatch(given):
        raise ConfigError(f"{where} is {_shown(given)}: seconds are wanted, written like '1.5s'")
    return float(given[:-1])


def _whole(where: str, given: object) -> int:
    """Return a whole number, which may be written as text."""
    if isinstance(given, str) and _WHOLE.fullmatch(given):
        return int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < _TOO_MANY:
        raise ConfigError(f"{where} is {_shown(given)}: a whole number is wanted")
    return given


def _multiplier(where: str, given: object) -> float:
    if isinstance(given, str) and _NUMBER.fullmatch(given):
        given = float(given)
    if isinstance(given, bool) or not isinstance(given, int | float) or not -1e9 <= given <= 1e9:
        raise ConfigError(f"{where} is {_shown(given)}: a number is wanted")
    return _positive(where, float(given))


def _positive(where: str, number: float) -> float:
    if number <= 0:
        raise ConfigError(f"{where} is {number!r}: it is more than 0")
    return number


def _shown(given: object) -> str:
    return "missing" if given is None else repr(given)[:_TOLD]


def _told(text: str) -> str:
    """Return somebody's text as far as it may stand in a message."""
    return repr(text[:_TOLD])[1:-1]
