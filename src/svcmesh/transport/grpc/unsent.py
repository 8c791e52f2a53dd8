"""Proof that an RPC never left, because the connection it was for could not be made.

gRPC reports a failed connect by a status, and a server may send the very same one: a gateway that hands on the errors
of its own upstream does, after it has done half of its work. Neither metadata nor gRPC's debug string tell the two
apart (compared: grpcio 1.51 to 1.85). What no server can bring about is the state of our channel. One that has just
failed to connect is in TRANSIENT_FAILURE, and stays there until it is connected; one that an answer came through is
READY, or IDLE when the server hung up behind it. A server that lies and dies, while another call finds that out before
we look, is left; so the text has to name our own endpoint besides, as gRPC's own does.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote

import grpc

from svcmesh.core.address import Address, parse_address

_CONNECT = "failed to connect to all addresses; last error: "
_RESOLVE = ("errors resolving ", "DNS resolution failed for ")
_DIALLED = re.compile(r"[A-Z_]+: ipv[46]:(?P<host>[^\s:]+|%5B\S+?%5D):(?P<port>\d{1,5}): ", re.IGNORECASE)


def never_connected(details: str, address: str, state: grpc.ChannelConnectivity) -> bool:
    """Return whether gRPC itself says by ``details`` that ``address`` cannot be connected to.

    Args:
        details: of an RPC that ended UNAVAILABLE. address: of the endpoint, as in `Endpoint`.
        state: of the channel to it, now.
    """
    return state is grpc.ChannelConnectivity.TRANSIENT_FAILURE and names(details, address)


def sounds_so(details: str) -> bool:
    """Return whether these are gRPC's words for a connection that could not be made, whoever says them."""
    return details.startswith((_CONNECT, *_RESOLVE))


def names(details: str, address: str) -> bool:
    """Return whether these are gRPC's words for a connection to ``address`` that could not be made, whoever says them.

    That is enough for calls with wait_for_ready: they are promised that no failed connect ends them, and those are the
    calls during which a server comes up, so that the channel is often READY by the time we look.
    """
    parsed = parse_address(address)
    if parsed.path is None and not parsed.is_ip and details.startswith(_RESOLVE):
        return f" {address}:" in details
    if not details.startswith(_CONNECT):
        return False
    said = details[len(_CONNECT) :]
    if parsed.path is not None:
        return f": unix:{parsed.path}: " in said
    found = _DIALLED.match(said)
    return found is not None and int(found["port"]) == parsed.port and _same_host(unquote(found["host"]), parsed)


def _same_host(said: str, parsed: Address) -> bool:
    """Whether both are one IP address; what a name stands for is not known here."""
    if not parsed.is_ip:
        return True
    try:
        return _bare(said.strip("[]")) == _bare(parsed.host)
    except ValueError:
        return False


def _bare(host: str) -> object:
    """The address without its scope, which gRPC writes as a number."""
    return ipaddress.ip_address(host.partition("%")[0])
