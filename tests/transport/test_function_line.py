"""The line around a function passes on what it gets, whatever the signature, and refuses what the function would."""

from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh import PICKED, Abort, Endpoint, Fault, Mesh, Policy, Retry
from svcmesh.transport import function_line

SERVER = "127.0.0.1:1"
FAILS_ONCE = Policy.standard().replace(retry=Retry(wait=lambda _: 0.0, budget=None))
ALWAYS_SLOWLY = Policy.standard().replace(faults=(Fault(abort=Abort(503), percent=0),))
MARK = object()


@pytest.fixture(params=["straight", "slowly"])
def mesh(request: pytest.FixtureRequest) -> Iterator[Mesh]:
    """A mesh whose calls take the line, and one whose calls all take the machine."""
    with Mesh({"service": [SERVER]}, policy=FAILS_ONCE if request.param == "straight" else ALWAYS_SLOWLY) as made:
        yield made


def nothing():
    return ()


def positional(a, b=MARK, /):
    return a, b


def usual(a, b=MARK, *rest, c, d=MARK, **others):
    return a, b, rest, c, d, others


def picked(a, *, endpoint: Endpoint = PICKED):
    return a, endpoint.address


def picked_amid(a, endpoint: Endpoint = PICKED, b=MARK):
    return a, endpoint.address, b


def picked_with_others(a, *, endpoint: Endpoint = PICKED, **others):
    return a, endpoint.address, others


def picked_before_rest(a=MARK, endpoint: Endpoint = PICKED, *rest, **others):
    return a, endpoint.address, rest, others


def names_of_ours(now_, member_=MARK, *, view_=MARK):
    return now_, member_, view_


def names_of_builtins(type, min=MARK, *, float=MARK):  # noqa: A002 - that is the point
    return type, min, float


@functools.wraps(picked)
def wrapped(*args, **kwargs):
    return picked(*args, **kwargs)


class Called:
    def __call__(self, a, b=MARK):
        return a, b

    def method(self, a, *, endpoint: Endpoint = PICKED):
        return a, endpoint.address


CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = [
    (nothing, (), {}, ()),
    (positional, (1,), {}, (1, MARK)),
    (positional, (1, 2), {}, (1, 2)),
    (usual, (1,), {"c": 3}, (1, MARK, (), 3, MARK, {})),
    (usual, (1, 2, 3, 4), {"c": 5, "d": 6, "e": 7}, (1, 2, (3, 4), 5, 6, {"e": 7})),
    (picked, (1,), {}, (1, SERVER)),
    (picked, (), {"a": 1}, (1, SERVER)),
    (picked, (1,), {"endpoint": PICKED}, (1, SERVER)),
    (picked_amid, (1, PICKED, 2), {}, (1, SERVER, 2)),
    (picked_amid, (1,), {"b": 2}, (1, SERVER, 2)),
    (picked_with_others, (1,), {"b": 2}, (1, SERVER, {"b": 2})),
    (picked_before_rest, (1,), {"b": 2}, (1, SERVER, (), {"b": 2})),
    (names_of_ours, (1,), {"view_": 2}, (1, MARK, 2)),
    (names_of_builtins, (1,), {"float": 2}, (1, MARK, 2)),
    (wrapped, (1,), {}, (1, SERVER)),
    (Called(), (1,), {"b": 2}, (1, 2)),
    (Called().method, (1,), {}, (1, SERVER)),
    (functools.partial(usual, 1, c=2), (3,), {"e": 4}, (1, 3, (), 2, MARK, {"e": 4})),
    (divmod, (7, 2), {}, (3, 1)),
]


@pytest.mark.parametrize(("fn", "args", "kwargs", "expected"), CALLS)
def test_what_is_passed_arrives(mesh: Mesh, fn, args, kwargs, expected):
    """Positional or by name, given or left to the default, which is the very object."""
    assert mesh.service("service").guard(fn)(*args, **kwargs) == expected


WRAPPABLE = [call for call in CALLS if PICKED not in call[1] and call[0] is not divmod]


@pytest.mark.parametrize(("fn", "args", "kwargs", "expected"), WRAPPABLE)
def test_what_is_passed_arrives_at_a_coroutine_function(mesh: Mesh, fn, args, kwargs, expected):
    """Of the same signature."""

    @functools.wraps(fn)
    async def awaited(*given: Any, **named: Any) -> Any:
        return fn(*given, **named)

    assert asyncio.run(mesh.service("service").guard(awaited)(*args, **kwargs)) == expected


@pytest.mark.parametrize(("fn", "args", "kwargs", "expected"), WRAPPABLE)
def test_a_second_attempt_gets_the_same(fn, args, kwargs, expected):
    """And another endpoint, if it asks for one."""
    asked = []

    @functools.wraps(fn)
    def once_refused(*given: Any, **named: Any) -> Any:
        asked.append(1)
        if len(asked) == 1:
            raise ConnectionRefusedError
        return fn(*given, **named)

    with Mesh({"service": [SERVER]}, policy=FAILS_ONCE) as mesh:
        assert mesh.service("service").guard(once_refused, idempotent=True)(*args, **kwargs) == expected
    assert len(asked) == 2


