"""How the control plane is spoken to on one stream: what is asked for, what is answered, and what it said.

Two ways of saying the same: the state of the world (`sotw`), in which each request has all names and each response may
have all resources, and the changes of it (`delta`). Both begin anew with each stream, without versions from before: the
control plane then sends everything once more, and nobody has to guess what it thinks is known.

Source: Envoy, "xDS REST and gRPC protocol".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from svcmesh.core.errors import DiscoveryError
from svcmesh.discovery.xds.kinds import Kind
from svcmesh.discovery.xds.resources import Decoded

if TYPE_CHECKING:
    from svcmesh._proto import svcmesh_xds_pb2 as wire

_LONGEST_REASON = 4096  # bytes of a refusal; some servers refuse large metadata, and nobody reads more
_INVALID_ARGUMENT = 3


@dataclass(frozen=True, slots=True)
class Said:
    """A response.

    Attributes:
        kind: of its resources; None: one that was never asked for. nonce, version: its marks.
        found: its resources. removed: names of those that do not exist (any more).
        whole: whether it has all there are, so that those that are missing do not exist.
    """

    kind: Kind | None
    nonce: str
    version: str
    found: tuple[Decoded, ...]
    removed: tuple[str, ...] = ()
    whole: bool = False

    def refusal(self) -> str:
        """Return why it is refused, though not all of it may be bad; "" if it is not."""
        told = [f"{one.name[:160]!r}: {one.why}" if one.name else one.why for one in self.found if one.why]
        times = Counter(one.name for one in self.found if one.name)
        told += [f"{name[:160]!r} stands {number} times in it" for name, number in times.items() if number > 1]
        shown = "; ".join(told).encode(errors="backslashreplace")  # half a letter may be what is wrong
        return shown[:_LONGEST_REASON].decode(errors="ignore")


class Dialect(ABC):
    """One way to speak on one stream."""

    @abstractmethod
    def ask(self, kind: Kind, names: Collection[str]) -> bytes | None:
        """Return what says that these are the names that are wanted; None if that has been said."""

    @abstractmethod
    def hear(self, content: bytes) -> Said:
        """Return what a response says.

        Raises:
            DiscoveryError: it is none.
        """

    @abstractmethod
    def answer(self, said: Said) -> bytes | None:
        """Return what accepts a response, or refuses it where there is a reason; None if nobody waits for that."""


def kind_of(type_url: str) -> Kind | None:
    """Return the kind of resources that a type means, if it is one that is asked for."""
    return next((kind for kind in Kind if kind.value == type_url), None)


def no_response(error: Exception) -> DiscoveryError:
    """Return the error for bytes that are no response."""
    return DiscoveryError(f"what came is no response of a discovery service: {error}")


def refused(detail: wire.Status, reason: str) -> None:
    """Write a reason down as an error."""
    detail.code = _INVALID_ARGUMENT
    detail.message = reason
