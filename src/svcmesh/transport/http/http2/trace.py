"""The ``trace`` extension of httpcore: a function of the caller that is told of each step of a request.

httpcore's own tracer is private. Names and arguments are the same: ``http2.send_request_headers.started`` and so on.
Source: httpcore, "Request extensions".
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self


class traced:  # noqa: N801 - reads as a statement
    """One step, told when it starts, and when it is complete or has failed.

    Args:
        request: whose extensions name the function. name: of the step. told: what the function is told at the start.

    Attributes:
        result: what it is told at the end.
    """

    __slots__ = ("_name", "_told", "_trace", "result")

    def __init__(self, request: Any, name: str, /, **told: Any) -> None:
        self._trace = request.extensions.get("trace")
        self._name = name
        self._told = told
        self.result: Any = None

    def __enter__(self) -> Self:
        """Tell that it starts."""
        if self._trace is not None:
            self._trace(f"{self._name}.started", self._told)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell how it ended."""
        if self._trace is not None:
            self._trace(*self._end(error))

    async def __aenter__(self) -> Self:
        """Tell that it starts."""
        if self._trace is not None:
            await self._trace(f"{self._name}.started", self._told)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell how it ended."""
        if self._trace is not None:
            await self._trace(*self._end(error))

    def _end(self, error: BaseException | None) -> tuple[str, dict[str, Any]]:
        if error is None:
            return f"{self._name}.complete", {"return_value": self.result}
        return f"{self._name}.failed", {"exception": error}
