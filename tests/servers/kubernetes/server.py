"""The server: HTTP/1.1, a thread for each connection; a process, too (``python -m tests.servers.kubernetes.server``).

It serves ``/apis/discovery.k8s.io/v1/namespaces/NS/endpointslices``, and ``POST /-/put`` for what only a cluster itself
can do.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from tests.servers.kubernetes import faults
from tests.servers.kubernetes.objects import (
    EXPIRED_PAGE,
    UNAUTHORIZED,
    endpoint,
    endpoint_slice,
    event,
    forbidden,
    port,
    too_old,
)
from tests.servers.kubernetes.store import LABEL, Store


class Request(NamedTuple):
    """What was asked."""

    verb: str
    namespace: str
    query: dict[str, str]
    headers: dict[str, str]


class ApiServer:
    """An API server in a thread.

    Args:
        port: 0 for any. tls: what to serve TLS by.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.store = Store()
        self.requests: list[Request] = []
        self.allowed: dict[str, set[str]] | None = None
        self.bookmark_every = 60.0
        self.stopping = threading.Event()
        self._tls = tls
        self._port = port
        self._fault: tuple[str, str | None, int] | None = None
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()

    # -- what a test does ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Listen, at the same port as before if it was there before."""
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.api = self
        if self._tls is not None:
            # Hands are shaken on a connection's own thread: who connects and says nothing must not hold up the others.
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Close everything."""
        self.stopping.set()
        self._server.shutdown()
        self.break_connections()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'http' if self._tls is None else 'https'}://{self.address}"

    @property
    def connections(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._sockets)

    def kubeconfig(self, file: Path, user: dict[str, Any] | None = None, **cluster: Any) -> str:
        """Write a kubeconfig that leads here; return a URI that names it."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u", "namespace": "prod"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url} | cluster}],
            "users": [{"name": "u", "user": user or {}}],
        }
        file.write_text(json.dumps(document))
        return f"k8s://?kubeconfig={file}"

    def put(self, service: str, addresses: list[str], namespace: str = "prod") -> None:
        """Make these the addresses of a service: a slice for each port; none: it is gone."""
        by_port: dict[int, list[dict[str, Any]]] = {}
        for address in addresses:
            host, _, number = address.rpartition(":")
            by_port.setdefault(int(number), []).append(endpoint(host))
        wanted = {f"{service}-{number}": (number, listed) for number, listed in by_port.items()}
        for name in self.store.names(namespace, service):
            if name not in wanted:
                self.store.delete(namespace, name)
        for name, (number, listed) in wanted.items():
            self.store.put(endpoint_slice(namespace, name, service, listed, ports=[port(number, "http")]))

    def fault(self, kind: str, verb: str | None = None, times: int = 1_000_000) -> None:
        """Do something wrong, for requests of one verb (``list``, ``watch``) or of both."""
        assert kind in faults.KINDS, kind
        self._fault = kind, verb, times

    def heal(self) -> None:
        """Do everything right again."""
        self._fault = None

    def break_connections(self) -> None:
        """Cut all connections, in the middle of whatever they say."""
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        with self.store.changed:
            self.store.changed.notify_all()

    def asked(self, verb: str) -> list[Request]:
        """Return the requests of one verb."""
        return [request for request in list(self.requests) if request.verb == verb]

    # -- what its handlers do --------------------------------------------------------------------------------------

    def fault_of(self, verb: str) -> str | None:
        """Return what is to go wrong now."""
        with self._lock:
            if self._fault is None or self._fault[1] not in {None, verb} or self._fault[2] < 1:
                return None
            kind, only, times = self._fault
            self._fault = kind, only, times - 1
            return kind

    def opened(self, connection: socket.socket) -> None:
        """Take note of a connection."""
        with self._lock:
            self._sockets.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget it."""
        with self._lock:
            self._sockets.discard(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 256
    api: ApiServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is no news."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.api.opened(self.connection)

    def finish(self) -> None:
        self.server.api.closed(self.connection)
        super().finish()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        steps = parts.path.split("/")
        if parts.path == "/readyz":
            return self._answer(200, {}, b"ok")
        if steps[1:5] != ["apis", "discovery.k8s.io", "v1", "namespaces"] or steps[6:] != ["endpointslices"]:
            return self._answer(*faults.ANSWERS["404"])
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        verb = "watch" if query.get("watch") in {"1", "true"} else "list"
        api, namespace = self.server.api, steps[5]
        api.requests.append(Request(verb, namespace, query, {k.lower(): v for k, v in self.headers.items()}))
        kind = api.fault_of(verb)
        if kind is not None:
            return self._fail(kind)
        refusal = self._refusal(verb, namespace)
        if refusal is not None:
            return self._status(refusal)
        selector = query.get("labelSelector", "")
        assert selector.split("=")[0] == LABEL, selector
        service = selector.partition("=")[2] or None
        return self._watch(query, namespace, service) if verb == "watch" else self._list(query, namespace, service)

    def do_POST(self) -> None:
        """What the cluster itself does."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.api.put(body["service"], body["addresses"])
        self._answer(200, {}, b"")

    def _refusal(self, verb: str, namespace: str) -> dict[str, Any] | None:
        allowed = self.server.api.allowed
        if allowed is None:
            return None
        verbs = allowed.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if verbs is None:
            return UNAUTHORIZED
        return None if verb in verbs else forbidden(verb, namespace)

    def _list(self, query: dict[str, str], namespace: str, service: str | None) -> None:
        store, limit = self.server.api.store, int(query.get("limit", "0"))
        if "continue" in query:
            token = json.loads(base64.urlsafe_b64decode(query["continue"]))
            rest, version = store.kept(query["continue"]), token["rv"]
            if rest is None:
                return self._status(EXPIRED_PAGE)
        else:
            version, rest = store.listed(namespace, service)
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        page = rest[:limit] if limit else rest
        if len(page) < len(rest):
            start = {"v": "meta.k8s.io/v1", "rv": version, "start": f"{rest[len(page)]['metadata']['name']}\0"}
            meta["continue"] = base64.urlsafe_b64encode(json.dumps(start).encode()).decode()
            meta["remainingItemCount"] = len(rest) - len(page)
            store.keep(meta["continue"], rest[len(page) :])
        found = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": meta, "items": page}
        return self._json(200, found)

    def _watch(self, query: dict[str, str], namespace: str, service: str | None) -> None:
        api, store = self.server.api, self.server.api.store
        send = self._stream()
        version, end = int(query["resourceVersion"]), time.monotonic() + float(query.get("timeoutSeconds", "1800"))
        if version < store.oldest:
            send(faults.line({"type": "ERROR", "object": too_old(str(version), store.oldest)}))
            return send(b"")
        told = time.monotonic()
        while not api.stopping.is_set():
            with store.changed:
                newest, events = store.since(version, namespace, service)
                if not events and newest == version:
                    store.changed.wait(max(0.0, min(end - time.monotonic(), api.bookmark_every, 0.1)))
                    newest, events = store.since(version, namespace, service)
            for kind, one in events:
                send(faults.line(event(kind, one)))
            version = newest
            now = time.monotonic()
            if now - told >= api.bookmark_every and query.get("allowWatchBookmarks") == "true":
                told = now
                send(faults.bookmark_line(version))
            if now >= end:
                return send(b"")
            if not _is_open(self.connection):
                raise ConnectionAbortedError
        raise ConnectionAbortedError

    def _fail(self, kind: str) -> None:
        if kind in faults.ANSWERS:
            status, headers, body = faults.ANSWERS[kind]
            here = {"Location": self.server.api.url + self.path} if "Location" in headers else {}
            return self._answer(status, headers | here, body)
        if kind == "cut":
            self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{"kind')
        elif kind == "huge":
            return self._answer(200, {"Content-Type": faults.JSON}, b'{"metadata":{},"items":[' + b" " * 70_000_000)
        elif kind == "freeze":
            self._hang()
        elif kind != "drop":
            send = self._stream()
            if kind == faults.LINE_HUGE:
                for _ in range(50):
                    send(b'"' + b"x" * 1_000_000)
            elif kind == faults.SILENT:
                self._hang()
            else:
                send(faults.LINES[kind])
            return send(b"")
        raise ConnectionAbortedError

    def _hang(self) -> None:
        while not self.server.api.stopping.wait(0.02) and _is_open(self.connection):
            pass
        raise ConnectionAbortedError

    def _status(self, found: dict[str, Any]) -> None:
        self._json(found["code"], found)

    def _json(self, code: int, found: Any) -> None:
        self._answer(code, {"Content-Type": faults.JSON}, json.dumps(found, separators=(",", ":")).encode() + b"\n")

    def _answer(self, code: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(code)
        for name, value in {"Audit-Id": "0c7d8f0e", "Cache-Control": "no-cache, private"}.items() | headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> Callable[[bytes], None]:
        """Begin a chunked answer, at once; return what sends a chunk. An empty one ends it."""
        self.send_response(200)
        self.send_header("Content-Type", faults.JSON)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

        def send(chunk: bytes) -> None:
            self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")

        return send


def _is_open(connection: socket.socket) -> bool:
    """Whether the other side is still there: whoever watches says nothing until the end."""
    if isinstance(connection, ssl.SSLSocket):
        return True  # what ends a TLS connection shows when something is sent
    try:
        connection.setblocking(False)
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.setblocking(True)


def main() -> None:
    """Serve at the port that the command line names, until standard input ends."""
    with ApiServer(int(sys.argv[1])):
        sys.stdin.read()


if __name__ == "__main__":
    main()
