"""Why a demo cannot be played."""

from __future__ import annotations


class DemoError(Exception):
    """The demo could not be played; the message says why."""
