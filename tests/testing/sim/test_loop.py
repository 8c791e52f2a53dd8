"""The virtual loop: asyncio without sleeping, in a fixed order, and with an error instead of a hang."""

from __future__ import annotations

import asyncio
import contextvars
import random
import socket

import pytest

from svcmesh.testing import FakeClock
from svcmesh.testing.sim import DeadlockError, Kernel, VirtualLoop, run, virtual_clock


def test_sleeping_takes_exactly_as_long_as_it_says():
    async def main():
        await asyncio.sleep(86400)
        return asyncio.get_running_loop().time(), virtual_clock().now()

    assert run(main()) == (86400, 86400)


def test_timeouts_are_virtual():
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await asyncio.sleep(5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 4)
        return virtual_clock().now()

    assert run(main()) == 7


def test_equal_times_run_in_order_of_registration():
    """A hundred sleepers with the same end wake in the order in which they lay down."""

    async def main():
        woken = []

        async def sleeper(number):
            await asyncio.sleep(1)
            woken.append(number)

        await asyncio.gather(*(sleeper(number) for number in range(100)))
        return woken

    assert run(main()) == list(range(100))


def test_a_run_can_be_repeated():
    """The same seed gives the same order of events."""

    async def main():
        rng, log = random.Random(3), []

        async def worker(number):
            for _ in range(5):
                await asyncio.sleep(rng.choice([0, 0.1, 0.2]))
                log.append((virtual_clock().now(), number))

        await asyncio.gather(*map(worker, range(10)))
        return log

    assert run(main()) == run(main())


def test_a_cancelled_timer_is_not_waited_for():
    async def main():
        loop = asyncio.get_running_loop()
        loop.call_later(100, print).cancel()
        await asyncio.sleep(1)
        return loop.time()

    kernel = Kernel()
    assert run(main(), kernel=kernel) == 1
    assert kernel.next_at() is None


def test_a_timer_can_be_cancelled_by_another_of_the_same_instant():
    async def main():
        ran, loop = [], asyncio.get_running_loop()
        loop.call_at(1, lambda: (ran.append("first"), second.cancel()))
        second = loop.call_at(1, ran.append, "second")
        await asyncio.sleep(2)
        return ran

    assert run(main()) == ["first"]


def test_a_timer_runs_in_the_context_it_was_set_in():
    variable = contextvars.ContextVar("variable", default="outer")

    async def main():
        found, loop = [], asyncio.get_running_loop()
        variable.set("inner")
        loop.call_later(1, lambda: found.append(variable.get()))
        virtual_clock().call_at(loop, 1, lambda: found.append(variable.get()))
        variable.set("later")
        await asyncio.sleep(2)
        return found

    assert run(main()) == ["inner", "inner"]


def test_a_deadlock_is_an_error_that_says_who_waits():
    async def lost():
        await asyncio.Event().wait()

    async def main():
        await asyncio.create_task(lost(), name="lost")

    with pytest.raises(DeadlockError, match=r"lost at \S+\.py:\d+"):
        run(main())


def test_what_main_leaves_behind_is_cancelled():
    ends = []

    async def background():
        try:
            await asyncio.sleep(1000)
        finally:
            ends.append(virtual_clock().now())

    async def main():
        task = asyncio.create_task(background())
        await asyncio.sleep(1)
        return task

    assert run(main()).cancelled()
    assert ends == [1]


def test_threads_are_calls_in_place():
    """to_thread and executors run at once, and errors reach the one who awaits."""

    async def main():
        assert await asyncio.to_thread(lambda: 5) == 5
        with pytest.raises(ZeroDivisionError):
            await asyncio.get_running_loop().run_in_executor(None, lambda: 1 // 0)

    run(main())


def test_real_io_is_refused():
    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            for refused in (lambda: loop.add_reader(sock, print), lambda: loop.add_writer(sock, print)):
                with pytest.raises(RuntimeError, match="no real I/O"):
                    refused()
            with pytest.raises(RuntimeError, match="no real I/O"):
                await loop.sock_connect(sock, ("127.0.0.1", 1))
        with pytest.raises(RuntimeError, match="no real I/O"):
            await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)

    run(main())


def test_it_can_run_in_the_time_of_a_fake_clock():
    """One clock for the loop and for what else keeps time: `advance` moves both."""
    clock = FakeClock(start=100)

    async def main():
        assert virtual_clock() is clock
        await asyncio.sleep(5)
        clock.advance(10)
        return asyncio.get_running_loop().time()

    assert run(main(), kernel=clock) == 115


async def test_virtual_clock_needs_a_virtual_loop():
    with pytest.raises(RuntimeError, match="not a VirtualLoop"):
        virtual_clock()


def test_call_soon_threadsafe_is_served():
    loop = VirtualLoop()
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    loop.close()

    assert loop.is_closed()
