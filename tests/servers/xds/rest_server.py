"""A control plane of the REST form, on a thread of the test: plain resources by kind and name, and what went wrong."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KINDS = {
    "/v3/discovery:listeners": "envoy.config.listener.v3.Listener",
    "/v3/discovery:routes": "envoy.config.route.v3.RouteConfiguration",
    "/v3/discovery:clusters": "envoy.config.cluster.v3.Cluster",
    "/v3/discovery:endpoints": "envoy.config.endpoint.v3.ClusterLoadAssignment",
}


class RestPlane:
    """One server.

    Attributes:
        requests: all that it was asked, in order, with the ``kind`` and the ``status`` that it answered.
        fault: what it answers instead: a status, or a body; None: as it should.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.fault: int | bytes | None = None
        self.kind_of_answer = "application/json"
        self._served: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in KINDS.values()}
        self._version = 1
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._server.server_port}"

    def put(self, kind: str, name: str, fields: dict[str, Any] | None) -> None:
        """Serve a resource of a kind; None: serve it no more."""
        if fields is None:
            self._served[kind].pop(name, None)
        else:
            self._served[kind][name] = {"@type": f"type.googleapis.com/{kind}"} | fields
        self._version += 1

    def answer(self, kind: str, asked: dict[str, Any]) -> tuple[int, bytes]:
        """Return status and body of an answer."""
        if isinstance(self.fault, int):
            return self.fault, b"as the test wants it"
        if self.fault is not None:
            return 200, self.fault
        if asked.get("version_info") == str(self._version):
            return 304, b""
        names = asked.get("resource_names", [])
        found = [one for name, one in self._served[kind].items() if not names or name in names]
        return 200, json.dumps({"version_info": str(self._version), "resources": found}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        plane = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kind = KINDS[self.path]
                asked = json.loads(body)
                status, answer = plane.answer(kind, asked)
                plane.requests.append(asked | {"kind": kind, "status": status})
                self.send_response(status)
                self.send_header("Content-Type", plane.kind_of_answer)
                self.send_header("Content-Length", str(len(answer)))
                with suppress(ConnectionError):  # a mesh that was closed meanwhile
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler

    def __enter__(self) -> Self:
        """Start it."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
