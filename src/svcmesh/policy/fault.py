"""Faults put in on purpose: delays and aborts, drawn by chance, so that failure can be rehearsed.

As in Envoy: the delay comes first, then the abort, each with a draw of its own. Scope ``call`` is Envoy's place,
outside retries, and shows what callers see of a broken service; scope ``attempt`` stands in for a broken endpoint,
and shows what retries and ejection make of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from svcmesh.balance.picker import Rng
from svcmesh.core import checks
from svcmesh.core.address import parse_address
from svcmesh.core.endpoint import Endpoint
from svcmesh.core.errors import ConfigError
from svcmesh.policy.status import GRPC_TO_HTTP, code_name, http_status, http_to_grpc

Scope: TypeAlias = Literal["call", "attempt"]


@dataclass(frozen=True, slots=True)
class Abort:
    """End the call with a status instead of making it.

    Args:
        status: an HTTP status from 200 to 599 as int, or a gRPC error code as upper-case name or
            ``grpc.StatusCode``; default: ``grpc``, or else ``http``. What the other protocol's callers get follows
            from it as Envoy and gRPC map it, unless ``grpc`` or ``http`` say otherwise.
        grpc: the code for callers of gRPC.
        http: the status for callers of HTTP.
        percent: share of the calls, from 0 to 100; default 100.

    Raises:
        ConfigError: no status at all, or one outside its range.
    """

    status: int | str | None = None
    _: KW_ONLY
    grpc: Any = None
    http: int | None = None
    percent: float = 100.0

    def __post_init__(self) -> None:
        """Check the statuses, and spell codes as names."""
        _check_percent(self.percent)
        if self.grpc is not None:
            object.__setattr__(self, "grpc", code_name("grpc", self.grpc))
        if self.http is not None:
            http_status("http", self.http, 200)
        status = self.status
        if status is None:
            status = self.http if self.grpc is None else self.grpc
        if status is None:
            raise ConfigError("status of an Abort must be given, or grpc or http")
        checked = http_status("status", status, 200) if isinstance(status, int) else code_name("status", status)
        object.__setattr__(self, "status", checked)

    @property
    def http_status(self) -> int:
        """The status that an HTTP caller gets."""
        status = self.status if self.http is None else self.http
        return status if isinstance(status, int) else GRPC_TO_HTTP[status or "UNKNOWN"]

    @property
    def grpc_code(self) -> str:
        """The name of the code that a gRPC caller gets."""
        code: int | str | None = self.status if self.grpc is None else self.grpc
        return code if isinstance(code, str) else http_to_grpc(self.http_status)


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait before going on.

    Args:
        seconds: how long; more than 0. It ends with the deadline and with the caller's cancellation.
        percent: share of the calls, from 0 to 100; default 100.

    Raises:
        ConfigError: a value outside its range.
    """

    seconds: float
    _: KW_ONLY
    percent: float = 100.0

    def __post_init__(self) -> None:
        """Check both."""
        checks.duration("seconds", self.seconds)
        _check_percent(self.percent)


@dataclass(frozen=True, slots=True)
class FaultTarget:
    """What a fault may be aimed at: the arguments of ``Fault(match=…)``.

    Attributes:
        service: name of the service that is called.
        endpoint: where the attempt goes; None in scope ``call``, where none has been picked yet.
        method: gRPC method (``/pkg.Service/Method``), HTTP method and path (``GET /v1/orders``), or function name.
        attempt: number of the attempt, from 1.
    """

    service: str
    endpoint: Endpoint | None = None
    method: str = ""
    attempt: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """An abort, a delay, or a delay and then an abort.

    Args:
        abort: how to end the call, if at all.
        delay: how long to wait, if at all.
        percent: share of the calls that the fault is considered for, from 0 to 100; the percentages of ``abort``
            and ``delay`` are of these; default 100.
        scope: ``"call"``: once, before anything else is done; ``"attempt"``: on each attempt. Default ``"call"``.
        match: what it hits: a function of a `FaultTarget`, an endpoint or its address (scope ``"attempt"``); None
            for all.

    Raises:
        ConfigError: neither abort nor delay, a value outside its range, an endpoint to match in scope ``"call"``.
    """

    abort: Abort | None = None
    delay: Delay | None = None
    percent: float = 100.0
    scope: Scope = "call"
    match: Callable[[FaultTarget], bool] | Endpoint | str | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        for field, value, kind in (("abort", self.abort, Abort), ("delay", self.delay, Delay)):
            checks.optional(field, value, kind)
        if self.abort is None and self.delay is None:
            raise ConfigError("abort or delay must be given: a Fault without either does nothing")
        _check_percent(self.percent)
        if self.scope not in ("call", "attempt"):
            raise ConfigError(f"scope must be 'call' or 'attempt', not {self.scope!r}")
        self._check_match()

    def hits(self, target: FaultTarget) -> bool:
        """Return whether it is aimed at ``target``, chance apart."""
        match = self.match
        if match is None:
            return True
        if callable(match):
            return bool(match(target))
        address = match.address if isinstance(match, Endpoint) else match
        return target.endpoint is not None and target.endpoint.address == address

    def _check_match(self) -> None:
        if self.match is None or (callable(self.match) and not isinstance(self.match, type)):
            return
        if not isinstance(self.match, Endpoint | str):
            raise ConfigError(
                f"match must be a function of a FaultTarget, an Endpoint or an address, not {self.match!r}"
            )
        if isinstance(self.match, str):
            parse_address(self.match)
        if self.scope == "call":
            raise ConfigError("match by endpoint needs scope='attempt': a call has no endpoint before it is picked")


class Injection(NamedTuple):
    """What to do to one call or attempt: wait ``delay`` seconds (0: none), then abort unless that is None."""

    delay: float
    abort: Abort | None


def draw(faults: Iterable[Fault], scope: Scope, target: FaultTarget, rng: Rng) -> Injection | None:
    """Draw what hits ``target``: delays add up, the first abort counts; None when nothing does.

    One number is drawn for each percentage between 0 and 100, and none for others. A ``match`` that raises comes
    through: whoever rehearses failure wants to know that the rehearsal itself is broken.
    """
    seconds, abort = 0.0, None
    for fault in faults:
        if fault.scope != scope or not fault.hits(target) or not _drawn(fault.percent, rng):
            continue
        if fault.delay is not None and _drawn(fault.delay.percent, rng):
            seconds += fault.delay.seconds
        if fault.abort is not None and _drawn(fault.abort.percent, rng) and abort is None:
            abort = fault.abort
    return Injection(seconds, abort) if seconds or abort is not None else None


def _drawn(percent: float, rng: Rng) -> bool:
    if percent <= 0 or percent >= 100:
        return percent > 0
    return rng.random() * 100 < percent


def _check_percent(percent: float) -> None:
    checks.between("percent", percent, 0, 100)
