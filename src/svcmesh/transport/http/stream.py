"""The body of an answer that is still on its way: in flight until it is closed, read to the end, or dropped.

An endpoint is not free when it has sent its headers, and one that breaks off in the middle has failed although the
attempt had ended well. So the stream of a response carries what the attempt still owes: the connection, the count in
flight, and a word to the policies if the body does not come.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from time import monotonic
from typing import Any, Self

import httpx

from svcmesh.core.errors import DeadlineExceeded
from svcmesh.core.info import CallInfo, attach, info
from svcmesh.core.outcome import Kind, Outcome
from svcmesh.transport.http.errors import as_httpx, translated
from svcmesh.transport.http.outcome import of_error
from svcmesh.transport.http.trip import Trip

Release = Callable[[], object]


class Owed:
    """What is left to do when a response is over; each of it once.

    Args:
        trip: the attempt that brought the response.
        until: when the body must have come, on the machine's clock; None: never.
        release: gives the connection back. abandon: the same from a finalizer, where nothing may wait for a lock.
    """

    __slots__ = ("_abandon", "_release", "_trip", "_until", "open")

    def __init__(self, trip: Trip, until: float | None, release: Release, abandon: Release) -> None:
        self.open = True
        self._trip = trip
        self._until = until
        self._release = release
        self._abandon = abandon

    def failed(self, error: Exception) -> Exception:
        """Count an error while reading against the endpoint, unless it is the caller's time that has ended.

        Return it as httpx's, or as the end of that time.
        """
        trip = self._trip
        found = translated(error, trip.request)
        outcome = of_error(found)
        now = trip.view.clock.now()
        if outcome.kind is Kind.TIMEOUT and self._until is not None and monotonic() >= self._until:
            late = f"the body of an answer from {trip.whom} was still on its way after {now - trip.started:.3g} s"
            ended = DeadlineExceeded(late)
            ended.__cause__ = error
            found = as_httpx(ended, trip.request)
            outcome = Outcome(Kind.DEADLINE, found)
        attach(found, self._story(outcome, now))
        if self.open and not trip.bad:  # an attempt fails once
            outcome.stream = trip
            trip.view.settle(trip.member, (), outcome, now, now - trip.started, over=False, begun=True)
        return found

    def _story(self, outcome: Outcome, now: float) -> CallInfo:
        """Return what its answer was told of the call, and how that went on."""
        trip = self._trip
        story = info(trip) or CallInfo(1, (trip.member.endpoint,), elapsed=trip.answered - trip.started)
        elapsed = story.elapsed + now - trip.answered
        return replace(story, reason=outcome.reason or outcome.kind.value, elapsed=elapsed)

    def settle(self) -> None:
        """Give everything back."""
        self.open = False
        self._count()
        self._release()

    def forfeit(self) -> None:
        """Give the connection back, and no more: the attempt ends otherwise, and whoever ends it counts that."""
        self.open = False
        self._abandon()

    def drop(self) -> None:
        """Give everything back because nobody refers to the response any more."""
        if self.open:
            self.open = False
            self._count()
            self._abandon()

    def _count(self) -> None:
        """Count the end; that of a failed attempt is none of a success."""
        trip = self._trip
        if trip.bad:
            trip.member.streaming -= 1
        trip.member.finished += 1


class ResponseStream(httpx.SyncByteStream):
    """The body of a response on a blocking connection."""

    def __init__(self, stream: Any, owed: Owed) -> None:
        self._stream = stream
        self._owed = owed

    def __iter__(self) -> Iterator[bytes]:
        """Hand on what arrives."""
        try:
            yield from self._stream
        except Exception as error:
            found = self._owed.failed(error)
            self.close()
            if found is error:
                raise
            raise found from error
        except BaseException:  # who iterated has gone: httpx's response and stream form a cycle, and end much later
            self.close()
            raise

    def close(self) -> None:
        """Close the body, read or not; harmless when it is closed."""
        if self._owed.open:
            self._owed.open = False
            try:
                close(self._stream)
            finally:
                self._owed.settle()

    def forfeit(self) -> None:
        """As of `Owed`: nobody will have the response."""
        self._owed.forfeit()

    def __del__(self) -> None:
        """The caller has dropped the response without closing it."""
        self._owed.drop()


class AsyncResponseStream(httpx.AsyncByteStream):
    """The body of a response on a connection of asyncio."""

    def __init__(self, stream: Any, owed: Owed) -> None:
        self._stream = stream
        self._owed = owed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Hand on what arrives."""
        try:
            async for part in self._stream:
                yield part
        except Exception as error:
            found = self._owed.failed(error)
            await self.aclose()
            if found is error:
                raise
            raise found from error
        except BaseException:  # as above; the loop closes a generator that was dropped
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close the body, read or not; harmless when it is closed. A cancellation meanwhile loses nothing."""
        if self._owed.open:
            self._owed.open = False
            try:
                await aclose(self._stream)
            finally:
                self._owed.settle()

    def forfeit(self) -> None:
        """As of `Owed`: nobody will have the response."""
        self._owed.forfeit()

    def __del__(self) -> None:
        """The caller has dropped the response without closing it."""
        self._owed.drop()


class WholeBody(httpx.AsyncByteStream):
    """A body that has come inside the attempt; httpx's ByteStream would have the loop watch over one more generator."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __aiter__(self) -> Self:
        """Return itself: it is read once, as all bodies are."""
        return self

    async def __anext__(self) -> bytes:
        """Return all of it, and then nothing."""
        body, self._body = self._body, b""
        if not body:
            raise StopAsyncIteration
        return body


def close(stream: Any) -> None:
    """Close a stream of httpcore or of httpx, where it can be closed."""
    if hasattr(stream, "close"):
        stream.close()


async def aclose(stream: Any) -> None:
    """Close a stream of httpcore or of httpx, where it can be closed."""
    if hasattr(stream, "aclose"):
        await stream.aclose()
