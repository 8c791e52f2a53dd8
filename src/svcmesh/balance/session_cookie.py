"""What stands in the cookie of a sticky session: a message of Envoy's, and the forms that are read besides.

Envoy writes the base64 of a protobuf message, whose field 1 is the address and field 2 the time at which it ends. It
takes a plain address only where that happens to be no such message, which 10.0.0.1:80 is, and says that it will take
none any more. So its message is what we write: cookies of HTTP clients pass Envoys. gRPC writes and reads the plain
address and, after a semicolon, the cluster; its cookies are metadata, which we read and never set.

The end is neither set nor heeded: Envoys count it by different clocks (1.40 by Unix time, older ones by the time
since their host was booted), and Max-Age, with which they set it, tells the client the same.

Source: Envoy, stateful_session/cookie/cookie.h and cookie.proto; gRPC, stateful_session_filter.cc (gRFC A55, A75).
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final

_ADDRESS: Final = b"\x0a"  # field 1, of a length that follows
_MESSAGE: Final = re.compile(
    rb"\x0a([\x80-\xff]?[\x00-\x7f])"  # that length, in one or two bytes
    rb"([^\x00-\x1f\x7f]*)"  # no control characters: a field 2 cannot be taken for text
    rb"(?:\x10[\x80-\xff]{0,9}[\x00-\x7f])?"  # field 2, a number
)


def written(address: str) -> str:
    """Return the value that names an endpoint to Envoy, and to us."""
    text = address.encode()
    size = len(text)
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return b64encode(_ADDRESS + length + text).decode()


def read(decoded: bytes) -> str:
    """Return what stands where the address does, in either form; empty for another message.

    Args:
        decoded: the value without its base64.

    Raises:
        ValueError: that is no text.
    """
    if not decoded.startswith(_ADDRESS):  # with which no address begins
        return re.split("[;,]", decoded.decode(), maxsplit=1)[0]  # gRPC: all addresses of the endpoint; the cluster
    message = _MESSAGE.fullmatch(decoded)
    if message is None:
        return ""
    size, text = message.groups()
    length = size[0] if len(size) == 1 else size[0] & 127 | size[1] << 7
    return text.decode() if len(text) == length else ""
