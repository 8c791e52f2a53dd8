"""A stream of which an interceptor below left nothing but the messages, made a call object again.

Instrumentation that patches ``grpc.insecure_channel`` sees every attempt, which is what it is for. Some of it
(OpenTelemetry's, for blocking streams) hands on a generator in place of gRPC's call. Its end is known to whoever
iterates over it and to nobody else, as with gRPC's own single-threaded streams; so questions that only the end answers
are refused before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import grpc.experimental

_USAGE_ERROR: Any = grpc.experimental.UsageError  # pyright: ignore[reportAttributeAccessIssue]  # not in its stubs
_EARLY = "an interceptor put a plain iterator in the place of this call: iterate to its end before asking for it"


class BareStream(grpc.RpcError, grpc.Call):
    """A stock call, as far as it can be told from an iterator over its messages.

    Threads: whoever iterates; `cancel` reaches a thread that waits for a message only by the deadline of the call.
    """

    def __init__(self, messages: Iterator[Any]) -> None:
        super().__init__()
        self._messages = iter(messages)
        self._end: Any = None
        self._code: grpc.StatusCode | None = None
        self._callbacks: list[Callable[[], object]] = []

    def __iter__(self) -> BareStream:
        return self

    def __next__(self) -> Any:
        """Wait for the next message and return it."""
        try:
            return next(self._messages)
        except StopIteration:
            self._over(grpc.StatusCode.OK, None)
            raise
        except grpc.RpcError as error:
            known: Any = error  # one without a code is somebody's own
            self._over(known.code() if hasattr(known, "code") else grpc.StatusCode.UNKNOWN, error)
            raise
        except BaseException:
            self._over(grpc.StatusCode.UNKNOWN, None)
            raise

    def _over(self, code: grpc.StatusCode, end: Any) -> None:
        if self._code is None:
            self._code, self._end = code, end
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have ``callback`` called at the end; False when it is over."""
        if self._code is None:
            self._callbacks.append(callback)
            return True
        return False

    def cancel(self) -> bool:
        """Stop iterating, which lets go of the call below; False when it is over."""
        if self._code is not None:
            return False
        close = getattr(self._messages, "close", None)
        if close is not None:
            with suppress(Exception):  # another thread is inside of it, and goes on until a message or an end comes
                close()
        self._over(grpc.StatusCode.CANCELLED, None)
        return True

    def __del__(self) -> None:
        """Nobody can iterate any more, so this is the end."""
        if getattr(self, "_code", grpc.StatusCode.OK) is None:
            self.cancel()

    def cancelled(self) -> bool:
        """Whether the call ended CANCELLED."""
        return self._code is grpc.StatusCode.CANCELLED

    def is_active(self) -> bool:
        """Whether the end has not been seen yet."""
        return self._code is None

    def time_remaining(self) -> Any:
        """Return None: the iterator does not tell."""
        return None

    def code(self) -> grpc.StatusCode:
        """Return the status code, once the end was seen."""
        if self._code is None:
            raise _USAGE_ERROR(_EARLY)
        return self._code

    def details(self) -> str:
        """Return the status details, once the end was seen."""
        return str(self._ask("details", "Locally cancelled by application!" if self.cancelled() else ""))

    def debug_error_string(self) -> str:
        """Return gRPC's own description of the end, once that was seen."""
        return str(self._ask("debug_error_string", ""))

    def initial_metadata(self) -> Any:
        """Return those of an error; a stream that ended well does not show its own."""
        return self._ask("initial_metadata", ())

    def trailing_metadata(self) -> Any:
        """Return those of an error; a stream that ended well does not show its own."""
        return self._ask("trailing_metadata", ())

    def _ask(self, question: str, default: Any) -> Any:
        self.code()
        asked = getattr(self._end, question, None)
        return default if asked is None else asked()


def whole(call: Any) -> Any:
    """Return ``call``; a bare iterator as a call object."""
    return call if hasattr(call, "add_callback") else BareStream(call)
