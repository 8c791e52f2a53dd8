"""What gRPC says of arguments that no call can be made with, said before there is an endpoint to make one to.

gRPC looks at them when it starts a call, and raises there. A call that waits for its first endpoint starts later, when
it has been handed out; so its arguments are looked at beforehand, by gRPC's rules and in its words. Whatever is not
known here is the end of the call, as its cause.
"""

from __future__ import annotations

from typing import Any

import grpc


def refuse_unusable(metadata: Any, credentials: Any, compression: Any) -> None:
    """Do nothing where a call can be made with these.

    Raises:
        ValueError: metadata that are not pairs.
        TypeError: a key or a value that is neither text nor bytes; a binary value that is not bytes.
        AttributeError: credentials that are none for calls. KeyError: an unknown compression.
    """
    for key, value in metadata or ():
        if _encoded(key).endswith(b"-bin"):
            if not isinstance(value, bytes):
                raise TypeError(f'Binary metadata key="{key}" expected bytes, got {type(value)}')
        else:
            _encoded(value)
    if credentials is not None and not hasattr(credentials, "_credentials"):
        raise AttributeError(f"{type(credentials).__name__!r} object has no attribute '_credentials'")
    if compression and compression not in list(grpc.Compression):
        raise KeyError(compression)


def _encoded(text: Any) -> bytes:
    """Return the bytes of a key or of a value that is not binary; None counts as empty, as in gRPC."""
    if text is None or isinstance(text, bytes):
        return text or b""
    if isinstance(text, str):
        return text.encode()
    raise TypeError(f"Expected str, not {type(text)}")
