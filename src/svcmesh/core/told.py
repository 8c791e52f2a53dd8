"""What an event says of an error: ours as it reads, a stranger's with its class, and neither without end."""

from __future__ import annotations

from svcmesh.core.errors import SvcmeshError

LONGEST = 2000
"""Characters that are shown: events are kept, and a stranger may put a whole answer into the text of an error."""


def told(error: BaseException) -> str:
    """Return ``error`` as a line for people."""
    text = str(error) if isinstance(error, SvcmeshError) else f"{type(error).__name__}: {error}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
