"""Reading what servers report of their load: a layer around stock multicallables, there only where a balancer asks.

A report is in the trailing metadata of an attempt, whether that went well or not. So the stock multicallables of an
endpoint are wrapped, once, when they are made: whoever starts attempts knows nothing of it, and under other balancers
nothing of it exists.

Source: gRFC A51.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import ref

import grpc

from svcmesh.engine.member import Closable
from svcmesh.engine.view import View
from svcmesh.transport.grpc.channels import Wrap
from svcmesh.transport.grpc.method import Method
from svcmesh.transport.grpc.settings import Settings

Take = Callable[[Any], object]
"""What trailing metadata go to."""

Make = Callable[[Settings, str, Wrap | None], Closable]
"""Make what is kept for an endpoint, given its address and what to wrap its multicallables in."""


def reporting(view: View, make: Make, wrap: Callable[[Take, Method, Any], Any]) -> Callable[[Settings, str], Closable]:
    """Return ``make`` without its last argument: what it makes passes on reports, if the balancer in force asks.

    Args:
        wrap: makes the layer around a stock multicallable, for blocking calls or for those of asyncio.
    """
    found = ref(view)

    def made(settings: Settings, address: str) -> Closable:
        def layer(method: Method, stock: Any) -> Any:
            base = found()
            asks = base is not None and base.current.reported
            return wrap(partial(_tell, found, address), method, stock) if asks else stock

        return make(settings, address, layer)

    return made


def wrapped(take: Take, method: Method, stock: Any) -> Any:
    """Return a blocking channel's multicallable that has the trailing metadata of its calls taken."""
    return (_Starting if method.streams_responses else _Blocking)(take, stock)


class _Starting:
    """A multicallable whose calls are streams, and return at once."""

    __slots__ = ("_stock", "_take")

    def __init__(self, take: Take, stock: Any) -> None:
        self._take = take
        self._stock = stock

    def __call__(self, *args: Any) -> Any:
        return self._attended(self._stock(*args))

    def _attended(self, call: Any) -> Any:
        """Have the metadata taken at the end of a call, if somebody still refers to it: we do not."""
        if hasattr(call, "add_callback"):  # some instrumentation leaves nothing but the messages
            found = ref(call)
            if not call.add_callback(lambda: self._read(found())):
                self._read(call)  # it is over
        return call

    def _read(self, call: Any) -> None:
        with suppress(Exception):  # somebody's interceptor made it, or it was dropped: reports are hints
            self._take(call.trailing_metadata())


class _Blocking(_Starting):
    """A multicallable whose calls have one response."""

    __slots__ = ()

    def __call__(self, *args: Any) -> Any:
        return self.with_call(*args)[0]

    def with_call(self, *args: Any) -> Any:
        """Call and wait; return the response and the call."""
        try:
            answer = self._stock.with_call(*args)
        except grpc.RpcError as error:
            self._read(error)
            raise
        self._read(answer[1])
        return answer

    def future(self, *args: Any) -> Any:
        """Start a call and return at once."""
        return self._attended(self._stock.future(*args))


def _tell(found: ref[View], address: str, metadata: Any) -> None:
    """Tell the balancer of the report in ``metadata``, if there is one and the endpoint has not left."""
    from svcmesh.transport.load_report import of_metadata  # needs protobuf, which not every gRPC program has loaded

    base = found()
    view = None if base is None else base.current
    member = None if view is None else view.cluster.members.get(address)
    report = of_metadata(metadata or ())
    if view is not None and member is not None and report is not None:
        view.report(member, report)
