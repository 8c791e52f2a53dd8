"""An asyncio loop in virtual time: when nothing is ready it jumps to the next timer instead of sleeping.

Coroutines that wait for minutes run in milliseconds, and always in the same order. When nothing is ready and no
timer is set the program would hang for ever; here it fails at once and says which tasks wait and where.

It is for code whose only waits are timers and other coroutines. There is no selector, so real sockets, pipes and
subprocesses are refused. ``run_in_executor`` and `asyncio.to_thread` make their call at once in the loop's own
thread, because a second thread would race with a clock that never waits for it; so the loop waits for no thread.
"""

# ruff: noqa: ARG002 - what is refused, or done in place, has the signature of what it stands for

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, NoReturn, TypeVar, TypeVarTuple, Unpack

from svcmesh.testing.sim.kernel import DeadlockError, Kernel, Scheduled

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def run(main: Coroutine[Any, Any, T], *, kernel: Kernel | None = None, debug: bool | None = None) -> T:
    """Run a coroutine in virtual time and return its result: `asyncio.run` that never sleeps.

    Args:
        main: what to run. Tasks it leaves behind are cancelled, as `asyncio.run` does.
        kernel: whose time to run in, a `FakeClock` for example; None for a new kernel. Inside, `virtual_clock()`
            returns it.
        debug: asyncio's debug mode; None leaves it as it is.

    Raises:
        DeadlockError: it waits for something that can never come.
    """
    with asyncio.Runner(debug=debug, loop_factory=lambda: VirtualLoop(kernel)) as runner:
        return runner.run(main)


def virtual_clock() -> Kernel:
    """Return the clock of the virtual loop that is running.

    Raises:
        RuntimeError: no loop is running, or it is not a virtual one.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise RuntimeError(  # noqa: TRY004 - no argument has a wrong type: the loop is the wrong one to ask
            f"the running loop is {loop!r}, not a VirtualLoop: start it with svcmesh.testing.sim.run"
        )
    return loop.kernel


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose time is that of a `Kernel`; its `kernel` is the `Clock` to give to what runs on it.

    Threads: one. ``call_soon_threadsafe`` from another thread is served only while the loop has something to do.
    """

    def __init__(self, kernel: Kernel | None = None) -> None:
        super().__init__()
        self.kernel = Kernel() if kernel is None else kernel
        self._selector = _Idle(self)  # what BaseEventLoop asks when it has nothing ready

    def time(self) -> float:
        """Return the virtual instant."""
        return self.kernel.now()

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run ``callback`` at the virtual instant ``when``; equal instants run in order of registration."""
        context = contextvars.copy_context() if context is None else context
        timer = _Timer(when, callback, args, self, context)

        def due() -> None:
            timer.soon = self.call_soon(callback, *args, context=context)

        timer.scheduled = self.kernel.at(when, due)
        return timer

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call ``func`` at once, here, and return a future that is done; ``executor`` is not used."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whatever it raises belongs to the one who awaits the future
            future.set_exception(error)
        return future

    def jump(self) -> None:
        """Go to the next instant at which something is scheduled, and make everything ready that is due then.

        Raises:
            DeadlockError: nothing is scheduled.
        """
        instant = self.kernel.next_at()
        if instant is None:
            raise DeadlockError(_explain(self))
        while self.kernel.step(instant):
            pass

    def add_reader(self, fd: Any, callback: Callable[[Unpack[Ts]], Any], *args: *Ts) -> None:
        """Refuse: a file descriptor knows nothing of virtual time."""
        raise _no_io()

    def add_writer(self, fd: Any, callback: Callable[[Unpack[Ts]], Any], *args: *Ts) -> None:
        """Refuse: a file descriptor knows nothing of virtual time."""
        raise _no_io()

    async def sock_connect(self, sock: Any, address: Any) -> NoReturn:
        """Refuse: a socket knows nothing of virtual time."""
        raise _no_io()

    async def create_server(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a socket knows nothing of virtual time."""
        raise _no_io()

    def _process_events(self, event_list: list[object]) -> None:
        """There are none (BaseEventLoop calls it after each look at its selector)."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken (BaseEventLoop calls it from ``call_soon_threadsafe``)."""


class _Timer(asyncio.TimerHandle):
    """A timer of the kernel that looks like asyncio's: cancelling works until the moment the callback runs."""

    scheduled: Scheduled
    soon: asyncio.Handle | None = None

    def cancel(self) -> None:
        super().cancel()
        self.scheduled.cancel()
        if self.soon is not None:
            self.soon.cancel()


class _Idle:
    """What stands where other loops have a selector: with nothing ready, time jumps."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:  # BaseEventLoop knows of no timer (the kernel has them all) and has nothing ready
            self._loop.jump()
        return []


def _no_io() -> RuntimeError:
    return RuntimeError("a virtual loop has no real I/O: test with svcmesh's fakes, or run on a real loop")


def _explain(loop: VirtualLoop) -> str:
    lines = [f"nothing is ready and no timer is set at {loop.time():g} s of virtual time; waiting:"]
    for task in sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name):
        frames = task.get_stack(limit=1)
        where = f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else "not started"
        lines.append(f"  {task.get_name()} at {where}")
    return "\n".join(lines)
