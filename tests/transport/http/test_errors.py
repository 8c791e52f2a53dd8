"""Errors as callers of httpx catch them."""

from __future__ import annotations

import pickle
from typing import Any

import httpcore
import httpx
import httpx2
import pytest

import svcmesh
from svcmesh.transport.http.errors import FROM_HTTPCORE, as_httpx, translated
from svcmesh.transport.http.httpx2 import of_httpx


@pytest.mark.parametrize(
    ("error", "theirs"),
    [
        (svcmesh.NoEndpoints("nobody"), httpx.ConnectError),
        (svcmesh.CircuitOpen("open", retry_after=2.5), httpx.ConnectError),
        (svcmesh.LimitExceeded("full"), httpx.PoolTimeout),
        (svcmesh.DeadlineExceeded("late"), httpx.TimeoutException),
    ],
)
def test_refusals_are_ours_and_httpxs(error: svcmesh.SvcmeshError, theirs: type[Exception]) -> None:
    """Whichever name the caller catches; with the request, and the same after pickling."""
    request = httpx.Request("GET", "http://orders/")
    found: Any = as_httpx(error, request)
    for each in (found, pickle.loads(pickle.dumps(found))):
        assert isinstance(each, type(error))
        assert isinstance(each, theirs)
        assert isinstance(each, httpx.TransportError)
        assert (str(each), each.retry_after, str(each.request.url)) == (str(error), error.retry_after, "http://orders/")


@pytest.mark.parametrize("during", [httpx.ConnectTimeout, httpx.WriteTimeout, httpx.PoolTimeout, httpx.ReadTimeout])
def test_a_deadline_is_the_timeout_of_what_it_ended(during: type[httpx.TimeoutException]) -> None:
    """Of that alone, since who catches a `ConnectTimeout` may repeat what a `ReadTimeout` forbids."""
    found: Any = as_httpx(svcmesh.DeadlineExceeded("late"), httpx.Request("GET", "http://orders/"), during)
    for each in (found, pickle.loads(pickle.dumps(found)), of_httpx(found, httpx)):
        assert isinstance(each, svcmesh.DeadlineExceeded)
        assert [kind for kind in httpx.TimeoutException.__subclasses__() if isinstance(each, kind)] == [during]
        assert (str(each), str(each.request.url)) == ("late", "http://orders/")
    theirs = of_httpx(found, httpx2)
    assert isinstance(theirs, svcmesh.DeadlineExceeded)
    assert isinstance(theirs, getattr(httpx2, during.__name__))


def test_an_error_without_counterpart_is_raised_as_it_is() -> None:
    error = svcmesh.DiscoveryError("unreadable")
    assert as_httpx(error, httpx.Request("GET", "http://orders/")) is error


REQUEST = httpx.Request("GET", "http://orders/")


@pytest.mark.parametrize("kind", FROM_HTTPCORE)
def test_httpcore_errors_become_httpx_errors(kind: type[Exception]) -> None:
    """Each error of httpcore has a namesake in httpx, which carries it as cause, and the request."""
    error = kind("why")
    found = translated(error, REQUEST)
    assert type(found).__name__ == kind.__name__
    assert isinstance(found, httpx.TransportError)
    assert found.__cause__ is found.__context__ is error
    assert found.request is REQUEST


def test_every_error_of_httpcore_is_mapped() -> None:
    """An error that a newer httpcore adds would otherwise reach callers who catch httpx's."""
    named = [getattr(httpcore, name) for name in httpcore.__all__]
    errors = [each for each in named if isinstance(each, type) and issubclass(each, Exception)]
    unmapped = [each for each in errors if each is not httpcore.ConnectionNotAvailable and each not in FROM_HTTPCORE]
    assert unmapped == []


def test_tools_that_walk_contexts_find_httpcore_s_error() -> None:
    """Also in what a client has raised: some of them never look at causes."""
    with svcmesh.Mesh({"orders": ["127.0.0.1:1"]}) as mesh, mesh.service("orders").http_client() as client:
        with pytest.raises(httpx.ConnectError) as caught:
            client.get("/")

        assert isinstance(caught.value.__context__, httpcore.ConnectError)
        assert caught.value.__cause__ is caught.value.__context__
