"""The layer of `svcmesh.transport.grpc.reports` around multicallables of asyncio."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from svcmesh.transport.grpc.aio.leg import value_of
from svcmesh.transport.grpc.method import Method
from svcmesh.transport.grpc.reports import Take


def wrapped(take: Take, method: Method, stock: Any) -> Any:  # noqa: ARG001 - calls of all kinds are alike here
    """Return an asyncio channel's multicallable that has the trailing metadata of its calls taken."""

    def read(call: Any) -> None:
        with suppress(Exception):  # somebody's interceptor raised, so that there are none: reports are hints
            take(value_of(call.trailing_metadata()))

    def start(*args: Any, **kwargs: Any) -> Any:
        call = stock(*args, **kwargs)
        call.add_done_callback(read)
        return call

    return start
