"""What the tests of discovery share: a record of events, and a look at what a watch yields in virtual time."""

from __future__ import annotations

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
