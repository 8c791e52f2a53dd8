"""The success path around a function, written for its signature.

One Python function could guard all of them if it took ``*args, **kwargs``; building those, and asking whether they
are empty, is an eighth of the whole path. So the path is a text that is compiled once per shape of signature, as
dataclasses and attrs do it, and the two colours differ by the word ``await`` in it. Wrong arguments are a TypeError
before anything is picked or counted. Nothing of a signature is evaluated: names go in as names, defaults as objects.
"""

from __future__ import annotations

import functools
import inspect
import linecache
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from svcmesh.core.endpoint import PICKED

# Names end in an underscore so that they are not those of parameters; a function with such a one is called generally.
_STRAIGHT = """\
{async_}def call({parameters}):
    {refuse}
    now_ = clock_()
    until_ = now_ + limit_
    before_ = get_()
    if before_ is not None:
        if type(before_) is not float or before_ <= now_:
            return {await_}slowly_({arguments}, now_)
        until_ = min(until_, before_)
    entered_ = view_  # another one may be in force by the end of the call
    choose_ = entered_.choose  # `View.enter`, written out: a call of it costs as much as the function
    member_ = choose_()
    if member_ is None:
        return {await_}slowly_({arguments}, now_)
    entered_.budget.calls += 1
    if now_ >= member_.due:
        member_.roll(now_)
    member_.started += 1
    try:  # a signal may raise after any call: `put_` is in here, and nothing is owed any more when `reset_` is called
        before_ = put_(until_)
        result_ = {call}
    except BaseException as error_:  # the machine settles it, and raises it again where it stands
        failure_ = error_
    else:
        member_.finished += 1
        reset_(before_)
        {learn}
        return result_
    try:  # here, where nothing is handled: else what a later attempt raises would have this one for its context
        return {await_}resume_({arguments}, now_, member_, before_, failure_, entered_)
    finally:
        del failure_
"""

_SLOW = """\
{async_}def call({parameters}):
    {refuse}
    return {await_}slowly_({arguments}, clock_())
"""


@dataclass(frozen=True)
class Shape:
    """What of a signature gets into the text.

    Attributes:
        parameters: as they are declared, defaults by name. forward: as they are passed on in a plain call.
        arguments: as a tuple and a dictionary, for the machine, without the endpoint.
        endpoint: an expression for the endpoint that a caller gave, which must be none; empty if it is not filled in.
    """

    parameters: str
    forward: str
    arguments: str
    endpoint: str = ""

    def text(self, template: str, *, awaits: bool, learns: bool = False) -> str:
        """Return ``template`` written for this shape; ``learns``: the balancer is told how long it took."""
        call = f"fn_({self.forward})"
        return template.format(
            async_="async " if awaits else "",
            await_="await " if awaits else "",
            parameters=self.parameters,
            arguments=self.arguments,
            refuse=f"if {self.endpoint} is not PICKED_: refuse_()" if self.endpoint else "pass",
            learn="entered_.learn(member_, now_)" if learns else "",
            call=f"await in_time_({call}, reapers_, until_)" if awaits else call,
        )


ANY = Shape("*args, **kwargs", "*args, **kwargs", "args, kwargs")
ANY_PICKED = Shape(
    "*args, **kwargs",
    "*args, **kwargs, endpoint=member_.endpoint",
    "args, kwargs",
    'kwargs.pop("endpoint", PICKED_)',
)


def line(
    fn: Callable[..., Any],
    names: dict[str, Any],
    *,
    picks: bool,
    awaits: bool,
    straight: bool,
    learns: bool = False,
    check: Callable[[Any], object] | None = None,
) -> Callable[..., Any]:
    """Return what is called in the place of ``fn``.

    Args:
        names: what the text reads besides: ``clock_``, ``view_``, ``slowly_`` and so on.
        picks: ``endpoint`` is filled in. awaits: it is a coroutine function. straight: else always by ``slowly_``.
        learns: the view's balancer goes by how long calls take.
        check: raises when ``fn`` is not what it seemed, by what it returned; asked until it has once let that pass.

    Cost: a few microseconds for a shape that was seen before, a few hundred for a new one.
    """
    shape, defaults = _shape(fn, picks)
    code, source = _compiled(shape, awaits, straight, learns)
    linecache.cache.setdefault(code.co_filename, source)  # here, since whoever clears it does not know of our cache
    namespace: dict[str, Any] = {**names, "fn_": fn, "defaults_": defaults, "PICKED_": PICKED, "refuse_": _refuser(fn)}
    if check is not None:
        namespace["fn_"] = _checked(fn, check, namespace)
    exec(code, namespace)  # noqa: S102 - our own text and the names of the parameters
    made: Callable[..., Any] = namespace["call"]
    return functools.wraps(fn)(made)


