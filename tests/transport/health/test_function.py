"""A health check by a function: what it returns and raises, and that it can hang without holding anything up."""

from __future__ import annotations

import asyncio
import threading

import pytest

import svcmesh
from svcmesh.core.endpoint import Endpoint
from svcmesh.policy import HealthCheck
from svcmesh.policy.health.finding import Unasked, Unwell
from svcmesh.transport.health import function as module
from svcmesh.transport.health.function import FunctionAsker


async def returned(asking: FunctionAsker) -> None:
    """Wait until no call of the function runs."""
    for _ in range(30_000):
        if not asking._running:
            return
        await asyncio.sleep(0.001)
    pytest.fail("a call did not return")


A, B = Endpoint("10.0.0.1:80"), Endpoint("10.0.0.2:80")


def asker(fn, timeout: float = 5.0) -> FunctionAsker:
    return FunctionAsker(HealthCheck(custom_health_check=fn, timeout=timeout))


def both(said):
    """Return the same function plain, async, as an object, and as a lambda around a coroutine."""

    def plain(endpoint: Endpoint):
        if isinstance(said, BaseException):
            raise said
        return said

    async def awaited(endpoint: Endpoint):
        return plain(endpoint)

    class Callable:
        def __call__(self, endpoint: Endpoint):
            return plain(endpoint)

    return [plain, awaited, Callable(), awaited]


@pytest.mark.parametrize("said", [True, None])
async def test_true_and_nothing_are_well(said) -> None:
    for fn in both(said):
        await asker(fn).ask(A)


@pytest.mark.parametrize(
    ("said", "reason"),
    [(False, "returned False"), (0, "returned 0, neither True nor False"), ("ok", "returned 'ok', neither")],
)
async def test_false_and_what_is_neither_is_believed_at_once(said, reason: str) -> None:
    for fn in both(said):
        with pytest.raises(Unwell) as unwell:
            await asker(fn).ask(A)
        assert unwell.value.answered
        assert reason in unwell.value.reason


async def test_what_it_raises_comes_through() -> None:
    """And counts like no answer: whoever asks says so."""
    for fn in both(ConnectionResetError("cut")):
        with pytest.raises(ConnectionResetError):
            await asker(fn).ask(A)


async def test_an_exit_ends_neither_the_worker_nor_the_program() -> None:
    for fn in both(SystemExit(3)):
        with pytest.raises(Unwell, match=r"it raised SystemExit\(3\)"):
            await asker(fn).ask(A)


async def test_it_knows_how_much_time_it_has() -> None:
    left: list[float | None] = []
    for fn in (lambda endpoint: left.append(svcmesh.remaining()), lambda endpoint: None):
        await asker(fn, timeout=7.0).ask(A)
    assert left[0] is not None
    assert 0 < left[0] <= 7.0
    assert svcmesh.remaining() is None


async def test_a_plain_one_runs_beside_the_loop_and_is_not_called_again_before_it_returned() -> None:
    release, threads = threading.Event(), set[str]()

    def hang(endpoint: Endpoint) -> None:
        threads.add(threading.current_thread().name)
        release.wait(30)

    asking = asker(hang)
    for _ in range(2):  # the first is cut off; the second finds it still running
        with pytest.raises((TimeoutError, Unwell)) as ended:
            await asyncio.wait_for(asking.ask(A), 0.05)
    assert ended.value.args == ("the last call of " + hang.__qualname__ + " has not returned",)
    release.set()
    await returned(asking)
    await asking.ask(A)
    assert threads == {"svcmesh-health"}


async def test_no_more_than_so_many_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is not asked, which says nothing of it."""
    monkeypatch.setattr(module, "MOST_HANGING", 1)
    release = threading.Event()
    asking = asker(lambda endpoint: bool(release.wait(30)) or None)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asking.ask(A), 0.02)
    with pytest.raises(Unasked, match="1 calls of .* have not returned"):
        await asking.ask(B)
    release.set()
    await returned(asking)
    await asking.ask(B)
    asking.forget(B)
    asking.close()
