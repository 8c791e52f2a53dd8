"""What the tests of discovery share: a record of events, and a look at what a watch yields in virtual time."""

from __future__ import annotations

import logging

import pytest


class Emitted(list[tuple[str, str, dict[str, object]]]):
    """An `Emit` that remembers."""

    def __call__(self, name, service, **fields):
        self.append((name, service, fields))

    def errors(self):
        """Return the ``error`` of every event."""
        return [str(fields["error"]) for _, _, fields in self]


@pytest.fixture
def emitted():
    return Emitted()


@pytest.fixture
def said(caplog, request):
    """Collect everything that is said anywhere; at the end nothing of the module's ``SECRETS`` may be in it."""
    caplog.set_level(logging.DEBUG)
    texts = []
    yield texts
    everything = "\n".join([*texts, caplog.text, *map(repr, caplog.records)])
    assert "127.0.0.1" in everything, "something was said at all"
    for secret in request.module.SECRETS:
        assert secret not in everything
