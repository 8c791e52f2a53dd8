"""Guarded functions: the straight line and the machine behind it, in both colours."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st

import svcmesh
from svcmesh import (
    PICKED,
    Abort,
    CircuitBreaker,
    ConfigError,
    DeadlineExceeded,
    Delay,
    Endpoint,
    Fault,
    FaultInjected,
    Mesh,
    NoEndpoints,
    Policy,
    Retry,
    deadline,
    info,
    remaining,
)
from svcmesh.core.deadline import AMBIENT
from svcmesh.testing import FakeClock

SERVERS = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]
QUICK = Policy.standard().replace(retry=Retry(wait=lambda _: 0.0, budget=None))


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh({"service": SERVERS}, policy=QUICK) as made:
        yield made


def coloured(function: Callable[..., Any], *, awaits: bool) -> Callable[..., Any]:
    """Return ``function``, or a coroutine function that does the same."""
    if not awaits:
        return function

    @functools.wraps(function)
    async def twin(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args, **kwargs)

    return twin


def called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of either colour."""
    if inspect.iscoroutinefunction(function):
        return asyncio.run(function(*args, **kwargs))
    return function(*args, **kwargs)


def in_flight(service: svcmesh.Service) -> int:
    return sum(member.in_flight for member in service.view.cluster.members.values())


both_colours = pytest.mark.parametrize("awaits", [False, True], ids=["sync", "async"])


@both_colours
def test_the_signature_stays_and_the_endpoint_is_filled_on_every_attempt(mesh: Mesh, awaits: bool) -> None:
    asked: list[Endpoint] = []

    def charge(order: int, *, note: str = "", endpoint: Endpoint = PICKED) -> str:
        """Charge."""
        asked.append(endpoint)
        if len(asked) < 3:
            raise ConnectionRefusedError(111, "refused")
        return f"{order}{note}"

    guarded = mesh.service("service").guard(coloured(charge, awaits=awaits))

    assert called(guarded, 1, note="!") == "1!"
    assert {endpoint.address for endpoint in asked} == set(SERVERS)
    assert (guarded.__name__, guarded.__doc__) == ("charge", "Charge.")
    assert inspect.iscoroutinefunction(guarded) is awaits
    assert list(inspect.signature(guarded).parameters) == ["order", "note", "endpoint"]


@both_colours
def test_the_users_own_exception_comes_through_unchanged_with_its_story(mesh: Mesh, awaits: bool) -> None:
    error = KeyError("own")

    def fail() -> None:
        raise error

    guarded = mesh.service("service").guard(idempotent=True)(coloured(fail, awaits=awaits))

    with pytest.raises(KeyError) as caught:
        called(guarded)
    assert caught.value is error
    assert info(error).attempts == 1
    assert info(error).reason == "KeyError; not-retryable"
    assert in_flight(mesh.service("service")) == 0


@both_colours
@pytest.mark.parametrize("idempotent", [False, True])
def test_a_cut_connection_is_repeated_only_where_that_is_safe(mesh: Mesh, awaits: bool, idempotent: bool) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise ConnectionResetError

    guarded = mesh.service("service").guard(idempotent=idempotent)(coloured(fail, awaits=awaits))
    with pytest.raises(ConnectionResetError):
        called(guarded)

    assert len(calls) == (3 if idempotent else 1)


@both_colours
def test_inside_the_budget_is_that_of_the_attempt(mesh: Mesh, awaits: bool) -> None:
    seen: list[float | None] = []
    service = mesh.service("service").with_policy(QUICK.replace(timeout=9000.0, per_try_timeout=3000.0))
    guarded = service.guard(coloured(lambda: seen.append(remaining()), awaits=awaits))

    called(guarded)
    with deadline(1000.0):
        called(guarded)
        with deadline(500.0):
            called(guarded)
    assert remaining() is None
    assert [round(left or 0, -2) for left in seen] == [3000.0, 1000.0, 500.0]


@both_colours
def test_without_time_left_nothing_is_called(mesh: Mesh, awaits: bool) -> None:
    guarded = mesh.service("service").guard(coloured(lambda: pytest.fail("called"), awaits=awaits))

    with deadline(0), pytest.raises(DeadlineExceeded, match="'service'"):
        called(guarded)


