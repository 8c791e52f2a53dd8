"""Name servers for tests: BIND in a process of its own, and one of ours that answers whatever a test wants."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dns.exception
import dns.message
import dns.query
import dns.rdatatype
import dns.rrset
import dns.update

from tests.servers.consul_agent import until
from tests.servers.frozen import freeze
from tests.servers.ports import HeldPort

_PLACES = "/usr/sbin:/usr/local/sbin:/sbin"
ZONE = """
$TTL 5
@ IN SOA ns.svc.test. root.svc.test. ( 1 60 30 3600 3 )
  IN NS ns.svc.test.
ns IN A 127.0.0.1
"""
CONFIG = """
options {{ directory "{directory}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  pid-file "{directory}/pid"; session-keyfile "{directory}/session.key"; recursion no; dnssec-validation no;
  minimal-responses {minimal}; empty-zones-enable no; }};
controls {{ }};
zone "svc.test" {{ type primary; file "svc.test.zone"; allow-update {{ 127.0.0.1; }}; }};
"""


def bind() -> str | None:
    """Return the path of BIND's ``named``, if it is installed."""
    return shutil.which("named", path=f"{os.environ.get('PATH', '')}:{_PLACES}")


class Bind:
    """BIND 9 with the zone ``svc.test``, whose records a test changes while it runs (RFC 2136).

    Args:
        directory: where its files are. records: of the zone, in BIND's format, besides SOA and its own name.
        minimal: leave the addresses of SRV targets out of the answer.
    """

    def __init__(self, directory: Path, records: str = "", *, minimal: bool = False) -> None:
        self._directory = directory
        self._held = _held_port()
        self._port = self._held.number
        self._config = directory / "named.conf"
        minimal_word = "yes" if minimal else "no"
        self._config.write_text(CONFIG.format(directory=directory, port=self._port, minimal=minimal_word))
        (directory / "svc.test.zone").write_text(ZONE + records)
        self.start()

    @property
    def address(self) -> str:
        """``host:port``, for URIs."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it (again), with what its zone holds."""
        binary = bind()
        assert binary is not None
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, "-g", "-n", "1", "-c", str(self._config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(self._ready, 20.0)

    def update(self, change: Callable[[dns.update.UpdateMessage], object]) -> None:
        """Change records: ``change`` calls ``add``, ``replace`` and ``delete`` of the update."""
        update = dns.update.UpdateMessage("svc.test")
        change(update)
        answer = dns.query.tcp(update, "127.0.0.1", port=self._port, timeout=10)
        assert answer.rcode() == 0, answer

    def kill(self) -> None:
        """End it at once; harmless when repeated."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(60)

    def freeze(self) -> None:
        """Stop it from running: it answers nothing any more."""
        freeze(self._process)

    def thaw(self) -> None:
        """Let it run on."""
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        """Return self; the process is ended on the way out."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, and give its port up."""
        self.kill()
        self._held.close()

    def _ready(self) -> bool:
        log = (self._directory / "log").read_text(errors="replace")
        assert self._process.poll() is None, f"BIND ended with status {self._process.returncode}:\n{log[-2000:]}"
        query = dns.message.make_query("ns.svc.test", "A")
        try:
            return bool(dns.query.udp(query, "127.0.0.1", port=self._port, timeout=0.5).answer)
        except (dns.exception.DNSException, OSError):
            return False


Answer = Callable[[dns.message.QueryMessage, bool], bytes | None]
"""Makes an answer of a question and of whether it came by TCP; None: silence."""


class NameServer:
    """A name server in a thread, by UDP and TCP, that answers with any bytes a test wants.

    Args:
        answer: called for each question, on the server's thread.

    Attributes:
        asked: name, type and protocol of every question.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, str]] = []
        self._udp, self._tcp = _pair()
        self._threads = [
            threading.Thread(target=self._serve_udp, name="name-server-udp"),
            threading.Thread(target=self._serve_tcp, name="name-server-tcp"),
        ]

    @property
    def address(self) -> str:
        """``host:port``, for URIs."""
        return f"127.0.0.1:{self._udp.getsockname()[1]}"

    def __enter__(self) -> Self:
        """Start it."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        for listening in (self._udp, self._tcp):
            with suppress(OSError):  # a datagram socket is woken by it all the same, and says that it has no peer
                listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._udp.close()
        self._tcp.close()

    def _reply(self, wire: bytes, protocol: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        self.asked.append((question.name.to_text(), dns.rdatatype.to_text(question.rdtype), protocol))
        return self.answer(query, protocol == "tcp")

    def _serve_udp(self) -> None:
        while True:
            try:
                wire, sender = self._udp.recvfrom(65535)
            except OSError:
                return
            if not wire:
                return  # nobody asks without a word: the socket was shut down
            reply = self._reply(wire, "udp")
            if reply is not None:
                with suppress(OSError):  # the socket was shut down meanwhile
                    self._udp.sendto(reply, sender)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                head = connection.recv(2)
                if len(head) < 2:
                    continue
                wire = connection.recv(int.from_bytes(head, "big"))
                reply = self._reply(wire, "tcp")
                if reply is not None:
                    connection.sendall(len(reply).to_bytes(2, "big") + reply)


def respond(query: dns.message.QueryMessage, *records: str, **fields: Any) -> dns.message.QueryMessage:
    """Return an answer to ``query`` that holds those ``records`` whose type was asked for.

    Args:
        query: the question. records: lines such as ``"web.svc.test. 5 IN A 10.0.0.1"``; an alias is always there.
        fields: ``rcode``, ``flags``; ``extra``: lines of the additional section; ``authority``: of that one.
    """
    answer = dns.message.make_response(query)
    kind = dns.rdatatype.to_text(query.question[0].rdtype)
    answer.answer.extend(_rrsets([r for r in records if r.split()[3] in {kind, "CNAME"}]))
    answer.additional.extend(_rrsets(fields.get("extra", ())))
    answer.authority.extend(_rrsets(fields.get("authority", ())))
    answer.set_rcode(fields.get("rcode", 0))
    answer.flags |= fields.get("flags", 0)
    return answer


def _rrsets(lines: Any) -> list[Any]:
    grouped: dict[tuple[str, ...], list[str]] = {}
    for line in lines:
        name, ttl, rdclass, kind, text = re.split(r"\s+", line, maxsplit=4)
        grouped.setdefault((name, ttl, rdclass, kind), []).append(text)
    return [dns.rrset.from_text(name, int(ttl), c, k, *texts) for (name, ttl, c, k), texts in grouped.items()]


def _pair() -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a listening TCP socket with one port."""
    while True:
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
        else:
            return udp, tcp


def _held_port() -> HeldPort:
    """Return a port that is held for TCP, and free for UDP."""
    while True:
        held = HeldPort()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, suppress(OSError):
            udp.bind((held.host, held.number))
            return held
        held.close()
