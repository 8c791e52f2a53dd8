"""Whose request is it? Clients of httpx and of httpx2 may share a transport; the second library is rarely there."""

from __future__ import annotations

import importlib
from typing import Any

import httpx

from svcmesh.core.errors import ConfigError

_OTHERS = {"httpx2": "svcmesh.transport.http.httpx2"}


def foreign(thing: object) -> Any:
    """Return the module of ours that speaks the library which ``thing`` comes from; None for any other thing.

    The module that defines its class, or one that it derives from, says which: httpx2 is imported by nobody but users.
    """
    for kind in type(thing).__mro__:
        found = _OTHERS.get(kind.__module__.partition(".")[0])
        if found is not None:
            return importlib.import_module(found)
    return None


def speaker(request: object) -> Any:
    """Return the module that handles a request which is not httpx's.

    Raises:
        TypeError: it is no request of a library that is known here.
    """
    found = foreign(request)
    if found is None:
        raise TypeError(f"a transport handles an httpx.Request, or one of httpx2, not {request!r}")
    return found


def adopted(inner: httpx.BaseTransport | None) -> httpx.BaseTransport | None:
    """Return the blocking transport that a user gave as ``inner``, as one of httpx.

    Raises:
        ConfigError: it is none, of neither library.
    """
    if inner is None or isinstance(inner, httpx.BaseTransport):
        return inner
    if hasattr(inner, "handle_request") and (library := foreign(inner)) is not None:
        return library.Adopted(inner)
    raise ConfigError(f"inner must be an httpx.BaseTransport, not {inner!r}")


def adopted_async(inner: httpx.AsyncBaseTransport | None) -> httpx.AsyncBaseTransport | None:
    """Return the same for a transport that awaits.

    Raises:
        ConfigError: it is none, of neither library.
    """
    if inner is None or isinstance(inner, httpx.AsyncBaseTransport):
        return inner
    if hasattr(inner, "handle_async_request") and (library := foreign(inner)) is not None:
        return library.AsyncAdopted(inner)
    raise ConfigError(f"inner must be an httpx.AsyncBaseTransport, not {inner!r}")
