"""What went wrong with etcd, by what follows from it: ask another member, log in again, grant again, or tell somebody.

etcd's errors are those of gRPC: a number and a text. The number decides, except where etcd uses one number for several
things. What has no number was not said by etcd, and there the status of HTTP decides. An error of any kind never means
"no instances".

Source: etcd's `api/v3rpc/rpctypes/error.go`; gRPC's status codes.
"""

from __future__ import annotations

import json
from typing import Any

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.pace import SLOWLY

_SHOWN = 200  # characters of an answer that an error shows
_UNAUTHENTICATED = 16


class EtcdError(DiscoveryError):
    """etcd could not be asked, or refused."""


class Unreachable(EtcdError):
    """No answer: the connection failed, broke off, or nothing came in time. Another member may be better."""


class Silent(Unreachable):
    """Nothing came for a time, which from a watch may just mean that nothing happened."""


class Broken(EtcdError):
    """No leader, too many requests, a member that stops: it passes, and another member may be better."""


class TokenLost(EtcdError):
    """The token is not known any more, or none was sent: logging in again helps."""


class Denied(EtcdError):
    """Wrong user or password, or no permission."""


class NoUsers(EtcdError):
    """Authentication is not enabled: no token is needed."""


class Unknown(EtcdError):
    """What was named is not there: a lease that has run out."""


class Refused(EtcdError):
    """Any other answer: the request is wrong for this etcd, or something that is no etcd answers."""


PASSING_BY = (Unreachable, Broken)
"""Errors that another member, or another moment, may not have."""

_KINDS: dict[int, type[EtcdError]] = {
    2: Broken,  # unknown
    4: Broken,  # deadline exceeded
    5: Unknown,
    7: Denied,
    8: Broken,  # resource exhausted
    9: Broken,  # failed precondition: a learner, a member that is not ready
    13: Broken,  # internal
    14: Broken,  # unavailable: no leader, stopped, timed out
    15: Broken,  # data loss
    _UNAUTHENTICATED: TokenLost,
}
_BY_TEXT: tuple[tuple[str, type[EtcdError]], ...] = (
    ("authentication is not enabled", NoUsers),
    ("user name is empty", TokenLost),
    ("invalid auth token", TokenLost),
    ("revision of auth store is old", TokenLost),
    ("authentication failed", Denied),
    ("permission denied", Denied),
    ("user name not found", Denied),
    ("commonname of client", Denied),
)
_HINTS: dict[type[EtcdError], str] = {
    Denied: "; give it a user that may read and write its keys (etcd://user:password@…, ETCDCTL_USER)",
    TokenLost: "; give it a user (etcd://user:password@…, ETCDCTL_USER)",
}


def error_of(status: int, body: bytes, *, asked: str) -> EtcdError:
    """Return the error that an answer amounts to.

    Args:
        status: of HTTP, not 200. body: the answer, or its beginning.
        asked: path and member, for the text.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    code, told = told_by(found)
    if code is None:
        text = " ".join(body[: 4 * _SHOWN].decode("utf-8", errors="replace").split())
        return _foreign(status, f"{asked} answered {status}{': ' + text[:_SHOWN] if text else ''}", text.lower())
    return error_told(code, told, asked=asked)


def told_by(found: Any) -> tuple[int | None, str]:
    """Return number and text of an error in an answer; None where it holds none of etcd's.

    A plain answer has them at its top, one line of a stream within ``error``, and each under one of two names,
    depending on etcd's version.
    """
    if not isinstance(found, dict):
        return None, ""
    holder = found["error"] if isinstance(found.get("error"), dict) else found
    code, text = holder.get("code", holder.get("grpc_code")), holder.get("message", holder.get("error"))
    if type(code) is not int or not isinstance(text, str):
        return None, ""
    return code, text


def error_told(code: int, told: str, *, asked: str) -> EtcdError:
    """Return the error for a number of gRPC's and a text."""
    lower = told.lower()
    kind = next((kind for words, kind in _BY_TEXT if words in lower), _KINDS.get(code, Refused))
    return _error(kind, f"{asked}: {' '.join(told.split())[:_SHOWN]}")


def _foreign(status: int, text: str, told: str) -> EtcdError:
    """Return the error for an answer that etcd's gateway has not made."""
    if any(words in told for words, kind in _BY_TEXT if kind is Denied) or status in {401, 403}:
        return _error(Denied, text)
    if status in {408, 429} or status >= 500:
        return _error(Broken, text)
    if status == 404:
        text += "; is it etcd 3.4 or newer, with its gRPC gateway on?"
    if 300 <= status < 400:
        text += "; redirects are not followed: is that the address of etcd's clients?"
    return _error(Refused, text)


def _error(kind: type[EtcdError], text: str) -> EtcdError:
    wait = SLOWLY if kind in {Denied, TokenLost, Refused} else None
    return kind(text + _HINTS.get(kind, ""), retry_after=wait)
