"""Whether this machine has a way to an address, asked of its routing table: nothing is sent.

A name with addresses of both IP versions is read on machines that have only one of them. Half of all first attempts
would then go where nothing can go. `getaddrinfo` leaves such addresses out for its callers (RFC 6724, rule 1); so does
this.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence


def has_route(address: str) -> bool:
    """Return whether packets to ``address`` would leave this machine, or reach it."""
    version = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(version, socket.SOCK_DGRAM) as probe:
            probe.setblocking(False)
            probe.connect((address, 9))  # of datagrams: chooses a route, and says so if there is none
    except OSError:
        return False
    return True


def reachable(addresses: Sequence[str], routed: Callable[[str], bool] = has_route) -> tuple[str, ...]:
    """Return ``addresses`` without those there is no way to; all of them where only one IP version is left anyway."""
    if len({":" in address for address in addresses}) < 2:
        return tuple(addresses)
    return tuple(filter(routed, addresses)) or tuple(addresses)
