"""A process that makes calls with call credentials on stock channels and on ours, and prints how each one went.

Of its own, because gRPC lets go of a plugin on a thread of its core, when the call is over: whoever closes the last
channel of a process at that moment holds the interpreter's lock and waits for that thread, which waits for the lock
(grpcio 1.85, some call in a thousand, stock channels alone). Here a channel stays open until the process is gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from svcmesh import Policy, Retry
from tests.servers import svcmesh_test_pb2_grpc as pb_grpc
from tests.transport.grpc.kit import PATIENCE, ping, service_over

COLOURS = ["blocking", "asyncio"]
KINDS = ["Unary", "future", "ServerStream", "ClientStream", "BidiStream"]
REPEATING = Policy(idempotent=True, retry=Retry(max_attempts=3, budget=None))
SHORT = 0.1
"""Seconds after which a call ends whose plugin says nothing."""
_OPTIONS = [("grpc.default_authority", "probe"), ("grpc.use_local_subchannel_pool", 1)]


class Tokens(grpc.AuthMetadataPlugin):
    """A plugin that answers in some way; what it was asked is kept, and the callbacks that it owes an answer."""

    def __init__(self, answer: Callable[[Tokens, Any], None]) -> None:
        self.asked: list[tuple[str, str]] = []
        self.owed: list[Any] = []
        self._answer = answer

    def __call__(self, context: Any, callback: Any) -> None:
        """Answer."""
        self.asked.append((context.service_url, context.method_name))
        self._answer(self, callback)


def _gives(tokens: Tokens, callback: Any) -> None:
    callback((("x-token", f"token {len(tokens.asked)}"),), None)


def _gives_later(tokens: Tokens, callback: Any) -> None:
    threading.Thread(target=_gives, args=(tokens, callback)).start()


def _fails(_: Tokens, callback: Any) -> None:
    callback((), OSError("no token today"))


def _raises(_: Tokens, callback: Any) -> None:
    raise OSError("no token today")


def _is_illegal(_: Tokens, callback: Any) -> None:
    callback((("x-token", "two\nlines"),), None)


def _hangs(tokens: Tokens, callback: Any) -> None:
    tokens.owed.append(callback)


ANSWERS: dict[str, Callable[[Tokens, Any], None]] = {
    "gives": _gives,
    "gives later": _gives_later,
    "fails": _fails,
    "raises": _raises,
    "is illegal": _is_illegal,
    "hangs": _hangs,
}


def _ask(stub: Any, kind: str, arguments: dict[str, Any]) -> Any:
    if kind in {"Unary", "?stats"}:
        return stub.Unary(ping(kind), **arguments).text
    if kind == "future":
        return stub.Unary.future(ping(kind), **arguments).result().text
    if kind == "ServerStream":
        return [pong.text for pong in stub.ServerStream(ping(kind, 2), **arguments)]
    if kind == "ClientStream":
        return stub.ClientStream(iter([ping("a"), ping("b")]), **arguments).text
    return [pong.text for pong in stub.BidiStream(iter([ping("a"), ping("b")]), **arguments)]


async def _ask_aio(stub: Any, kind: str, arguments: dict[str, Any]) -> Any:
    if kind in {"Unary", "future", "?stats"}:
        return (await stub.Unary(ping(kind), **arguments)).text
    if kind == "ServerStream":
        return [pong.text async for pong in stub.ServerStream(ping(kind, 2), **arguments)]
    if kind == "ClientStream":
        return (await stub.ClientStream(iter([ping("a"), ping("b")]), **arguments)).text
    return [pong.text async for pong in stub.BidiStream(iter([ping("a"), ping("b")]), **arguments)]


Call = Callable[..., Any]
"""Makes a call of some kind; returns its answer, or how it ended."""


@contextmanager
def _caller(whose: str, colour: str, address: str, credentials: Any, policy: Policy) -> Iterator[Call]:
    with service_over([address], policy) as service, asyncio.Runner() as runner:

        async def make() -> grpc.aio.Channel:
            if whose == "mesh":
                return service.grpc_aio_channel(credentials, _OPTIONS)
            return grpc.aio.secure_channel(address, credentials, _OPTIONS)

        make_blocking = service.grpc_channel if whose == "mesh" else partial(grpc.secure_channel, address)
        channel: Any = runner.run(make()) if colour == "asyncio" else make_blocking(credentials, _OPTIONS)
        stub = pb_grpc.ProbeStub(channel)

        def call(kind: str, timeout: float = PATIENCE, **arguments: Any) -> Any:
            arguments["timeout"] = timeout
            try:
                if colour == "asyncio":
                    return runner.run(_ask_aio(stub, kind, arguments))
                return _ask(stub, kind, arguments)
            except grpc.RpcError as error:
                known: Any = error
                return {"code": known.code().name, "details": known.details()}

        yield call
        closing = channel.close()
        if closing is not None:
            runner.run(closing)


def _seen(call: Call) -> Any:
    return json.loads(call("?stats"))["metadata"]


def _own(call: Call, kind: str, answer: str) -> Any:
    tokens = Tokens(ANSWERS[answer])
    call("Unary", metadata=(("x-token", "none"),))
    end = call(kind, SHORT if answer == "hangs" else PATIENCE, credentials=grpc.metadata_call_credentials(tokens))
    for owed in tokens.owed:
        _gives(tokens, owed)  # nobody's any more
    return end, tokens.asked, _seen(call).get("x-token")


def _repeated(call: Call, kind: str, name: str) -> Any:
    tokens = Tokens(_gives)
    failing = (("x-fail", "UNAVAILABLE:2"), ("x-id", name))
    end = call(kind, metadata=failing, credentials=grpc.metadata_call_credentials(tokens))
    return end, len(tokens.asked), _seen(call).get("x-token")


def _composite(call: Call, kind: str) -> Any:
    one, other = Tokens(_gives), Tokens(lambda _, callback: callback((("x-other", "o"),), None))
    both = grpc.composite_call_credentials(grpc.metadata_call_credentials(one), grpc.metadata_call_credentials(other))
    end = call(kind, credentials=both)
    found = _seen(call)
    return end, [found.get(key) for key in ("x-channel", "x-token", "x-other")]


def _all(address: str, plain: grpc.ChannelCredentials) -> dict[str, Any]:
    always = grpc.metadata_call_credentials(Tokens(lambda _, callback: callback((("x-channel", "c"),), None)))
    composite = grpc.composite_channel_credentials(plain, always)
    found: dict[str, Any] = {}
    for whose in ("stock", "mesh"):
        for colour in COLOURS:
            with _caller(whose, colour, address, plain, Policy()) as call:
                for kind in KINDS:
                    for answer in ANSWERS:
                        found[f"{whose} {colour} {kind} {answer}"] = _own(call, kind, answer)
            with _caller(whose, colour, address, composite, Policy()) as call:
                for kind in KINDS:
                    found[f"{whose} {colour} {kind} composite"] = _composite(call, kind)
    for colour in COLOURS:
        with _caller("mesh", colour, address, plain, REPEATING) as call:
            for kind in KINDS:
                found[f"mesh {colour} {kind} repeated"] = _repeated(call, kind, f"{colour} {kind}")
    return found


if __name__ == "__main__":
    kept_open = grpc.insecure_channel("127.0.0.1:1")
    print(json.dumps(_all(sys.argv[1], grpc.ssl_channel_credentials(Path(sys.argv[2]).read_bytes()))), flush=True)
    os._exit(0)
