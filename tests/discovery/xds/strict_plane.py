"""A control plane on a `Line` that keeps to the letter of the protocol, in both dialects; for tests in virtual time.

It sends what changes to who has asked for it and nothing twice, and drops what is said under an old nonce. So a client
that loses count of what it has asked for, answered or forgotten ends with another world than the plane's.
"""

from __future__ import annotations

from tests.discovery.xds.line import PREFIX, Line
from tests.servers.xds.resources import CLUSTER, KINDS, LISTENER
from tests.servers.xds.wire import decode, encode, text

WHOLE = (LISTENER, CLUSTER)


class StrictPlane(Line):
    """One stream. ``world``: what there is, by kind and name; ``named``: what the client asks for, by kind."""

    def __init__(self, world, *, delta):
        super().__init__()
        self._world = world
        self._delta = delta
        self.named = dict.fromkeys(KINDS, frozenset())
        self._nonces = dict.fromkeys(KINDS, "")
        self._sent = 0

    def write(self, message):
        request = decode(message)
        (self._heed_changes if self._delta else self._heed_names)(request)

    def changed(self, kind, name):
        """Send what has changed, or is gone, if the client wants to know."""
        named = self.named[kind]
        if name in named:
            self._send(kind, named if kind in WHOLE and not self._delta else {name})

    def _heed_names(self, request):
        kind, names = text(request, 4).removeprefix(PREFIX), _texts(request, 3)
        if text(request, 5) != self._nonces[kind]:
            return
        new, self.named[kind] = names - self.named[kind], names
        if new:
            self._send(kind, names)

    def _heed_changes(self, request):
        kind, new = text(request, 2).removeprefix(PREFIX), _texts(request, 3)
        self.named[kind] = self.named[kind] - _texts(request, 4) | new
        if new:
            self._send(kind, new)

    def _send(self, kind, names):
        self._sent += 1
        nonce = self._nonces[kind] = str(self._sent)
        there = [(name, self._world[kind][name]) for name in sorted(names) if name in self._world[kind]]
        found = [{1: PREFIX + kind, 2: content} for _, content in there]
        if self._delta:
            gone = sorted(set(names) - self._world[kind].keys())
            found = [{1: nonce, 2: one, 3: name} for (name, _), one in zip(there, found, strict=True)]
            self.coming.put_nowait(encode({1: nonce, 2: found, 4: PREFIX + kind, 5: nonce, 6: gone}))
        else:
            self.coming.put_nowait(encode({1: nonce, 2: found, 4: PREFIX + kind, 5: nonce}))


def _texts(message, number):
    return frozenset(one.decode() for one in message.get(number, []))
