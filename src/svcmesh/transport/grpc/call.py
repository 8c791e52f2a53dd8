"""The call object of futures and streams: what gRPC promises of one, whichever attempt is behind it at the moment.

Each question is put to the attempt of the moment, by gRPC's own object, and the answer counts unless that attempt
turns out to have been replaced meanwhile. So an error that callers see is the stock error with all its details, and
callers wait as they would for a single call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from svcmesh.core.info import CallInfo, info
from svcmesh.transport.grpc.callback import guarded
from svcmesh.transport.grpc.errors import CancelledCall
from svcmesh.transport.grpc.flow import Flow, Stock
from svcmesh.transport.grpc.leg import Leg
from svcmesh.transport.grpc.line import Line
from svcmesh.transport.grpc.request import Request


class MeshCall(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]  # generic in the stubs only
    """A call that goes on while its caller does something else; a stream's messages are iterated over.

    It is cancelled when nobody refers to it any more, unless somebody waits for it by `add_done_callback`.

    Threads: any, but only one at a time may iterate.
    """

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self._flow = flow

    @classmethod
    def begin(cls, line: Line, request: Request, stock: Stock, timeout: float | None, patient: bool) -> Self:
        """Start a call."""
        flow = Flow(line.current, request, stock, timeout, patient)
        call = cls(flow)
        flow.begin()
        return call

    # -- which attempt -------------------------------------------------------------------------------------------------

    def _newest(self) -> Leg | None:
        """Wait for an attempt; None when the call ended without one, or with an error that is no attempt's."""
        flow = self._flow
        with flow.changed:
            flow.changed.wait_for(lambda: flow.end is not None or (flow.leg is not None and not flow.leg.processed))
            leg = flow.leg
            return leg if leg is not None and flow.end in (None, leg.stock) else None

    def _stands(self, leg: Leg) -> bool:
        """Wait until the end of ``leg`` was dealt with; return whether the call ended with it."""
        flow = self._flow
        with flow.changed:
            flow.changed.wait_for(lambda: leg.processed or flow.end is not None)
            return flow.end is leg.stock

    def _over(self) -> Any:
        """Wait for the end of the call; return what it ended with."""
        flow = self._flow
        while (leg := self._newest()) is not None:
            leg.stock.code()  # blocks, or says that it will not
            if self._stands(leg):
                break
        return flow.end

    @property
    def __svcmesh_info__(self) -> CallInfo | None:
        """What `svcmesh.info` returns for this call, once it is over and was no plain success."""
        return info(self._flow.end)

    # -- grpc.Call -----------------------------------------------------------------------------------------------------

    def initial_metadata(self) -> Any:
        """Wait for the initial metadata and return them. After that the call is not repeated any more."""
        while (leg := self._newest()) is not None:
            found = leg.stock.initial_metadata()
            if leg.stock.is_active():
                if self._flow.expose(leg):
                    return found
            elif self._stands(leg):
                return found
        return self._flow.end.initial_metadata()

    def trailing_metadata(self) -> Any:
        """Wait for the end and return the trailing metadata."""
        return self._over().trailing_metadata()

    def code(self) -> Any:
        """Wait for the end and return the status code."""
        return self._over().code()

    def details(self) -> Any:
        """Wait for the end and return the status details."""
        return self._over().details()

    def debug_error_string(self) -> Any:
        """Wait for the end and return gRPC's own description of it."""
        return self._over().debug_error_string()

    def is_active(self) -> bool:
        """Whether the call is still under way."""
        return self._flow.end is None

    def time_remaining(self) -> Any:
        """Return the seconds left of the call's deadline; None when it has none."""
        return self._flow.remaining()

    def cancel(self) -> bool:
        """Cancel the attempt under way, and any that would follow; False when the call is over."""
        return self._flow.cancel(CancelledCall("Locally cancelled by application!"))

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have ``callback`` called at the end; False when the call is over, and it will not be."""
        flow = self._flow
        with flow.changed:
            if flow.end is None:
                flow.when_over.append(guarded(callback))
                return True
        return False

    # -- grpc.Future ---------------------------------------------------------------------------------------------------

    def cancelled(self) -> bool:
        """Whether `cancel` ended the call."""
        return self._flow.cancelled

    def running(self) -> bool:
        """Whether the call is still under way."""
        return self._flow.end is None

    def done(self) -> bool:
        """Whether the call is over."""
        return self._flow.end is not None

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the response and return it.

        Raises:
            grpc.FutureTimeoutError: ``timeout`` seconds were not enough; the call goes on.
            grpc.FutureCancelledError: the call was cancelled.
            grpc.RpcError: it failed.
        """
        self._wait(timeout)
        if self._flow.cancelled and self._flow.end.code() is not grpc.StatusCode.OK:
            raise grpc.FutureCancelledError
        return self._flow.end.result()

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait for the end and return the error, None for none; raises as `result` does when it cannot."""
        self._wait(timeout)
        if self._flow.cancelled and self._flow.end.code() is not grpc.StatusCode.OK:
            raise grpc.FutureCancelledError
        found: Exception | None = self._flow.end.exception()
        return found

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """Wait for the end and return the traceback of the error, None for none."""
        self._wait(timeout)
        if self._flow.cancelled and self._flow.end.code() is not grpc.StatusCode.OK:
            raise grpc.FutureCancelledError
        found: TracebackType | None = self._flow.end.traceback()
        return found

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Have ``fn`` called with this call at the end, or at once when it is over."""
        flow = self._flow
        with flow.changed:
            if flow.end is None:
                flow.pins.append(self)
                flow.when_over.append(guarded(lambda: fn(self)))
                return
        fn(self)

    def failure(self) -> BaseException:
        """Return the end of a call that failed or was cancelled, as an exception."""
        end: BaseException = self._flow.end
        return end

    def _wait(self, timeout: float | None) -> None:
        flow = self._flow
        if flow.single_threaded and flow.end is None and flow.leg is not None:
            flow.leg.stock.result()  # only iterating moves it on: gRPC raises a UsageError rather than block for ever
        with flow.changed:
            if not flow.changed.wait_for(lambda: flow.end is not None, timeout):
                raise grpc.FutureTimeoutError

    # -- messages ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Wait for the next message and return it."""
        leg = self._flow.leg
        if leg is None or not leg.committed:
            return self._first()
        try:
            return next(leg.stock)
        except (StopIteration, grpc.RpcError) as error:
            self._seen(leg, error)  # whoever sees the end may rely on its being counted
            raise

    def _seen(self, leg: Leg, end: Exception) -> bool:
        """Wait until the end that ``leg`` has raised was dealt with; return whether the call ended with it.

        gRPC raises for an answer that it cannot deserialize, and leaves the call to the server, which may wait for more
        requests meanwhile. So what has failed is ended here.
        """
        if not isinstance(end, StopIteration):
            leg.release()
            if self._flow.single_threaded and not leg.processed:
                return True  # nobody would take the news of that end: it counts when the call is dropped
        return self._stands(leg)

    def _first(self) -> Any:
        """Return the first message, from whichever attempt brings one."""
        while (leg := self._newest()) is not None:
            try:
                message = next(leg.stock)
            except (StopIteration, grpc.RpcError) as error:
                if self._seen(leg, error):
                    raise
                # gRPC raises the stock call itself, and its next frame knows it: a cycle that would hold our frame, and
                # so this call. One left to the collector runs on till then, and may deadlock gRPC, whose __del__ takes
                # locks that the collecting thread may hold.
                error.__traceback__ = None
            else:
                if self._flow.expose(leg):
                    return message
                self._stands(leg)  # it was cut off as the message came: another attempt delivers it
        raise self._flow.end

    def next(self) -> Any:
        """Wait for the next message and return it."""
        return self.__next__()

    def __str__(self) -> str:
        end = self._flow.end
        return f"<{type(self).__name__} of {self._flow.line.name}: running>" if end is None else str(end)

    __repr__ = __str__
