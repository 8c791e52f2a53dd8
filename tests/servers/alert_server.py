"""A TLS server that asks clients for a certificate, and tells those whom it turns away why, as OpenSSL's servers do.

asyncio's servers hang up without a word. This one has one blocking thread for each connection; it answers any request
with 200 and ``ok``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import ssl
import sys
import threading

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def talk(client: socket.socket, context: ssl.SSLContext) -> None:
    """Shake hands and answer requests, or let the client know why not."""
    with client, contextlib.suppress(OSError):
        client.settimeout(10)
        try:
            encrypted = context.wrap_socket(client, server_side=True)
        except ssl.SSLError:
            with contextlib.suppress(OSError):  # the alert is out; closing with unread bytes would overtake it
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
            return
        with encrypted:
            while encrypted.recv(65536):
                encrypted.sendall(ANSWER)


def serve(listen: str, certificate: str, client_ca: str) -> None:
    """Serve until standard input ends; print the port first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=talk, args=(client, context), daemon=True).start()

    host, _, port = listen.rpartition(":")
    with socket.create_server((host, int(port))) as listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        threading.Thread(target=accept, daemon=True).start()
        sys.stdin.buffer.read()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name")
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--client-ca", required=True)
    given = parser.parse_args()
    serve(given.listen, given.certificate, given.client_ca)