def test_a_late_result_of_a_plain_function_is_returned_and_a_late_failure_not_repeated() -> None:
    calls: list[int] = []
    clock = FakeClock()

    def slow(fail: bool) -> str:
        calls.append(1)
        clock.advance(0.06)
        if fail:
            raise ConnectionResetError
        return "late"

    policy = QUICK.replace(timeout=0.05, per_try_timeout=0.05)
    with Mesh({"service": SERVERS}, policy=policy, clock=clock) as mesh:
        guarded = mesh.service("service").guard(idempotent=True)(slow)
        assert guarded(fail=False) == "late"
        with pytest.raises(ConnectionResetError):
            guarded(fail=True)
    assert len(calls) == 2


def test_a_coroutine_is_cut_off_and_repeated_elsewhere() -> None:
    asked: list[Endpoint] = []

    async def hang(*, endpoint: Endpoint = PICKED) -> str:
        asked.append(endpoint)
        if len(asked) == 1:
            await asyncio.sleep(60)
        return "second"

    with Mesh({"service": SERVERS}, policy=QUICK.replace(per_try_timeout=0.05)) as mesh:
        guarded = mesh.service("service").guard(idempotent=True)(hang)
        assert asyncio.run(guarded()) == "second"
        assert asked[0] != asked[1]
        assert mesh.service("service").view.cluster.members[asked[0].address].unsuccessful == 1
        assert in_flight(mesh.service("service")) == 0


def test_deadlines_nest_across_tasks_and_threads(mesh: Mesh) -> None:
    seen: list[float | None] = []
    service = mesh.service("service").with_policy(QUICK.replace(timeout=9000.0, per_try_timeout=3000.0))
    note = service.guard(lambda: seen.append(remaining()))

    async def main() -> None:
        with deadline(100.0):
            await asyncio.gather(asyncio.create_task(asyncio.to_thread(note)), asyncio.to_thread(note))
            thread = threading.Thread(target=svcmesh.in_context(note))
            thread.start()
            thread.join()

    asyncio.run(main())
    assert all(0 < (left or 900) <= 100.0 for left in seen)
    assert len(seen) == 3


def test_a_guarded_call_inside_a_guarded_call_has_the_outer_ones_time(mesh: Mesh) -> None:
    service = mesh.service("service")
    inner = service.with_policy(QUICK.replace(per_try_timeout=None)).guard(remaining)

    left = service.guard(inner)()

    assert left is not None
    assert left <= 3.0


def test_methods_static_methods_partials_and_callable_objects_can_be_guarded(mesh: Mesh) -> None:
    guard = mesh.service("service").guard

    class Client:
        @guard(idempotent=True)
        def get(self, key: str, *, endpoint: Endpoint = PICKED) -> tuple[object, str, bool]:
            return self, key, endpoint is PICKED

        @staticmethod
        @guard
        def plain(key: str) -> str:
            return key

        def __call__(self, key: str) -> str:
            return key

    client = Client()
    assert client.get("k") == (client, "k", False)
    assert Client.plain("k") == "k"
    assert guard(client)("k") == "k"
    assert guard(functools.partial(client, "p"))() == "p"
    assert guard(len)([1, 2]) == 2


class WithoutDefault:
    def __call__(self, endpoint: Endpoint) -> None: ...


def generates() -> Iterator[int]:
    yield 1


class Generates:
    def __call__(self) -> Iterator[int]:
        yield 1


class GeneratesAsync:
    async def __call__(self) -> AsyncIterator[int]:
        yield 1


@contextlib.contextmanager
def session() -> Iterator[int]:
    yield 1