def test_a_second_attempt_gets_what_follows_the_endpoint():
    """Where the endpoint stands among positional parameters."""
    asked = []

    def once_refused(a, endpoint: Endpoint = PICKED, b=MARK, c=MARK):
        asked.append(endpoint.address)
        if len(asked) == 1:
            raise ConnectionRefusedError
        return a, b, c

    with Mesh({"service": [SERVER, "127.0.0.1:2"]}, policy=FAILS_ONCE) as mesh:
        assert mesh.service("service").guard(once_refused)(1, PICKED, 2) == (1, 2, MARK)
    assert sorted(asked) == [SERVER, "127.0.0.1:2"]


NAMES = st.sampled_from(["a", "b", "now", "token", "limit", "call", "args", "kwargs", "min", "view_", "self"])


@st.composite
def functions(draw: st.DrawFn) -> Callable[..., Any]:
    """A function of any signature that returns what it got."""
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    kinds = sorted(
        draw(st.lists(st.sampled_from(list(inspect._ParameterKind)), min_size=len(names), max_size=len(names)))
    )
    parameters, defaulted = [], False
    for name, kind in zip(names, kinds, strict=True):
        if kind in {kind.VAR_POSITIONAL, kind.VAR_KEYWORD} and any(p.kind is kind for p in parameters):
            continue
        default: Any = inspect.Parameter.empty
        if kind not in {kind.VAR_POSITIONAL, kind.VAR_KEYWORD} and (
            draw(st.booleans()) or (defaulted and kind <= kind.POSITIONAL_OR_KEYWORD)
        ):
            default, defaulted = 7, True
        parameters.append(inspect.Parameter(name, kind, default=default))
    text = str(inspect.Signature(parameters))
    namespace: dict[str, Any] = {"dict": dict}
    got = ", ".join(f"({p.name!r}, {p.name})" for p in parameters)
    exec(f"def fn{text}: return [{got}]", namespace)
    return namespace["fn"]  # type: ignore[no-any-return]


def ends(fn: Callable[..., Any], args: list[int], kwargs: dict[str, int]) -> Any:
    try:
        return fn(*args, **kwargs)
    except TypeError:
        return TypeError


@given(functions(), st.lists(st.integers(), max_size=4), st.dictionaries(NAMES, st.integers(), max_size=4))
def test_any_call_ends_as_that_of_the_bare_function(fn, args, kwargs):
    """With the same result, or with a TypeError where the bare one has one."""
    with Mesh({"service": [SERVER]}) as mesh:
        for _ in range(2):
            assert ends(mesh.service("service").guard(fn), args, kwargs) == ends(fn, args, kwargs)


def test_wrong_arguments_are_refused_before_anything_is_counted(mesh: Mesh):
    """It is no call, so it is no attempt either."""
    service = mesh.service("service")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        service.guard(positional)()
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        service.guard(picked)(1, x=2)
    assert service.guard(nothing)() == ()
    assert mesh.state()["services"]["service"]["endpoints"][0]["started"] == 1


@pytest.mark.parametrize("fn", [picked, picked_amid, picked_before_rest, wrapped, Called().method])
def test_an_endpoint_of_the_callers_is_refused(mesh: Mesh, fn):
    """Silently going elsewhere would be worse; whoever wants this endpoint calls the bare function."""
    with pytest.raises(TypeError, match="got an 'endpoint', but svcmesh picks it"):
        mesh.service("service").guard(fn)(1, endpoint=Endpoint("127.0.0.1:9"))


def test_the_signature_and_the_source_are_the_functions(mesh: Mesh):
    """For help(), for debuggers, for frameworks that look at parameters."""
    guarded = mesh.service("service").guard(usual)

    assert inspect.signature(guarded) == inspect.signature(usual)
    assert inspect.getsource(guarded) == inspect.getsource(usual)
    assert guarded.__qualname__ == "usual"
    assert guarded.__module__ == __name__


def test_a_traceback_shows_the_lines():
    """A frame without text would look like a bug of ours."""

    def fails():
        raise LookupError

    with Mesh({"service": [SERVER]}) as mesh, pytest.raises(LookupError) as raised:
        mesh.service("service").guard(fails)()
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert any(frame.filename.startswith("<svcmesh, around") and "resume_(" in (frame.line or "") for frame in frames)


def test_equal_shapes_are_compiled_once():
    """Decorating inside a request costs microseconds."""
    with Mesh({"service": [SERVER]}) as mesh:
        guard = mesh.service("service").guard
        guard(lambda one, two=1: (one, two))
        before = function_line._compiled.cache_info().misses
        for number in range(20):
            assert guard(lambda one, two=number: (one, two))(0) == (0, number)
        assert function_line._compiled.cache_info().misses == before
