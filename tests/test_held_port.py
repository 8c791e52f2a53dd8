"""Ports that tests hold are theirs, whether somebody listens there or not."""

from __future__ import annotations

import socket
import sys

import pytest

from tests.servers.ports import HeldPort


@pytest.mark.skipif(sys.platform != "linux", reason="no other system lets a server in beside who holds its port")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_servers_come_and_go_on_a_held_port_that_nobody_else_gets(host: str) -> None:
    """It refuses connections while none listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with HeldPort(host) as port:
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, port.number), 30)
            with socket.create_server((host, port.number), family=family):
                socket.create_connection((host, port.number), 30).close()
        with socket.socket(family) as another, pytest.raises(OSError, match="in use"):
            another.bind((host, port.number))
