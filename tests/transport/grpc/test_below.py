"""What is below an interceptor, as the one endpoint of a line."""

from __future__ import annotations

import gc
from typing import Any

import grpc
import pytest

from svcmesh.core.errors import ConfigError
from svcmesh.policy.policy import Policy
from svcmesh.transport.grpc.below import Below, timed, view_of


class Details(grpc.ClientCallDetails):
    """Somebody's own."""

    def __init__(self) -> None:
        self.method, self.timeout, self.tenant = "/a.B/C", 5.0, "blue"


def test_going_on_changes_the_timeout_alone() -> None:
    """Whatever class the details have; the caller's own object stays as it is."""
    seen: list[Any] = []
    details = Details()
    below = Below(lambda details, request: seen.append((details, request)), details)
    below("request", 0.5, (("ignored", "x"),))

    found, request = seen[0]
    assert (found.timeout, found.tenant, found.method, request) == (0.5, "blue", "/a.B/C", "request")
    assert details.timeout == 5.0
    assert not hasattr(timed(details, None), "compression")


def test_what_grpc_itself_refuses_is_not_tried_again() -> None:
    """A closed channel above all: the line counts as closed from then on."""

    def refuse(details: Any, request: Any) -> Any:
        raise ValueError("Cannot invoke RPC: Channel closed!")

    below = Below(refuse, Details())
    below.refuse_closed()
    assert not below.closed
    with pytest.raises(ValueError, match="closed"):
        below.future("request")
    assert below.closed


def test_a_view_closes_its_runtime_when_nobody_needs_it() -> None:
    """Which ends the worker; and without a policy there is none."""
    view = view_of(Policy.standard())
    runtime = view.runtime
    del view
    gc.collect()

    assert runtime.closed
    with pytest.raises(ConfigError, match="policy must be a svcmesh.Policy"):
        view_of("often")
