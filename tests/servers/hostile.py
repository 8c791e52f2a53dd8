"""A server on plain sockets that does bad things to whoever connects; the address says which, see `address_of`.

Before or instead of HTTP:

    garbage      bytes of no protocol          http1      an HTTP/1.1 answer        silent     nothing, ever
    hang-up      closes at once                reset      resets (RST) once something has come

After HTTP/2's preface, to each request:

    reset-late   resets the connection         half-close  ends its half of the connection, and reads on
    goaway-above, goaway-covered               says goodbye, the request above the last stream it has seen, or not
    cancel, refuse                             resets the stream (CANCEL, REFUSED_STREAM)
    html         200 with another content type     gateway     503 without anything of gRPC
    mute         a good answer without a status    torn        a message that ends before its length
    nonsense     a status that is no number        late        a good answer, a second late
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

WHAT = (
    *("garbage", "http1", "silent", "hang-up", "reset", "reset-late", "half-close", "goaway-above", "goaway-covered"),
    *("cancel", "refuse", "html", "gateway", "mute", "torn", "nonsense", "late"),
)
GRPC = [(":status", "200"), ("content-type", "application/grpc")]
EMPTY = b"\x00\x00\x00\x00\x00"
"""A message without a single field."""


def address_of(what: str, port: int) -> str:
    """Return where on the loopback network the server that listens on ``port`` does this."""
    return f"127.0.1.{WHAT.index(what) + 1}:{port}"


def reset(client: socket.socket) -> None:
    """Close so that the other side gets an RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def read_on(client: socket.socket) -> None:
    while client.recv(65536):
        pass


def before_http(what: str, client: socket.socket) -> bool:
    """Do what comes before HTTP; return whether that was it."""
    if what == "hang-up":
        return True
    if what == "reset":
        client.recv(65536)
        reset(client)
    elif what == "silent":
        read_on(client)
    elif what in {"garbage", "http1"}:
        client.recv(65536)
        text = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n"
        client.sendall(b"\x00\xffthis is not any protocol\r\n\r\n" * 20 if what == "garbage" else text)
        client.shutdown(socket.SHUT_WR)
        read_on(client)
    else:
        return False
    return True


def answer(what: str, client: socket.socket, connection: h2.connection.H2Connection, stream: int) -> None:
    """Answer a request."""
    if what == "reset-late":
        reset(client)
    elif what == "half-close":
        client.shutdown(socket.SHUT_WR)
    elif what in {"goaway-above", "goaway-covered"}:
        connection.close_connection(0, last_stream_id=stream if what == "goaway-covered" else 0)
        client.sendall(connection.data_to_send())
        client.shutdown(socket.SHUT_WR)
    elif what in {"cancel", "refuse"}:
        code = h2.errors.ErrorCodes.CANCEL if what == "cancel" else h2.errors.ErrorCodes.REFUSED_STREAM
        connection.reset_stream(stream, code)
    elif what == "gateway":
        connection.send_headers(stream, [(":status", "503"), ("content-length", "0")], end_stream=True)
    elif what == "html":
        connection.send_headers(stream, [(":status", "200"), ("content-type", "text/html")])
        connection.send_data(stream, b"<html>a login page</html>", end_stream=True)
    else:
        in_grpc(what, connection, stream)


def in_grpc(what: str, connection: h2.connection.H2Connection, stream: int) -> None:
    """Answer with something that begins as gRPC."""
    if what == "late":
        time.sleep(1)
    connection.send_headers(stream, GRPC)
    if what == "torn":
        connection.send_data(stream, b"\x00\x00\x00\x00\x64abc")
        connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    elif what == "mute":
        connection.send_data(stream, EMPTY, end_stream=True)
    else:
        connection.send_data(stream, EMPTY)
        connection.send_headers(stream, [("grpc-status", "zero" if what == "nonsense" else "0")], end_stream=True)


def talk(what: str, client: socket.socket) -> None:
    """Serve one connection."""
    with client, contextlib.suppress(OSError, h2.exceptions.ProtocolError):
        if before_http(what, client):
            return
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        client.sendall(connection.data_to_send())
        while data := client.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    answer(what, client, connection, event.stream_id)
            client.sendall(connection.data_to_send())


def serve() -> None:
    """Serve until standard input ends; print the port first."""

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            number = int(client.getsockname()[0].rpartition(".")[2])
            threading.Thread(target=talk, args=(WHAT[number - 1], client), daemon=True).start()

    with socket.create_server(("0.0.0.0", 0)) as listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        threading.Thread(target=accept, daemon=True).start()
        sys.stdin.buffer.read()


if __name__ == "__main__":
    serve()
