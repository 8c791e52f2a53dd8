"""What went wrong with Consul, by what follows from it: ask again, ask another agent, register again, or tell somebody.

Consul says nearly everything by a status and a line of plain text. Texts differ between versions, so the status
decides; the text is shown. An error of any of these kinds never means "no instances".
"""

from __future__ import annotations

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.lines import seconds_of
from svcmesh.discovery.pace import SLOWLY

_SHOWN = 200  # characters of an answer that an error shows
_UNKNOWN = ("unknown check", "unknown service", "does not have associated ttl", "unable to find checkid")
_CROWDED = "concurrent connections"


class ConsulError(DiscoveryError):
    """Consul could not be asked, or refused. ``status`` is that of HTTP, or None where there was no answer."""

    status: int | None = None


class Unreachable(ConsulError):
    """No answer: the connection failed, broke off, or nothing came in time. Another agent may be better."""


class Silent(Unreachable):
    """Nothing came in time."""


class HungUp(Unreachable):
    """A new connection ended before it was answered: the agent goes, or comes, or takes no more from this address."""


class Busy(ConsulError):
    """429 or 503: a limit of Consul's. Another agent may be better."""


class Crowded(Busy):
    """429 to a connection: the agent takes no more of them from this address."""


class Broken(ConsulError):
    """5xx: no cluster leader, or an error between servers. It passes; another agent may be better."""


class Denied(ConsulError):
    """401, 403, or a list from which rights removed everything: the token is unknown, expired, or may not."""


class Unknown(ConsulError):
    """404, or an old agent's 500 about a check: the agent does not have what was named."""


class Strange(ConsulError):
    """An answer that Consul does not give: a proxy's page, a redirect. Another agent may be better."""


class Refused(ConsulError):
    """Any other answer: the request is wrong for this Consul."""


PASSING_BY = (Unreachable, Busy, Broken, Strange)
"""Errors that another agent, or another moment, may not have."""


def error_of(
    status: int, body: bytes, *, asked: str, retry_after: str | None = None, is_there: bool = False
) -> ConsulError:
    """Return the error that an answer amounts to.

    Args:
        status: of HTTP, not 200. body: the beginning of the answer.
        asked: method, path and agent, for the text. retry_after: the header of that name.
        is_there: what was asked for is there in every Consul, so that 404 is the word of a proxy without its agent.
    """
    told = " ".join(body[: 4 * _SHOWN].decode("utf-8", errors="replace").split())[:_SHOWN]
    kind, wait, hint = _kind(status, told.lower())
    if status == 404 and is_there:
        kind, hint = Strange, "; is that the address of Consul's API?"
    told_wait = seconds_of(retry_after)
    wait = wait if told_wait is None else told_wait
    error = kind(f"{asked} answered {status}{': ' + told if told else ''}{hint}", retry_after=wait)
    error.status = status
    return error


def _kind(status: int, told: str) -> tuple[type[ConsulError], float | None, str]:
    if status in {401, 403}:
        return Denied, SLOWLY, "; give it a token with the right policy (CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE)"
    if status == 404 or (status == 500 and any(words in told for words in _UNKNOWN)):
        return Unknown, None, ""
    if status == 429 and _CROWDED in told:
        return Crowded, None, "; raise limits.http_max_conns_per_client"
    if status in {429, 503}:
        return Busy, None, ""
    if status >= 500:
        return Broken, None, ""
    if 300 <= status < 400:
        return Strange, SLOWLY, "; redirects are not followed: is that the address of Consul's API?"
    return Refused, SLOWLY, ""
