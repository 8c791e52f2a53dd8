"""TLS credentials of gRPC channels whose files are replaced while the program runs.

grpcio takes certificates as bytes, once, when a channel is made; the file watcher of its core cannot be reached from
Python. But a mesh channel is made of channels to single endpoints, and those can be replaced one by one under running
calls: a stock channel that is let go of ends when its last call does. So the files are looked at from time to time, and
when they have changed, the next call to each endpoint gets a channel with the new ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from typing import Any

import grpc

from svcmesh.core.checks import duration
from svcmesh.engine.cluster import Cluster
from svcmesh.transport.tls_files import TlsFiles


class RotatingCredentials(grpc.ChannelCredentials):
    """Channel credentials from files; see `rotating_credentials`.

    A stock channel, and ``grpc.composite_channel_credentials``, take what the files held when these were made.
    """

    def __init__(self, files: TlsFiles, call_credentials: grpc.CallCredentials | None, every: float) -> None:
        self.files = files
        self.every = every
        self._call_credentials = call_credentials
        made: Any = self.made()
        super().__init__(made._credentials)  # noqa: SLF001 - the one attribute by which gRPC tells and uses them

    def made(self) -> grpc.ChannelCredentials:
        """Return stock credentials of what the files held when they were last looked at."""
        pem = self.files.pem
        found = grpc.ssl_channel_credentials(pem.root, pem.key, pem.chain)
        if self._call_credentials is None:
            return found
        return grpc.composite_channel_credentials(found, self._call_credentials)


def rotating_credentials(
    root: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    chain: str | os.PathLike[str] | None = None,
    *,
    call_credentials: grpc.CallCredentials | None = None,
    every: float = 1.0,
) -> grpc.ChannelCredentials:
    """Return credentials for `Service.grpc_channel` and `Service.grpc_aio_channel` that follow their files.

    When a file changes, calls that are made from then on use new connections with what it holds now; calls that are
    running end on the old ones. Files that do not fit together (a new key beside an old certificate) are left out, with
    the event ``config.warning``, until they do; ``config.reloaded`` tells when new ones are in force.

    Args:
        root: PEM file of the authorities that servers are verified by; None: gRPC's default.
        key: PEM file of the client's private key. chain: PEM file of its certificate chain. Both or neither.
        call_credentials: sent with each call, as by ``grpc.composite_channel_credentials``.
        every: seconds between two looks at the files while a channel has connections; default 1.

    Raises:
        ConfigError: a file that cannot be read, or does not fit the others.

    Threads: any. Cost: three small files are read on the mesh's worker at each look; nothing is added to calls.
    """
    return RotatingCredentials(TlsFiles(root, key, chain), call_credentials, duration("every", every))


class Rotation:
    """Looks at the files of one mesh channel, from its first connection on until the channel is closed or gone.

    Args:
        replace: puts all channels to endpoints aside if its first argument says so, the second being the time;
            returns False when nobody needs any more. It must not keep the mesh channel alive: the worker refers to it.
    """

    def __init__(
        self, credentials: RotatingCredentials, cluster: Cluster, replace: Callable[[bool, float], bool]
    ) -> None:
        self._credentials = credentials
        self._cluster = cluster
        self._replace = replace
        self._lock = Lock()
        self._process = 0
        self._seen = credentials.files.version
        self._told: str | None = None

    def start(self) -> None:
        """Look from now on; once is enough, and once more in a forked child, whose parent's timers are not its own."""
        with self._lock:
            if self._process == os.getpid():
                return
            self._process = os.getpid()
        self._again()

    def _again(self) -> None:
        runtime = self._cluster.runtime
        runtime.call_at(runtime.clock.now() + self._credentials.every, self._look)

    def _look(self) -> None:
        files, emit = self._credentials.files, self._cluster.runtime.events.emit
        files.refresh()
        if files.error is not None and files.error != self._told:
            emit("config.warning", self._cluster.name, error=files.error)
        self._told = files.error
        changed = files.version != self._seen
        self._seen = files.version
        if not self._replace(changed, self._cluster.runtime.clock.now()):
            return
        if changed:
            emit("config.reloaded", self._cluster.name, source=str(files))
        self._again()
