"""What an exception of somebody's function says about the network."""

from __future__ import annotations

import asyncio
import errno
import http.client
import socket
import ssl
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from svcmesh import CircuitOpen, DeadlineExceeded, NoEndpoints
from svcmesh.core.outcome import CONNECT_FAILURE, PER_TRY_TIMEOUT, RESET, Kind, Outcome
from svcmesh.transport.plain_outcome import classify
from tests.servers.ports import HeldPort


def refused() -> OSError:
    return ConnectionRefusedError(errno.ECONNREFUSED, "refused")


@pytest.mark.parametrize(
    "error",
    [
        refused(),
        OSError(errno.EHOSTUNREACH, "no route"),
        OSError(errno.ENETUNREACH, "no network"),
        socket.gaierror(-2, "unknown"),
        urllib.error.URLError(refused()),
        httpx.ConnectError("refused"),
    ],
)
def test_no_connection_means_unsent(error: Exception) -> None:
    outcome = classify(error)

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.UNSENT, CONNECT_FAILURE, True)
    assert outcome.error is error


@pytest.mark.parametrize("library", ["socket", "asyncio"])
@pytest.mark.parametrize("name", ["nobody", "locked/socket", "file"])
def test_a_unix_socket_that_cannot_be_connected_means_unsent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, name: str
) -> None:
    """Not there, not ours to enter, not a socket. A path is no file's here: the system names none in the error."""
    (tmp_path / "file").touch()

    def connect(path: str) -> None:
        if name.startswith("locked"):  # nothing is locked to root, who may run the tests
            raise PermissionError(errno.EACCES, "Permission denied")
        if library == "socket":
            with socket.socket(socket.AF_UNIX) as found:
                found.connect(path)
        else:
            asyncio.run(asyncio.open_unix_connection(path))  # type: ignore[arg-type]  # it never returns

    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with pytest.raises(OSError, match=r"\[Errno \d+\]") as caught:
        connect(name)
    outcome = classify(caught.value)
    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.UNSENT, CONNECT_FAILURE, True)


def test_a_file_that_is_missing_is_the_functions_own_affair(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "settings.json").read_text()
    assert (classify(caught.value).kind, classify(caught.value).blames) == (Kind.ERROR, False)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        BrokenPipeError(),
        ssl.SSLError("bad record"),
        OSError(errno.EIO, "io"),
        httpx.ReadError("cut"),
    ],
)
def test_a_broken_connection_means_maybe_sent(error: Exception) -> None:
    outcome = classify(error)

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.LOST, RESET, True)


@pytest.mark.parametrize("error", [TimeoutError(), urllib.error.URLError(TimeoutError()), httpx.ReadTimeout("late")])
def test_a_timeout_is_one(error: Exception) -> None:
    outcome = classify(error)

    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.TIMEOUT, PER_TRY_TIMEOUT, True)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        ValueError(),
        FileNotFoundError(),
        PermissionError(),
        ProcessLookupError(),
        EOFError(),
        grpc.RpcError(),
    ],
)
def test_what_says_nothing_of_the_network_blames_nobody(error: Exception) -> None:
    outcome = classify(error)

    assert (outcome.kind, outcome.blames) == (Kind.ERROR, False)


def test_a_host_that_has_no_file_left_blames_nobody() -> None:
    """Whatever it was that could not be opened."""
    outcome = classify(urllib.error.URLError(OSError(errno.EMFILE, "Too many open files")))
    assert (outcome.kind, outcome.blames) == (Kind.ERROR, False)


@pytest.mark.parametrize("error", [NoEndpoints(), CircuitOpen(), DeadlineExceeded()])
def test_a_call_inside_has_been_retried_there(error: Exception) -> None:
    """Though a `DeadlineExceeded` is a `TimeoutError`, it is not one of this endpoint."""
    assert classify(error) == Outcome(Kind.ERROR, error, reason=type(error).__name__)


class RequestException(OSError):
    """Requests derives all its errors from OSError."""

    response: Any = None


def raised_behind(cause: Exception, *links: Exception) -> Exception:
    """Return the last of ``links``, each raised while the one before it was handled."""
    current = cause
    for link in links:
        link.__context__ = current
        current = link
    return current


def test_libraries_that_put_the_systems_error_behind_theirs_are_seen_through() -> None:
    """requests: ConnectionError, in place of MaxRetryError, in place of NewConnectionError, of the refused connect."""
    error = raised_behind(refused(), Exception("NewConnectionError"), Exception("MaxRetryError"), RequestException())

    assert classify(error).kind is Kind.UNSENT
    assert (
        classify(raised_behind(TimeoutError(), Exception("ReadTimeoutError"), RequestException())).kind is Kind.TIMEOUT
    )


def test_an_error_of_a_library_without_one_of_the_system_is_its_own() -> None:
    """A malformed URL or JSON of requests is an OSError as well."""
    assert classify(RequestException("invalid URL")).kind is Kind.ERROR


def test_what_merely_happened_before_is_not_blamed() -> None:
    """A KeyError raised while a refused connection was handled is a bug of the function."""
    assert classify(raised_behind(refused(), KeyError("bug"))).kind is Kind.ERROR


@pytest.mark.parametrize(("status", "blames"), [(404, False), (500, False), (503, True)])
def test_a_status_raised_as_an_error_is_an_answer(status: int, blames: bool) -> None:
    from_requests = RequestException()
    from_requests.response = httpx.Response(status)
    request = httpx.Request("GET", "http://h")
    for error in (
        from_requests,
        urllib.error.HTTPError("http://h", status, "no", Message(), None),
        httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, request=request)),
    ):
        outcome = classify(error)
        assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.STATUS, str(status), blames)
        assert outcome.error is error


def test_the_real_urllib_is_read_right() -> None:
    with HeldPort() as gone, pytest.raises(urllib.error.URLError) as caught:
        urllib.request.urlopen(f"http://{gone.address}/", timeout=30)
    assert classify(caught.value).kind is Kind.UNSENT


def test_broken_connections_as_libraries_raise_them() -> None:
    """http.client and asyncio have classes of their own for an answer that was cut; people raise the bare class."""
    for error in (
        http.client.RemoteDisconnected("gone"),
        http.client.IncompleteRead(b"half"),
        asyncio.IncompleteReadError(b"half", 10),
        type("Mine", (ConnectionResetError,), {})("reset"),
    ):
        outcome = classify(error)
        assert (outcome.kind, outcome.blames) == (Kind.LOST, True), error
    assert classify(ConnectionRefusedError()).kind is Kind.UNSENT
    wrapped = ConnectionError("no luck")
    wrapped.__cause__ = ConnectionRefusedError()
    assert classify(wrapped).kind is Kind.UNSENT
