"""The hosts file of the system, and what needs no file: ``localhost``."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from pathlib import Path

HOSTS = Path("/etc/hosts")
_LOOPBACK = ("127.0.0.1", "::1")


def listed(host: str) -> list[str]:
    """Return the IP addresses that ``host`` has without asking anybody; none where a name server has to be asked."""
    name = host.rstrip(".").lower()
    found = _in_hosts_file(name)
    if not found and (name == "localhost" or name.endswith(".localhost")):  # RFC 6761, where a hosts file leaves it out
        return [*_LOOPBACK]
    return found


def _in_hosts_file(name: str) -> list[str]:
    found: list[str] = []
    with suppress(OSError, UnicodeDecodeError):
        for line in HOSTS.read_text(encoding="utf-8").splitlines():
            address, *names = line.partition("#")[0].split() or ("",)
            if name in (each.lower() for each in names) and _is_address(address):
                found.append(address)
    return found


def _is_address(text: str) -> bool:
    with suppress(ValueError):
        return "%" not in text and bool(ipaddress.ip_address(text))
    return False
