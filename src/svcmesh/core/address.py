"""Where an endpoint is reached: ``host:port``, ``[v6]:port`` or ``unix:/path``, and nothing else.

Addresses come from registries, files and people. They are parsed once, when an endpoint is built, so that a
typing mistake is reported with the text that was typed and not by a connect call ten minutes later.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from functools import lru_cache

from svcmesh.core.errors import ConfigError

_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"  # RFC 1123, and the underscore of docker compose and of SRV names
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PORT = r"(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_ipv4_and_port = re.compile(rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}:{_PORT}").fullmatch
"""What nearly all addresses are: one look at it takes a tenth of the time that all other looks take together."""

_HOST = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")
"""What ends in a number is an IPv4 address or nothing: a resolver would take 10.0.0.256, 127.1 or 999 for something
else (the rule of the WHATWG's URL standard)."""

LONGEST_PATH = 107
"""Bytes of the path of a unix socket, as Linux has them (unix(7)); others have fewer."""


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address. ``path`` is set for unix sockets, ``host`` and ``port`` for all others."""

    host: str
    port: int
    path: str | None = None

    @property
    def is_ip(self) -> bool:
        """Whether ``host`` is an IP literal; a name is resolved by the transport that dials."""
        return _ip(self.host) is not None


def is_usual(text: str) -> bool:
    """Whether ``text`` is an IPv4 address and a port, which need not be parsed to be known as well-formed."""
    return type(text) is str and _ipv4_and_port(text) is not None


def check_address(text: str) -> None:
    """Refuse what is no address. Cost: a tenth of `parse_address` for one that it has not seen.

    Raises:
        ConfigError: as `parse_address`.
    """
    if type(text) is not str or _ipv4_and_port(text) is None:  # `is_usual`, of which there are thousands
        parse_address(text)


def parse_address(text: str) -> Address:
    """Parse ``text``; the result is cached.

    Raises:
        ConfigError: names what is wrong: no port, a port outside 1 to 65535, IPv6 without brackets, a bad host.
    """
    if not isinstance(text, str) or not text:
        raise ConfigError(f"an address must be a non-empty string such as '10.0.0.1:8080', not {text!r}")
    return _parse(text)


@lru_cache(maxsize=65536)
def _parse(text: str) -> Address:
    if is_usual(text):
        host, _, port = text.partition(":")
        return Address(host, int(port))
    if text.startswith("unix:"):
        return _unix(text)
    if "://" in text:  # a URL, whose user part may be a secret
        shown = re.sub(r"//.*@", "//…@", text, flags=re.DOTALL)
        raise ConfigError(f"address {shown!r}: write host:port, without a scheme")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":") or not isinstance(_ip(host), ipaddress.IPv6Address):
            raise ConfigError(f"address {text!r}: brackets hold an IPv6 address and a port follows, as in '[::1]:8080'")
        return Address(host, parse_port(rest[1:], text))
    host, colon, port = text.rpartition(":")
    if ":" in host:
        raise ConfigError(f"address {text!r}: put an IPv6 address in brackets, as in '[::1]:8080'")
    if not colon:
        raise ConfigError(f"address {text!r} has no port: write it as '{text}:8080'")
    if not _HOST.fullmatch(host) or (_NUMBER.fullmatch(host) and not _ip(host)):
        raise ConfigError(f"address {text!r}: {host!r} is neither an IP address nor a host name")
    return Address(host, parse_port(port, text))


def parse_port(text: str | int, where: str) -> int:
    """Return the port in ``text``; ``where`` is what the error message quotes.

    Raises:
        ConfigError: it is no whole number from 1 to 65535, or begins with a zero.
    """
    digits = str(text)
    port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else 0
    if not 1 <= port <= 65535 or isinstance(text, bool):
        raise ConfigError(f"address {where!r}: port {digits!r} is not a whole number from 1 to 65535")
    if digits.startswith("0"):  # one endpoint would have two names, and counts of its own under each
        raise ConfigError(f"address {where!r}: port {digits!r} begins with a zero; write it as {port}")
    return port


def join_address(host: str, port: int) -> str:
    """Return ``host:port``, with the brackets an IPv6 host needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unix(text: str) -> Address:
    path = text[len("unix:") :]
    path = "/" + path.lstrip("/") if path.startswith("//") else path
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ConfigError(f"address {text!r}: a unix socket needs an absolute path, as in 'unix:/run/app.sock'")
    try:
        length = len(os.fsencode(path))
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON may hold one: no file is called so
        raise ConfigError(f"address {text!r}: the path of a unix socket is no text") from None
    if length > LONGEST_PATH:
        raise ConfigError(f"address {text!r}: the path of a unix socket has at most {LONGEST_PATH} bytes")
    return Address("", 0, path)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
