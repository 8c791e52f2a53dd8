"""What reads an asyncio iterator of a caller's: one task, from the first message to the last, for all attempts.

GRPC reads a stream's requests so, and callers' generators rely on it: a timeout or a task group that is open over a
`yield` belongs to the task that it was opened in. Each attempt has such a task, but an attempt that is cancelled would
cancel the generator with it, while another one is to go on with its messages. So the task is the call's own. It writes
to the first attempt by itself, since to hand each message from task to task would double what a message costs; those
that take its place have to ask.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import copy_context
from typing import Any, Protocol

import grpc.aio

END: Any = object()
"""What stands for a message where there are no more."""
_LOGGER = logging.getLogger("svcmesh.grpc")


class Source(Protocol):
    """The caller's messages.

    Attributes:
        error: what ended them; None where they ended well, or have not.
    """

    error: BaseException | None

    async def take(self) -> Any:
        """Read the next message, keep it for whoever asks, and return it; END after the last. Raises nothing."""

    def sent(self) -> None:
        """The first attempt has sent all that was read."""


class Reader:
    """The task, and who asks it. Threads: the loop's own. Made where the caller calls, whose context it has."""

    def __init__(self) -> None:
        self._context = copy_context()
        self._task: asyncio.Task[None] | None = None
        self._call: Any = None
        self._writing: Any = None
        self._interrupted = False
        self._closed = False
        self._asked: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None

    def write_to(self, call: Any, source: Source) -> None:
        """Read all of ``source`` from now on, and write it to ``call`` until another attempt takes its place."""
        self._call = call
        call.add_done_callback(self._over)
        self._begin(source)

    async def ask(self, source: Source) -> None:
        """Wait until another message was read, or there is none, or `let_go`."""
        if self._closed:
            return
        asked = self._asked = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._begin(source)
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        await asked

    def let_go(self) -> None:
        """Another attempt takes the place of the one that was written to, or has asked."""
        self._call = None
        self._told()

    def close(self) -> None:
        """The call is over: nobody waits for the iterator any more."""
        self._closed = True
        self.let_go()
        task, self._task = self._task, None  # a task that was cancelled refers to all that it had, by its traceback
        if task is not None and not task.get_loop().is_closed():
            task.cancel()

    def _begin(self, source: Source) -> None:
        self._task = self._context.run(asyncio.get_running_loop().create_task, self._read(source))

    async def _read(self, source: Source) -> None:
        """Read and write until the end. It is one function since streams are long."""
        try:
            while not self._closed:
                message = await source.take()
                call = self._call
                if call is None:
                    self._told()
                elif source.error is not None:
                    _LOGGER.debug("The iterator of requests raised", exc_info=source.error)
                    call.cancel()  # as gRPC does
                else:
                    self._writing = call
                    try:
                        await (call.done_writing() if message is END else call.write(message))
                    except BaseException as error:  # noqa: BLE001 - raised there, unless it is the attempt's end
                        self._not_written(call, error)
                    self._writing = None
                    source.sent()
                if message is END:
                    break
                if self._call is None:
                    await self._until_asked()
        except asyncio.CancelledError:
            pass  # nobody awaits this; and the task would keep all that was read, by the error's traceback
        finally:
            self._closed, self._task = True, None
            self.let_go()

    def _not_written(self, call: Any, error: BaseException) -> None:
        """Leave an attempt that is over, after which another may follow; else the call is."""
        interrupted, self._interrupted = self._interrupted, False
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if self._closed or not interrupted or task is None:
                raise error
            task.uncancel()
        elif not isinstance(error, Exception):
            raise error
        elif not isinstance(error, grpc.aio.AioRpcError | asyncio.InvalidStateError):
            _LOGGER.debug("A request could not be written", exc_info=error)
            self._closed = True
            call.cancel()  # as gRPC does
        self._leave(call)

    async def _until_asked(self) -> None:
        if self._asked is None or self._asked.done():
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def _told(self) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)

    def _over(self, call: Any) -> None:
        """Leave an attempt that is over; one that was cancelled before it began would never take what is written."""
        self._leave(call)
        task = self._task
        if self._writing is not call or task is None or task.get_loop().is_closed():
            return
        if task is not asyncio.current_task(task.get_loop()):
            self._interrupted = True
            task.cancel()

    def _leave(self, call: Any) -> None:
        if self._call is call:
            self._call = None