def _checked(fn: Callable[..., Any], check: Callable[[Any], object], namespace: dict[str, Any]) -> Callable[..., Any]:
    """Return ``fn`` with a look at what it returns; the first that passes puts ``fn`` itself in its place."""

    def checked(*args: Any, **kwargs: Any) -> Any:
        answer = fn(*args, **kwargs)
        check(answer)
        namespace["fn_"] = fn
        return answer

    return checked


def _refuser(fn: Callable[..., Any]) -> Callable[[], None]:
    def refuse() -> None:
        name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
        raise TypeError(f"{name}() got an 'endpoint', but svcmesh picks it: leave it out, or call the bare function")

    return refuse


def _shape(fn: Callable[..., Any], picks: bool) -> tuple[Shape, dict[str, Any]]:
    """Return the shape of ``fn`` and its defaults; of anything but a plain Python function the general one."""
    general = ANY_PICKED if picks else ANY
    if not isinstance(fn, FunctionType) or hasattr(fn, "__signature__"):
        return general, {}
    parameters = list(inspect.signature(fn, follow_wrapped=False).parameters.values())
    names = {parameter.name for parameter in parameters}
    kinds = {parameter.kind for parameter in parameters}
    if names & _taken() or (picks and ("endpoint" not in names or inspect.Parameter.VAR_POSITIONAL in kinds)):
        return general, {}
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return _written(parameters, picks), defaults


def _written(parameters: list[inspect.Parameter], picks: bool) -> Shape:
    positional: list[str] = []
    named: list[str] = []
    forward: list[str] = []
    passed = False  # the endpoint: what follows it can reach the machine by name only
    for parameter in parameters:
        name, filled = parameter.name, picks and parameter.name == "endpoint"
        value = "member_.endpoint" if filled else name
        if parameter.kind is parameter.VAR_KEYWORD:
            forward.append(f"**{name}")
            named.append(f"**{name}")
        elif parameter.kind is parameter.KEYWORD_ONLY:
            forward.append(f"{name}={value}")
            named += [] if filled else [f"{name!r}: {name}"]
        elif parameter.kind is parameter.VAR_POSITIONAL:
            forward.append(f"*{name}")
            positional.append(f"*{name}")
        else:
            forward.append(value)
            if passed:
                named.append(f"{name!r}: {name}")
            elif not filled:
                positional.append(name)
            passed = passed or filled
    arguments = f"({''.join(f'{name}, ' for name in positional)}), {{{', '.join(named)}}}"
    return Shape(_declared(parameters), ", ".join(forward), arguments, "endpoint" if picks else "")


def _declared(parameters: list[inspect.Parameter]) -> str:
    bare = [
        p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else _Default(p.name)) for p in parameters
    ]
    return str(inspect.Signature(bare))[1:-1]


class _Default:
    """How a default is written: by its place in a dictionary, so that the very object is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"defaults_[{self._name!r}]"


Source = tuple[int, None, list[str], str]
"""An entry of `linecache`, so that tracebacks and debuggers show the lines."""


@functools.lru_cache(maxsize=1024)
def _compiled(shape: Shape, awaits: bool, straight: bool, learns: bool) -> tuple[CodeType, Source]:
    text = shape.text(_STRAIGHT if straight else _SLOW, awaits=awaits, learns=learns)
    traits = "".join(
        word for word, is_so in (("async ", awaits), ("learning ", learns), ("slow ", not straight)) if is_so
    )
    name = f"<svcmesh, around {traits}({shape.parameters}), {shape.forward}>"  # each text has a name of its own
    return compile(text, name, "exec"), (len(text), None, text.splitlines(keepends=True), name)


@functools.cache
def _taken() -> frozenset[str]:
    """Return the names that the text itself uses, builtins included: parameters of these names would hide them."""
    namespace: dict[str, Any] = {}
    exec(compile(ANY.text(_STRAIGHT, awaits=True, learns=True), "<svcmesh>", "exec"), namespace)  # noqa: S102 - our own text
    code: CodeType = namespace["call"].__code__
    return frozenset((*code.co_names, *code.co_varnames, "defaults_", "PICKED_", "refuse_", "fn_")) - {"args", "kwargs"}