@contextlib.asynccontextmanager
async def async_session(endpoint: Endpoint = PICKED) -> AsyncIterator[Endpoint]:
    yield endpoint


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (3, "only a function"),
        ("name", "only a function"),
        (WithoutDefault, "only a function"),
        (lambda endpoint: None, "PICKED"),
        (WithoutDefault(), "PICKED"),
        (generates, "generator"),
        (Generates(), "generator"),
        (GeneratesAsync(), "generator"),
        (session, "use 'with service.attempt"),
        (async_session, "use 'with service.attempt"),
    ],
)
def test_what_cannot_be_guarded_is_refused_when_decorating(mesh: Mesh, what: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mesh.service("service").guard(what)


async def fetches() -> str:
    raise ConnectionRefusedError


@functools.wraps(fetches)
def hands_out() -> Any:
    return fetches()


@pytest.mark.parametrize(
    "fn",
    [hands_out, lambda: fetches(), functools.partial(hands_out)],  # noqa: PLW0108 - just such a lambda is meant
    ids=["wraps", "lambda", "partial"],
)
@pytest.mark.parametrize(
    "policy", [QUICK, QUICK.replace(faults=[Fault(delay=Delay(1), percent=0)])], ids=["straight", "machine"]
)
def test_a_plain_function_that_hands_out_a_coroutine_is_no_success(
    mesh: Mesh, fn: Callable[[], Any], policy: Policy
) -> None:
    """What it hands out fails when nobody looks any more."""
    service = mesh.service("service")

    with pytest.raises(ConfigError, match="make it 'async def'"):
        service.guard(fn, policy=policy)()
    assert in_flight(service) == 0


def test_a_plain_wrapper_that_runs_the_coroutine_itself_is_guarded_as_it_is(mesh: Mesh) -> None:
    @functools.wraps(fetches)
    def run() -> Any:
        return asyncio.run(fetches())

    with pytest.raises(ConnectionRefusedError):
        mesh.service("service").guard(run)()


def test_what_a_function_returns_is_looked_at_until_it_has_returned_once(mesh: Mesh) -> None:
    """A call that raises shows nothing of it; afterwards the look would cost every call."""
    answers: list[Any] = [KeyError, 1, 2]

    def fn() -> Any:
        answer = answers.pop(0)
        if answer is KeyError:
            raise KeyError
        return answer

    guarded = mesh.service("service").guard(fn)

    with pytest.raises(KeyError):
        guarded()
    assert guarded.__globals__["fn_"] is not fn  # type: ignore[attr-defined]
    assert (guarded(), guarded()) == (1, 2)
    assert guarded.__globals__["fn_"] is fn  # type: ignore[attr-defined]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, GeneratorExit])
@both_colours
def test_an_interrupt_leaves_nothing_behind(mesh: Mesh, awaits: bool, interrupt: type[BaseException]) -> None:
    def stop() -> None:
        raise interrupt

    guarded = mesh.service("service").guard(idempotent=True)(stop)
    if awaits:
        coroutine = mesh.service("service").guard(idempotent=True)(coloured(stop, awaits=True))()

        async def main() -> None:
            with pytest.raises(interrupt):
                await coroutine

        with pytest.raises(interrupt) if interrupt is not GeneratorExit else pytest.raises(BaseException):
            asyncio.run(main())
            raise interrupt
    else:
        with pytest.raises(interrupt):
            guarded()
    assert in_flight(mesh.service("service")) == 0
    assert remaining() is None


@pytest.mark.parametrize("moment", ["put_", "reset_"])
@both_colours
def test_a_signal_that_raises_as_a_call_begins_or_ends_leaves_nothing_behind(
    mesh: Mesh, awaits: bool, moment: str
) -> None:
    """Python runs handlers of signals after whatever was called, also when the ambient deadline was set or reset."""
    guarded: Any = mesh.service("service").guard(coloured(lambda: 1, awaits=awaits))
    assert called(guarded) == 1  # the next one goes straight
    names = guarded.__globals__
    straight = names[moment]

    def interrupted(value: Any) -> None:
        names[moment] = straight
        straight(value)
        raise KeyboardInterrupt

    names[moment] = interrupted
    outer = names["clock_"]() + 60
    token = AMBIENT.set(outer)  # `deadline` sets more while there are fake clocks of other tests
    try:
        with pytest.raises(KeyboardInterrupt):
            called(guarded)
        assert AMBIENT.get() is outer
    finally:
        AMBIENT.reset(token)
    assert in_flight(mesh.service("service")) == 0


async def test_a_cancellation_is_raised_and_says_nothing_of_the_endpoint(mesh: Mesh) -> None:
    service = mesh.service("service")
    guarded = service.guard(idempotent=True)(asyncio.sleep)
    for moment in range(4):
        task = asyncio.ensure_future(guarded(60))
        for _ in range(moment):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert in_flight(service) == 0
    assert all(not member.breakers for member in service.view.cluster.members.values())
    assert service.view.runtime.reapers.of(asyncio.get_running_loop()).open == {}


def test_a_coroutine_closed_in_another_context_leaves_nothing_behind(mesh: Mesh) -> None:
    """As the garbage collector does it, after the loop has gone."""
    service = mesh.service("service")

    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> Any:
        coroutine = service.guard(hang)()
        contextvars.copy_context().run(coroutine.send, None)
        return coroutine

    coroutine = asyncio.run(main())
    assert in_flight(service) == 1
    coroutine.close()
    assert in_flight(service) == 0


def test_a_coroutine_outside_of_a_task_is_refused_and_leaves_nothing_behind(mesh: Mesh) -> None:
    service = mesh.service("service")

    async def waits() -> None:
        await asyncio.get_running_loop().create_future()

    loop = asyncio.new_event_loop()
    caught: list[BaseException] = []

    def drive() -> None:
        try:
            service.guard(waits)().send(None)
        except RuntimeError as error:
            caught.append(error)
        finally:
            loop.stop()

    loop.call_soon(drive)
    loop.run_forever()
    loop.close()
    assert "inside tasks of asyncio" in str(caught[0])
    assert in_flight(service) == 0


@both_colours
def test_faults_stand_in_for_the_function(mesh: Mesh, awaits: bool) -> None:
    calls: list[int] = []
    service = mesh.service("service")
    guarded = service.guard(coloured(lambda: calls.append(1), awaits=awaits))
    abort = Fault(abort=Abort(503))

    with mesh.faults.inject("service", abort):
        with pytest.raises(FaultInjected, match="503") as caught:
            called(guarded)
        assert caught.value.status == 503
        with mesh.faults.inject(service, Fault(delay=Delay(60))), deadline(0.05), pytest.raises(DeadlineExceeded):
            called(guarded)
    called(guarded)

    assert calls == [1]
    with pytest.raises(ConfigError, match="Fault"), mesh.faults.inject("service", 503):  # type: ignore[arg-type]
        pass


def test_tenacity_sees_the_function_and_its_arguments(mesh: Mesh) -> None:
    seen: list[Any] = []

    def decide(state: tenacity.RetryCallState) -> bool:
        seen.append((state.fn, state.args, state.kwargs, state.attempt_number))
        return False

    def fn(a: int, *, b: int) -> int:
        raise KeyError

    policy = QUICK.replace(retry=Retry(retry=decide))
    with pytest.raises(KeyError):
        mesh.service("service").guard(policy=policy)(fn)(1, b=2)
    assert seen[0] == (fn, (1,), {"b": 2}, 1)


def test_a_fake_clock_governs_all_of_it() -> None:
    clock = FakeClock()
    with Mesh(
        {"service": SERVERS}, policy=QUICK.replace(retry=Retry(wait=lambda _: 2.0, budget=None)), clock=clock
    ) as mesh:
        ends = iter([ConnectionResetError(), ConnectionResetError(), None])

        @mesh.service("service").guard(idempotent=True)
        def fn() -> float | None:
            error = next(ends)
            if error is not None:
                raise error
            return remaining()

        assert fn() == 3.0
        assert clock.now() == 4.0


ENDS = {
    "ok": None,
    "own": KeyError,
    "refused": ConnectionRefusedError,
    "reset": ConnectionResetError,
    "late": TimeoutError,
}


SCOPES = st.sampled_from(["endpoint", "service"])


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(sorted(ENDS)), min_size=1, max_size=40),
    st.booleans(),
    st.sampled_from(["endpoint", "service"]),
)
def test_the_line_and_the_machine_leave_equal_state(ends: list[str], awaits: bool, scope: Any) -> None:
    """The same calls, with somebody listening to each and so through the machine, and without."""
    breaker = CircuitBreaker(scope=scope, consecutive=4, failure_rate=0.6, minimum_calls=8, open_for=1e6)
    policy = Policy.standard().replace(retry=Retry(on=()), circuit_breaker=breaker)
    states = []
    for listening in (False, True):
        with Mesh({"service": SERVERS[:1]}, policy=policy) as mesh:
            if listening:
                mesh.events.subscribe(lambda _: None, "call.finished")
            states.append(_after(mesh, ends, awaits=awaits))
    assert states[0] == states[1]


