"""A resource that cannot be taken: it is refused with a reason, and what was known of it stays."""

from __future__ import annotations


class Invalid(ValueError):
    """Why a resource cannot be used, in words that go to the control plane."""
