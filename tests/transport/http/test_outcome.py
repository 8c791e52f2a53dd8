"""What ends of HTTP attempts mean, without a network."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from types import SimpleNamespace

import httpcore
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcmesh.core.outcome import Kind
from svcmesh.transport.http.errors import translated
from svcmesh.transport.http.outcome import classify, is_stale, of_error, of_response, retry_after

REQUEST = httpx.Request("GET", "http://orders/")
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC).timestamp()


def wall() -> float:
    return NOW


@pytest.mark.parametrize(
    ("error", "kind", "reason", "blames"),
    [
        (httpx.ConnectError("refused"), Kind.UNSENT, "connect-failure", True),
        (httpx.ConnectTimeout("silence"), Kind.UNSENT, "connect-failure", True),
        (httpx.PoolTimeout("busy"), Kind.UNSENT, "pool-timeout", False),
        (httpx.ReadTimeout("silence"), Kind.TIMEOUT, "per-try-timeout", True),
        (httpx.WriteTimeout("full"), Kind.TIMEOUT, "per-try-timeout", True),
        (httpx.RemoteProtocolError("illegal status line"), Kind.LOST, "reset", True),
        (httpx.ReadError("reset by peer"), Kind.LOST, "reset", True),
        (httpx.WriteError("broken pipe"), Kind.LOST, "reset", True),
        (httpx.LocalProtocolError("bad header"), Kind.ERROR, "LocalProtocolError", False),
        (httpx.UnsupportedProtocol("ftp"), Kind.ERROR, "UnsupportedProtocol", False),
        (httpx.StreamConsumed(), Kind.ERROR, "StreamConsumed", False),
        (ValueError("of the caller's generator"), Kind.ERROR, "ValueError", False),
    ],
)
def test_errors(error: Exception, kind: Kind, reason: str, blames: bool) -> None:
    """Each error says whether the request was sent, what policies call it, and whether the endpoint is at fault."""
    outcome = of_error(error)
    assert (outcome.kind, outcome.reason, outcome.blames, outcome.error) == (kind, reason, blames, error)


@pytest.mark.parametrize(
    ("number", "blames"),
    [(errno.EMFILE, False), (errno.ENFILE, False), (errno.ENOBUFS, False), (errno.ECONNREFUSED, True)],
)
def test_a_host_that_cannot_connect_to_anybody_blames_nobody(number: int, blames: bool) -> None:
    """It is unsent all the same."""
    failure = httpcore.ConnectError(OSError(number, os.strerror(number)))
    failure.__cause__ = failure.args[0]
    outcome = of_error(translated(failure, REQUEST))
    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.UNSENT, "connect-failure", blames)


def test_a_connection_that_was_used_before_may_be_stale() -> None:
    """That a kept connection is closed blames nobody; that it answers nonsense does."""
    gone = httpx.RemoteProtocolError("Server disconnected without sending a response.")
    assert is_stale(gone)
    assert not of_error(gone, reused=True).blames
    assert of_error(gone, reused=False).blames
    assert of_error(httpx.RemoteProtocolError("illegal status line"), reused=True).blames


def test_a_refused_stream_was_not_processed() -> None:
    """HTTP/2's REFUSED_STREAM is unsent; another reset is not, and neither is a GOAWAY with the same number."""
    event = SimpleNamespace(error_code=7, stream_id=1)
    for found, kind in (
        (event, Kind.UNSENT),
        (SimpleNamespace(error_code=8, stream_id=1), Kind.LOST),
        (SimpleNamespace(error_code=7, last_stream_id=1), Kind.LOST),
    ):
        assert of_error(translated(httpcore.RemoteProtocolError(found), REQUEST)).kind is kind


@pytest.mark.parametrize("status", [502, 503, 504])
def test_gateway_statuses_blame_the_endpoint(status: int) -> None:
    """They say that the endpoint did not do its work; the response is what the caller gets if nobody repeats it."""
    response = httpx.Response(status)
    outcome = of_response(response, wall)
    assert (outcome.kind, outcome.reason, outcome.blames) == (Kind.STATUS, str(status), True)
    assert outcome.value is response


@pytest.mark.parametrize("status", [500, 501, 429])
def test_other_statuses_blame_nobody(status: int) -> None:
    """A 500 is the application's own, and a 429 the caller's doing."""
    assert not of_response(httpx.Response(status), wall).blames


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 3 ", 3.0),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sunday, 22-Nov-26 12:01:00 GMT", 60.0),
        ("Sun Nov 22 12:00:01 2026", 1.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("99999999999999999999", 1e9),
        ("1.5", None),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("٣", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    """Both forms of RFC 9110 are read, a date against the time of day; nonsense is as if the header were not there."""
    assert retry_after(value, wall) == seconds


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock on the wall is eight hours behind."""
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
@pytest.mark.parametrize(
    "value", ["Sun, 22 Nov 2026 12:00:30 GMT", "Sunday, 22-Nov-26 12:00:30 GMT", "Sun Nov 22 12:00:30 2026"]
)
def test_a_date_is_of_greenwich_whether_it_says_so_or_not(value: str) -> None:
    """The form of asctime cannot say it, and means it. Source: RFC 9110, 5.6.7."""
    assert retry_after(value, wall) == 30.0


@given(st.text(max_size=60))
def test_no_retry_after_breaks_us(text: str) -> None:
    """Whatever a server writes there, the answer is None or a number of seconds that is not negative."""
    found = retry_after(text, wall)
    assert found is None or found >= 0


@given(st.integers(0, 10**6))
def test_dates_are_read_to_the_second(ahead: int) -> None:
    date = format_datetime(datetime.fromtimestamp(NOW + ahead, tz=UTC), usegmt=True)
    assert retry_after(date, wall) == ahead


def test_a_status_made_an_error_keeps_its_status() -> None:
    """``raise_for_status`` inside a guarded function is read as the status that it was."""
    response = httpx.Response(503, headers={"retry-after": "2"}, request=REQUEST)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        response.raise_for_status()
    outcome = classify(caught.value)
    assert (outcome.kind, outcome.reason, outcome.blames, outcome.retry_after) == (Kind.STATUS, "503", True, 2.0)
    assert outcome.error is caught.value
    assert outcome.value is None


def test_other_errors_of_functions_are_read_as_those_of_a_transport() -> None:
    assert classify(httpx.ConnectError("refused")).kind is Kind.UNSENT
