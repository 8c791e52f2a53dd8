"""What went wrong at the API server, by what follows from it: list again, go on from where it was, or tell somebody.

The API server says what is wrong by a status and an object of kind Status, whose message is written for people. None
of these errors ever means "no endpoints".
"""

from __future__ import annotations

import json
from typing import Any

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.kubernetes.slices import mapping, text
from svcmesh.discovery.lines import seconds_of
from svcmesh.discovery.pace import SLOWLY

_SHOWN = 300  # characters of a message that an error shows
_LONGEST = 86_400.0  # seconds that a server may ask us to wait


class KubernetesError(DiscoveryError):
    """The API server could not be asked, or refused. ``status`` is that of HTTP, or None where there was no answer."""

    status: int | None = None


class Unreachable(KubernetesError):
    """No answer, or one that broke off. What was known is as good as it was."""


class Gone(KubernetesError):
    """410: the version that a watch or the next page begins at is too old. Everything has to be listed anew."""


def error_of(status: int, body: bytes, *, asked: str, retry_after: str | None = None) -> KubernetesError:
    """Return the error that an answer amounts to.

    Args:
        status: of HTTP, not 200. body: the beginning of the answer.
        asked: what was asked, for the text. retry_after: the header of that name.
    """
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        told = {"message": body[: 4 * _SHOWN].decode("utf-8", errors="replace")}
    return _error(status, told, asked, seconds_of(retry_after))


def error_in(found: Any, *, asked: str) -> KubernetesError:
    """Return the error that an event of type ERROR holds; ``asked`` is what is watched."""
    told = found if isinstance(found, dict) else {}
    code = told.get("code")
    return _error(code if type(code) is int else 500, told, asked, None)


def _error(status: int, told: dict[str, Any], asked: str, retry_after: float | None) -> KubernetesError:
    message = " ".join(text(told, "message").split())[:_SHOWN]
    wait, hint = _hint(status)
    seconds = mapping(told, "details").get("retryAfterSeconds")
    if retry_after is not None:
        wait = retry_after
    elif type(seconds) is int and seconds > 0:
        wait = min(float(seconds), _LONGEST) if seconds < _LONGEST else _LONGEST
    kind = Gone if status == 410 else KubernetesError
    error = kind(f"{asked} answered {status}{': ' + message if message else ''}{hint}", retry_after=wait)
    error.status = status
    return error


def _hint(status: int) -> tuple[float | None, str]:
    """Return how long to wait and what to do, by status."""
    if status == 401:
        return SLOWLY, "; the token is unknown or expired"
    if status == 403:
        return SLOWLY, (
            "; give the service account a Role with the verbs list and watch on endpointslices in the API group "
            "discovery.k8s.io"
        )
    if status == 404:
        return SLOWLY, "; is that the address of a Kubernetes API server (1.21 or newer)?"
    if 300 <= status < 400:
        return SLOWLY, "; redirects are not followed: is that the address of the API server?"
    return (None, "") if status in {410, 429} or status >= 500 else (SLOWLY, "")
