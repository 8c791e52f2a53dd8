"""An application behind the deadline middleware, ASGI and WSGI, that tells how long its caller still waits.

``/`` answers at once; ``/stream`` in parts, each saying what is left when it is made; ``/file`` with a file;
``/onward?to=…`` asks another server through svcmesh and returns what that one said.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import sys
import threading
import time
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer, make_server

import svcmesh
from svcmesh.http import ASGIMiddleware, WSGIMiddleware

ServerHandler.http_version = "1.1"


def left() -> bytes:
    return json.dumps(svcmesh.remaining()).encode() + b"\n"


def onward(query: str) -> bytes:
    """Ask the server ``to``, without naming a timeout."""
    with svcmesh.Mesh({"next": parse_qs(query)["to"]}) as mesh, mesh.service("next").http_client() as client:
        return client.get("/").content


lifespan: list[str] = []


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while not lifespan or lifespan[-1] != "lifespan.shutdown":
            assert svcmesh.remaining() is None
            lifespan.append((await receive())["type"])
            await send({"type": f"{lifespan[-1]}.complete"})
        print("shut down", flush=True)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/stream":
        for _ in range(3):
            await send({"type": "http.response.body", "body": left(), "more_body": True})
            await asyncio.sleep(0.02)
    elif scope["path"] == "/lifespan":
        await send({"type": "http.response.body", "body": json.dumps(lifespan).encode()})
        return
    elif scope["path"] == "/onward":
        await send(
            {"type": "http.response.body", "body": await asyncio.to_thread(onward, scope["query_string"].decode())}
        )
        return
    await send({"type": "http.response.body", "body": left()})


def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/stream":
        return parts()
    if environ["PATH_INFO"] == "/file":
        answer: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(left()))
        return answer
    return [onward(environ["QUERY_STRING"]) if environ["PATH_INFO"] == "/onward" else left()]


def parts() -> Iterable[bytes]:
    try:
        for _ in range(3):
            yield left()
            time.sleep(0.02)
        yield left()
    finally:
        print("closed", file=sys.stderr, flush=True)


class Threading(ThreadingMixIn, WSGIServer):
    """A thread for each request: one of them may ask this server for something."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """Writes no line for each request."""

    def log_message(self, *_: object) -> None:
        return


def serve_asgi() -> None:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(ASGIMiddleware(asgi), port=0, log_level="error", lifespan="on"))
    threading.Thread(target=announce_and_wait, args=(server,), daemon=True).start()
    server.run()


def announce_and_wait(server: Any) -> None:
    while not server.started:
        time.sleep(0.01)
    print(json.dumps({"port": server.servers[0].sockets[0].getsockname()[1]}), flush=True)
    sys.stdin.buffer.read()
    server.should_exit = True


def serve_wsgi() -> None:
    with make_server("127.0.0.1", 0, WSGIMiddleware(wsgi), Threading, Quiet) as server:
        print(json.dumps({"port": server.server_port}), flush=True)
        threading.Thread(target=lambda: (sys.stdin.buffer.read(), server.shutdown()), daemon=True).start()
        server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name")
    parser.add_argument("--listen")
    {"asgi": serve_asgi, "wsgi": serve_wsgi}[str(parser.parse_args().name)]()
