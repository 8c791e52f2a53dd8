"""Which bodies can be sent twice, and that the second time sends the same."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.transport.http.body import Body


def sent(request: httpx.Request) -> bytes:
    """Read the body as a connection does."""
    assert isinstance(request.stream, httpx.SyncByteStream)
    return b"".join(request.stream)


def post(**kwargs: Any) -> httpx.Request:
    return httpx.Request("POST", "http://orders/", **kwargs)


class Pipe(io.RawIOBase):
    """A file that cannot be put back."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._data.read(size)

    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"content": b"bytes"},
        {"content": "text"},
        {"json": {"a": 1}},
        {"data": {"a": "1"}},
        {"content": [b"re-", b"iterable"]},
        {"files": {"file": b"in memory"}},
        {"files": {"file": io.BytesIO(b"in a file")}},
    ],
    ids=lambda kwargs: "-".join(kwargs) or "none",
)
def test_what_is_in_memory_is_sent_again(kwargs: dict[str, Any]) -> None:
    """The second attempt sends the same bytes as the first, whatever was read of it before."""
    request = post(**kwargs)
    body = Body(request)
    first = sent(request)
    assert body.replayable()
    assert sent(request) == first


def test_a_file_is_put_back_to_where_it_stood(tmp_path: Path) -> None:
    """Not to its start: a caller who has read a header sends what follows, both times."""
    path = tmp_path / "upload"
    path.write_bytes(b"header" + b"x" * 200_000)
    with path.open("rb") as file:
        file.read(6)
        request = post(content=file)
        body = Body(request)
        iterator = iter(request.stream)  # type: ignore[arg-type]
        next(iterator)  # the first attempt broke off in the middle
        assert body.replayable()
        assert sent(request) == b"x" * 200_000


@given(data=st.binary(max_size=300), offset=st.integers(0, 300), read=st.integers(0, 300))
def test_any_file_from_any_offset(data: bytes, offset: int, read: int) -> None:
    """Wherever the file stood and however much was sent, the second attempt sends what the first should have."""
    file = io.BytesIO(data)
    file.seek(offset)
    request = post(content=file)
    body = Body(request)
    file.read(read)
    assert body.replayable()
    assert sent(request) == data[offset:]


def test_a_file_that_was_closed_cannot_be_sent_again() -> None:
    file = io.BytesIO(b"data")
    body = Body(post(content=file))
    file.close()
    assert not body.replayable()


@pytest.mark.parametrize("form", [True, False])
def test_a_pipe_cannot_be_sent_again(form: bool) -> None:
    """Once touched; a request that never got as far as its body can be."""
    pipe = Pipe(b"data")
    request = post(files={"file": pipe}) if form else post(content=pipe)
    body = Body(request)
    assert body.replayable()
    sent(request)
    assert not body.replayable()


def test_a_form_over_a_pipe_can_be_read_in_both_colours() -> None:
    """As httpx's own: clients of asyncio send forms, too."""

    async def check() -> None:
        request = post(files={"file": Pipe(b"data")})
        body = Body(request)
        assert b"data" in b"".join([part async for part in request.stream])  # type: ignore[union-attr]
        assert not body.replayable()

    asyncio.run(check())


def test_a_generator_is_sent_once() -> None:
    """It can go to another endpoint as long as nobody has asked it for anything."""

    def parts() -> Iterator[bytes]:
        yield b"one"
        yield b"two"

    request = post(content=parts())
    body = Body(request)
    assert body.replayable()
    next(iter(request.stream))  # type: ignore[arg-type]
    assert not body.replayable()


def test_an_async_generator_is_sent_once() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"

    async def check() -> None:
        request = post(content=parts())
        body = Body(request)
        assert body.replayable()
        assert isinstance(request.stream, httpx.AsyncByteStream)
        assert [part async for part in request.stream] == [b"one"]
        assert not body.replayable()

    asyncio.run(check())


@pytest.mark.parametrize("seekable", [lambda: True, None], ids=["seekable", "silent"])
def test_a_file_that_is_awaited_is_sent_once(seekable: Callable[[], bool] | None) -> None:
    """What anyio opens cannot be put back without awaiting; sent again, it would be empty and look whole."""

    class File:
        def __init__(self) -> None:
            self.lines = iter([b"one\n", b"two\n"])
            self.calls = 0
            if seekable is not None:
                self.seekable = seekable

        async def read(self, size: int = -1) -> bytes:
            return b"".join(self.lines)

        async def tell(self) -> int:
            self.calls += 1
            return 0

        async def seek(self, offset: int) -> int:
            self.calls += 1
            return offset

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self

        async def __anext__(self) -> bytes:
            for line in self.lines:
                return line
            raise StopAsyncIteration

    async def check() -> None:
        file = File()
        request = post(content=file)
        body = Body(request)
        assert body.replayable()
        assert isinstance(request.stream, httpx.AsyncByteStream)
        assert [part async for part in request.stream] == [b"one\n", b"two\n"]
        assert not body.replayable()
        assert not file.calls

    asyncio.run(check())


def test_a_watched_stream_is_closed_with_its_request() -> None:
    """Who closes the stream that was put in place of the caller's closes the caller's."""
    closed: list[str] = []

    class Blocking(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b""

        def close(self) -> None:
            closed.append("blocking")

    class Awaiting(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b""

        async def aclose(self) -> None:
            closed.append("awaiting")

    one, other = post(stream=Blocking()), post(stream=Awaiting())
    Body(one)
    Body(other)
    one.stream.close()  # type: ignore[union-attr]
    asyncio.run(other.stream.aclose())  # type: ignore[union-attr]
    assert closed == ["blocking", "awaiting"]
