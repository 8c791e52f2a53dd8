"""The client: callers of each protocol at a steady pace, all through one mesh. Every call may be repeated.

An answer is checked, since a wrong one is a failed call too. A caller that was held up does not catch up afterwards:
the curve of calls then shows that something took long, instead of hiding it in a burst.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection
from itertools import count
from threading import Event, Thread
from typing import Any

from svcmesh._proto import greet_pb2, greet_pb2_grpc
from svcmesh.cli.demo.record import Record
from svcmesh.core.deadline import remaining
from svcmesh.core.endpoint import PICKED, Endpoint
from svcmesh.mesh import Mesh

Call = Callable[[int], object]
AsyncCall = Callable[[int], Awaitable[object]]

EVERY = 1 / 25
"""Seconds from one call of a caller to its next."""

CALLERS = {"gRPC": 4, "gRPC asyncio": 4, "HTTP": 2, "HTTP asyncio": 2, "function": 2}
"""Callers by protocol: 14 at 25 calls a second are 350 calls a second in all."""


class Load:
    """The calls, from `start` to `stop`. What comes of them is told to ``record``."""

    def __init__(self, mesh: Mesh, record: Record) -> None:
        self._mesh = mesh
        self._record = record
        self._stopping = Event()
        self._numbers = count(1)
        self._threads: list[Thread] = []
        self._close: list[Callable[[], None]] = []

    def start(self) -> None:
        """Start calling: a thread for each blocking caller, and one for the event loop of all others."""
        greeter, orders = self._mesh.service("greeter"), self._mesh.service("orders")
        channel, client = greeter.grpc_channel(), orders.http_client()
        self._close = [channel.close, client.close]
        stub: Any = greet_pb2_grpc.GreeterStub(channel)  # type: ignore[no-untyped-call]

        @orders.guard(idempotent=True)
        def ask(number: int, *, endpoint: Endpoint = PICKED) -> Any:
            return plain_get(endpoint, f"/orders/{number}", remaining())

        calls: dict[str, Call] = {
            "gRPC": lambda number: _check_greeting(number, stub.SayHello(_hello(number))),
            "HTTP": lambda number: _check_order(number, client.get(f"/orders/{number}").raise_for_status().json()),
            "function": lambda number: _check_order(number, ask(number)),
        }
        for protocol, call in calls.items():
            for index in range(CALLERS[protocol]):
                self._run(self._call_on, protocol, call, EVERY * index / CALLERS[protocol])
        self._run(lambda: asyncio.run(self._call_on_loop()))

    def stop(self) -> None:
        """Stop calling, and wait for the calls in flight: at most as long as a call has in all, and a second."""
        self._stopping.set()
        until = time.monotonic() + 11.0
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        for close in self._close:
            close()

    def _run(self, function: Callable[..., None], *arguments: Any) -> None:
        def run() -> None:
            try:
                function(*arguments)
            except Exception as error:  # noqa: BLE001 - a client that breaks is a failure too, and must not go unseen
                self._record.failed("client", 0.0, error)

        thread = Thread(target=run, name="svcmesh-demo-load", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _call_on(self, protocol: str, call: Call, phase: float) -> None:
        due = time.monotonic() + phase
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            began = time.monotonic()
            try:
                call(next(self._numbers))
            except Exception as error:  # noqa: BLE001 - whatever it is, the call failed, and that is what is shown
                self._record.failed(protocol, time.monotonic() - began, error)
            else:
                self._record.succeeded(protocol, time.monotonic() - began)
            due = max(due + EVERY, time.monotonic())

    async def _call_on_loop(self) -> None:
        greeter, orders = self._mesh.service("greeter"), self._mesh.service("orders")
        async with greeter.grpc_aio_channel() as channel, orders.http_async_client() as client:
            stub: Any = greet_pb2_grpc.GreeterStub(channel)  # type: ignore[no-untyped-call]

            async def greet(number: int) -> None:
                _check_greeting(number, await stub.SayHello(_hello(number)))

            async def get(number: int) -> None:
                answer = await client.get(f"/orders/{number}")
                _check_order(number, answer.raise_for_status().json())

            calls: dict[str, AsyncCall] = {"gRPC asyncio": greet, "HTTP asyncio": get}
            async with asyncio.TaskGroup() as tasks:
                for protocol, call in calls.items():
                    for index in range(CALLERS[protocol]):
                        tasks.create_task(self._await_on(protocol, call, EVERY * index / CALLERS[protocol]))

    async def _await_on(self, protocol: str, call: AsyncCall, phase: float) -> None:
        due = time.monotonic() + phase
        while not self._stopping.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            try:
                await call(next(self._numbers))
            except Exception as error:  # noqa: BLE001 - as above
                self._record.failed(protocol, time.monotonic() - began, error)
            else:
                self._record.succeeded(protocol, time.monotonic() - began)
            due = max(due + EVERY, time.monotonic())


def plain_get(endpoint: Endpoint, path: str, timeout: float | None) -> Any:
    """Fetch JSON with nothing but the standard library: a function that knows no mesh."""
    connection = HTTPConnection(endpoint.host, endpoint.port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise ConnectionError(f"{endpoint.address} answered {answer.status}")
        return json.loads(answer.read())
    finally:
        connection.close()


def _hello(number: int) -> Any:
    return greet_pb2.HelloRequest(name=f"caller {number}")


def _check_greeting(number: int, reply: Any) -> None:
    if reply.message != f"Hello, caller {number}!":
        raise ValueError(f"call {number} was answered {reply.message!r}")


def _check_order(number: int, found: Any) -> None:
    if found != {"order": number}:
        raise ValueError(f"call {number} was answered {found!r}")