def _after(mesh: Mesh, ends: list[str], *, awaits: bool) -> Any:
    service = mesh.service("service")
    errors: list[str] = []

    def step(end: str) -> None:
        error = ENDS[end]
        if error is not None:
            raise error

    guarded = service.guard(coloured(step, awaits=awaits))

    async def main() -> None:
        for end in ends:
            try:
                result = guarded(end)
                if awaits:
                    await result
            except (OSError, KeyError, svcmesh.SvcmeshError) as error:
                errors.append(type(error).__name__)

    asyncio.run(main())
    (member,) = service.view.cluster.members.values()
    breakers = [*member.breakers.values(), *service.view.breakers.of_service]
    counts = (member.started, member.finished, member.unsuccessful, service.view.budget.calls)
    return errors, counts, [(b.state, b._window.shown) for b in breakers], sorted(service.view.ejections())


def test_sixteen_threads_and_several_loops_leave_no_count_behind(mesh: Mesh) -> None:  # noqa: C901 - two workloads
    service = mesh.service("service")
    policy = QUICK.replace(timeout=5.0, per_try_timeout=0.01)
    ends = [None, ConnectionResetError, ConnectionRefusedError, KeyError, KeyboardInterrupt]

    @service.guard(idempotent=True, policy=policy)
    def fn(n: int) -> None:
        if (error := ends[n % len(ends)]) is not None:
            raise error

    @service.guard(idempotent=True, policy=policy)
    async def coroutine(n: int) -> None:
        await asyncio.sleep(0.02 if n % 7 == 0 else 0)
        if n % 3 == 0:
            raise ConnectionResetError

    def plainly(seed: int) -> None:
        for n in range(seed, seed + 150):
            try:
                fn(n)
            except (OSError, KeyError, svcmesh.SvcmeshError, KeyboardInterrupt):
                continue

    def looping(seed: int) -> None:
        async def main() -> None:
            tasks = [asyncio.ensure_future(coroutine(seed + n)) for n in range(40)]
            await asyncio.sleep(0.005)
            for task in tasks[::4]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(main())

    threads = [threading.Thread(target=plainly if n % 4 else looping, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert in_flight(service) == 0
    for member in service.view.cluster.members.values():
        assert all(not breaker._permits for breaker in member.breakers.values())


def test_a_mesh_without_endpoints_says_so(mesh: Mesh) -> None:
    with pytest.raises(NoEndpoints, match="'nobody' has no endpoint: its discovery lists none"):
        mesh.service("nobody").guard(lambda: None)()
    gc.collect()


@pytest.mark.parametrize("attempts_before", [0, 1])
async def test_a_cancelled_call_is_not_repeated_whatever_its_function_makes_of_it(
    mesh: Mesh, attempts_before: int
) -> None:
    """The function's own error ends it, as it would without a policy; it counts as cancelled."""
    calls: list[int] = []
    finished: list[str] = []
    mesh.events.subscribe(lambda event: finished.append(event.outcome), "attempt.finished")

    @mesh.service("service").guard(idempotent=True)
    async def ask() -> None:
        calls.append(1)
        if len(calls) <= attempts_before:
            raise ConnectionRefusedError
        limit.reschedule(0)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionResetError("closed under us") from None

    with pytest.raises(ConnectionResetError, match="closed under us"):
        async with asyncio.timeout(None) as limit:
            await ask()

    assert len(calls) == attempts_before + 1
    assert finished[-1] == "cancelled"
