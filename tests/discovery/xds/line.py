"""A stream to a control plane whose other end is the test."""

from __future__ import annotations

import asyncio

from svcmesh.core.errors import DiscoveryError
from tests.servers.xds.wire import decode, encode, packed, text

PREFIX = "type.googleapis.com/"


class Line:
    """A stream whose other end is the test."""

    def __init__(self):
        self.written = []
        self.coming = asyncio.Queue()

    def write(self, message):
        self.written.append(message)

    async def read(self):
        message = await self.coming.get()
        if isinstance(message, DiscoveryError):
            raise message
        return message

    def abort(self, error):
        self.coming.put_nowait(error)

    def say(self, kind, *contents, version="1", nonce="n"):
        found = [packed(kind, content) for content in contents]
        self.coming.put_nowait(encode({1: version, 2: found, 4: PREFIX + kind, 5: nonce}))

    def asked(self, kind):
        """Return the names in each request for a kind."""
        requests = [one for one in map(decode, self.written) if text(one, 4) == PREFIX + kind]
        return [[name.decode() for name in one.get(3, [])] for one in requests]
