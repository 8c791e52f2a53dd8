"""Interceptors for gRPC servers: the time that the caller has left becomes the ambient deadline of the handler.

gRPC tells a handler by its context how long the caller still waits, and forgets it when the handler calls others.
With these, `remaining` knows it, and all calls made through svcmesh end while somebody still wants their answers.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import GeneratorType
from typing import Any

import grpc
import grpc.aio

from svcmesh.core.deadline import DeadlineInSteps
from svcmesh.transport.grpc.line import WIRE_LIMIT
from svcmesh.transport.grpc.method import Kind

Behavior = Callable[..., Any]


def server_interceptors() -> list[grpc.ServerInterceptor]:
    """Return interceptors for `grpc.server`: handlers run under the deadline of their caller.

    Calls without a deadline are handled as they are. Streamed answers are made under it, message by message.

    Threads: any. Cost: a few microseconds per call.
    """
    return [ServerInterceptor()]


def aio_server_interceptors() -> list[grpc.aio.ServerInterceptor]:
    """Return interceptors for `grpc.aio.server`; as `server_interceptors`, for handlers of all forms that it takes."""
    return [AioServerInterceptor()]


class ServerInterceptor(grpc.ServerInterceptor):
    """Wraps each method's handler."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler with the deadline around it; None where the server has none."""
        return _wrapped(continuation(handler_call_details), _itself)


class AioServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each method's handler."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler with the deadline around it; None where the server has none."""
        return _wrapped(await continuation(handler_call_details), iter)


_REMAKE: dict[tuple[bool, bool], tuple[Kind, Callable[..., Any]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


def _wrapped(handler: Any, iterate: Behavior) -> Any:
    """Return ``handler`` with the deadline around it; ``iterate``: what its server does to a plain streamed answer."""
    if handler is None:
        return None
    kind, remake = _REMAKE[bool(handler.request_streaming), bool(handler.response_streaming)]
    behavior = getattr(handler, kind)
    timed = _timed(behavior, iterate if handler.response_streaming else None)
    return remake(timed, handler.request_deserializer, handler.response_serializer)


def _timed(behavior: Behavior, iterate: Behavior | None) -> Behavior:
    """Return ``behavior`` under its caller's deadline, in the form that it has: servers look at that."""
    inner = getattr(behavior, "__call__", behavior)  # noqa: B004 - which one, for objects that are called
    if inspect.isasyncgenfunction(behavior) or inspect.isasyncgenfunction(inner):
        timed = _generating(behavior)
    elif inspect.iscoroutinefunction(behavior) or inspect.iscoroutinefunction(inner):
        timed = _awaiting(behavior)
    else:
        timed = _calling(behavior, iterate)
    attributes = ("__dict__",) if hasattr(behavior, "__dict__") else ()
    return functools.wraps(behavior, updated=attributes)(timed)  # gRPC marks some handlers by attributes


def _calling(behavior: Behavior, iterate: Behavior | None) -> Behavior:
    def call(request: Any, context: Any, *rest: Any) -> Any:
        budget = _budget(context)
        with budget:
            result = behavior(request, context, *rest)
        if iterate is None or result is None or isinstance(budget, nullcontext):
            return result
        return _each(result, iterate, budget)

    return call


def _awaiting(behavior: Behavior) -> Behavior:
    async def answer(request: Any, context: Any) -> Any:
        with _budget(context):
            return await behavior(request, context)

    return answer


def _generating(behavior: Behavior) -> Behavior:
    async def generate(request: Any, context: Any) -> Any:
        budget = _budget(context)
        messages = behavior(request, context)
        try:
            while True:
                with budget:
                    try:
                        message = await anext(messages)
                    except StopAsyncIteration:
                        return
                yield message
        finally:
            with budget:
                await messages.aclose()

    return generate


def _each(messages: Any, iterate: Behavior, budget: AbstractContextManager[Any]) -> Iterator[Any]:
    """Yield the messages of a streamed answer, each made under the deadline: the thread is not ours in between."""
    with budget:
        iterator = iterate(messages)
    try:
        while True:
            with budget:
                try:
                    message = next(iterator)
                except StopIteration:
                    return
            yield message
    finally:
        if isinstance(iterator, GeneratorType):  # what else there is, gRPC drops without a word
            with budget:
                iterator.close()


def _itself(messages: Any) -> Any:
    return messages


def _budget(context: Any) -> AbstractContextManager[Any]:
    """Return the time for which the caller still waits; nothing where it is for ever, which gRPC says in two ways."""
    seconds = context.time_remaining()
    return nullcontext() if seconds is None or seconds > WIRE_LIMIT else DeadlineInSteps(max(0.0, seconds))
