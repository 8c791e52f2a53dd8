"""What a mesh says and what its callers notice, for tests of registries that fail: they all have to be borne alike."""

from __future__ import annotations

import threading

import svcmesh


class Told(list[svcmesh.Event]):
    """The events of a mesh from now on."""

    def __init__(self, mesh):
        super().__init__()
        mesh.events.subscribe(self.append)

    def errors(self):
        """Return why discovery failed, each time."""
        return [event.error for event in self if event.name == "discovery.failed"]


class Calling:
    """Calls a service a hundred times a second, on a thread, until the end of the block.

    Args:
        service: is called. ports: an endpoint with any other one is wrong.

    Attributes:
        calls: how many there were. failed: what went wrong.
    """

    def __init__(self, service, *ports):
        self.calls = 0
        self.failed = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

        @service.guard
        def call(endpoint=svcmesh.PICKED):
            assert endpoint.port in ports

        self._call = call

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _run(self):
        while not self._over.wait(0.01):
            self.calls += 1
            try:
                self._call()
            except Exception as error:  # noqa: BLE001 - counted
                self.failed.append(error)
