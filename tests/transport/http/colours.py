"""One scenario for both colours: a client that is called the same way, blocking or on a loop of its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Self

import httpx
import pytest

import svcmesh
from svcmesh.transport.http.connection import wire as http_wire
from svcmesh.transport.http.connection import wire_asyncio as http_asyncio
from svcmesh.transport.http.connection.names import Names


class Caller:
    """A client of ``service``; `request` and `get` as httpx's, always blocking the test."""

    def __init__(self, service: svcmesh.Service, **kwargs: Any) -> None:
        self.client = service.http_client(**kwargs)

    def request(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        return self.client.request(method, url, **kwargs)

    def get(self, url: str, **kwargs: Any) -> httpx.Response:
        return self.request("GET", url, **kwargs)

    def raw(self, url: str) -> bytes:
        """Stream an answer without decoding it."""
        with self.client.stream("GET", url) as response:
            return b"".join(response.iter_raw())

    def close(self) -> None:
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncCaller(Caller):
    """The same over an asyncio client."""

    def __init__(self, service: svcmesh.Service, **kwargs: Any) -> None:
        self.runner = asyncio.Runner()
        self.async_client = service.http_async_client(**kwargs)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(coroutine, context=contextvars.copy_context())  # an ambient deadline goes along

    def request(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        return self.run(self.async_client.request(method, url, **kwargs))

    def raw(self, url: str) -> bytes:
        async def read() -> bytes:
            async with self.async_client.stream("GET", url) as response:
                return b"".join([part async for part in response.aiter_raw()])

        return self.run(read())

    def close(self) -> None:
        self.run(self.async_client.aclose())
        self.runner.close()


Colour = Callable[..., Caller]
COLOURS = {"blocking": Caller, "awaiting": AsyncCaller}


def ask_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have names resolved as if none had been asked for yet in this process."""
    names = Names()
    for module in (http_wire, http_asyncio):
        monkeypatch.setattr(module, "names", names)


def in_flight(service: svcmesh.Service) -> int:
    """Return how many attempts of this service have not ended."""
    return sum(member.in_flight for member in service.view.cluster.members.values())
