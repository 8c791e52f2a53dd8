"""What is left of somebody else's configuration when it is said in our words: fields of a `Policy`, and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Translated(NamedTuple):
    """Fields of a policy, made of a document of Envoy's or gRPC's.

    Attributes:
        fields: as `Snapshot.policy` takes them; empty where the document says nothing that we have.
        left_out: what it says besides, by the names that it has there: somebody believes that it is in force.
    """

    fields: Mapping[str, Any]
    left_out: tuple[str, ...] = ()
