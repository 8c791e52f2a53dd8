"""What gRPC refuses of a channel's settings, refused when the mesh channel is made, in gRPC's words.

Stock channels are made later, one for each endpoint. To hear what gRPC says a channel is made that leads nowhere, and
closed again. But the last channel that a process closes takes gRPC's threads along, and waits for them with the
interpreter's lock held: one that just then calls a credentials plugin, or lets go of it, waits for that lock, and
neither ever goes on (grpcio 1.85). So a channel is made only for settings that might be refused.
"""

from __future__ import annotations

from typing import Any

import grpc

from svcmesh.transport.grpc.channels import sync_channel
from svcmesh.transport.grpc.settings import Settings

_USUAL = {"SSLChannelCredentials", "CompositeChannelCredentials"}  # of gRPC's own, which it never refuses
_INTEGERS = range(-(2**31), 2**31)


def refuse_wrong(settings: Settings) -> None:
    """Fail as the stock channel does, at once, when it cannot be made with these settings."""
    if not _is_usual(settings):
        sync_channel(settings, "127.0.0.1:1").close()


def _is_usual(settings: Settings) -> bool:
    """Whether gRPC has nothing to refuse; only what a user gave can be wrong."""
    if settings.compression is not None and not isinstance(settings.compression, grpc.Compression):
        return False
    if settings.credentials is not None:
        own = getattr(settings.credentials, "_credentials", None)  # the one attribute that gRPC goes by
        if type(own).__name__ not in _USUAL:
            return False
    return all(map(_is_usual_option, settings.options or ()))


def _is_usual_option(option: Any) -> bool:
    if type(option) is not tuple or len(option) != 2:
        return False
    name, value = option
    if type(name) is not str or not name.isascii():
        return False
    return (type(value) is str and value.isascii()) or (type(value) is int and value in _INTEGERS)
