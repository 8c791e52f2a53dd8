"""An authority made for a test, certificates that it signs, and the files in which servers and clients find them."""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import trustme

from tests.servers.grpc_process import GrpcServer
from tests.servers.http_process import HttpServer


@dataclass(frozen=True)
class Pair:
    """A certificate in files: its key, its chain, and both in one, as Python's servers want them."""

    key: Path
    chain: Path
    both: Path


class Pki:
    """An authority and the files in its ``folder``. Attributes: ``ca``, the authority's own certificate."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.authority = trustme.CA()
        self.folder = folder
        self.roots = self.authority.cert_pem.bytes()
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(self.roots)

    def pair(self, name: str, *, file: str | None = None, expired: bool = False) -> Pair:
        """Return a new certificate for ``name`` in files called ``file``, those that were there before replaced."""
        now = dt.datetime.now(dt.UTC)
        days = dt.timedelta(days=1)
        dates: Any = {"not_before": now - 9 * days, "not_after": now - days} if expired else {}
        made = self.authority.issue_cert(name, **dates)
        key, chain = made.private_key_pem.bytes(), b"".join(blob.bytes() for blob in made.cert_chain_pems)
        stem = file or f"{name}{'-expired' if expired else ''}"
        pair = Pair(*(self.folder / f"{stem}.{kind}" for kind in ("key", "pem", "both")))
        for path, content in ((pair.key, key), (pair.chain, chain), (pair.both, key + chain)):
            path.write_bytes(content)
        return pair

    def grpc_server(self, pair: Pair, *, clients: Path | None = None, port: int = 0) -> GrpcServer:
        """Return a gRPC server with this certificate that asks for one of the authority in the file ``clients``."""
        asking = [] if clients is None else ["--client-ca", str(clients)]
        return GrpcServer(
            pair.key.stem, port=port, arguments=["--key", str(pair.key), "--cert", str(pair.chain), *asking]
        )

    def http_server(self, pair: Pair, *, clients: Path | None = None, port: int = 0) -> HttpServer:
        """Return an HTTP server with this certificate that asks for one of the authority in the file ``clients``."""
        asking = [] if clients is None else ["--client-ca", str(clients)]
        arguments = ["--certificate", str(pair.both), *asking]
        return HttpServer(pair.key.stem, listen=f"127.0.0.1:{port}", arguments=arguments)

    def credentials(self, pair: Pair | None = None) -> grpc.ChannelCredentials:
        """Return what a gRPC client needs that trusts this authority and shows this certificate."""
        if pair is None:
            return grpc.ssl_channel_credentials(self.roots)
        return grpc.ssl_channel_credentials(self.roots, pair.key.read_bytes(), pair.chain.read_bytes())

    def context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Return the same for a client of httpx."""
        context = ssl.create_default_context(cafile=self.ca)
        if pair is not None:
            context.load_cert_chain(pair.both)
        return context
