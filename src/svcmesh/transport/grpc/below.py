"""What goes on below an interceptor of ours, in the form of the channel that calls are made through.

An interceptor is given one function that goes on with the call. Each attempt calls it once more, with the time that
is left. Seen so, a channel that is not ours is a mesh channel with a single endpoint, and the same flows run it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import finalize

import grpc

from svcmesh.core.errors import ConfigError
from svcmesh.engine.alone import alone
from svcmesh.engine.member import Member
from svcmesh.engine.runtime import Runtime
from svcmesh.engine.view import View
from svcmesh.policy.policy import Policy
from svcmesh.transport.grpc.line import Line
from svcmesh.transport.grpc.method import Kind, Method

NAME = "intercepted gRPC channel"
"""What errors call the service of an interceptor, which does not know its name."""


def view_of(policy: object) -> View:
    """Return ``policy`` around a channel that is not ours. Its worker, if it comes to need one, ends with the view.

    Raises:
        ConfigError: it is no Policy.
    """
    if not isinstance(policy, Policy):
        raise ConfigError(f"policy must be a svcmesh.Policy, not {policy!r}")
    runtime = Runtime()
    view = View(alone(NAME, runtime), policy)
    finalize(view, runtime.close).atexit = False
    return view


class Below:
    """What an interceptor goes on with: `grpc_line.Channels` for a single call. Threads: any.

    Args:
        go: goes on, given the details and the request. details: of the call, as they came.
    """

    single_threaded = False
    closing = False  # it is there for a call that has begun

    def __init__(self, go: Callable[[Any, Any], Any], details: Any) -> None:
        self.closed = False
        self.pins: set[Any] = set()
        self._go = go
        self._details = details

    def channel(self, member: Member) -> Below:
        """Return this: all that is below is one endpoint."""
        return self

    def bound(self, method: Method) -> Any:
        """Return what stands for the stock multicallable."""
        return self

    def unconnected(self, member: Member, details: str, *, patient: bool) -> bool:
        """Return False: a channel that is not ours cannot be asked, and its words may be a server's."""
        return False

    def refuse_closed(self) -> None:
        """Do nothing: whether the channel is closed is found out by going on."""

    def __call__(self, request: Any, timeout: float | None = None, *_: Any, **__: Any) -> Any:
        """Go on with ``timeout`` in place of the caller's, everything else as it came; return what that returns."""
        try:
            return self._go(timed(self._details, timeout), request)
        except ValueError:  # the channel is closed, or what it was given is unusable: no second attempt mends that
            self.closed = True
            raise

    future = __call__


class _Timed(grpc.ClientCallDetails):
    """Somebody's own details with another timeout; what they lack, gRPC fills in."""

    def __init__(self, details: Any, timeout: float | None) -> None:
        self._details = details
        self.timeout = timeout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._details, name)


def timed(details: Any, timeout: float | None) -> Any:
    """Return ``details`` with this timeout: of the same class where gRPC's own are, else with the same attributes."""
    replace = getattr(details, "_replace", None)
    return _Timed(details, timeout) if replace is None else replace(timeout=timeout)


def line_of(view: View, below: Below, kind: Kind, details: Any) -> Line:
    """Return the line of a single intercepted call. Messages pass through it as they are."""
    return Line(view, below, Method(kind, details.method, None, None, registered=False))
