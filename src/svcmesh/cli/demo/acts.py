"""The acts: what is done to the servers, in which order, for how long. The script of the demo, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

GREETERS = ("greeter-1", "greeter-2", "greeter-3")
ORDERS = ("orders-1", "orders-2")
JOINING = "new ones join"


class Stage(Protocol):
    """What an act can do to a server, named by its instance."""

    def start(self, *names: str) -> None:
        """Start servers; they register by themselves."""

    def kill(self, *names: str) -> None:
        """End them with SIGKILL: nothing says goodbye."""

    def freeze(self, *names: str) -> None:
        """Stop them with SIGSTOP: connections stay open, and nothing answers."""

    def thaw(self, *names: str) -> None:
        """Let them run on with SIGCONT."""

    def disturb(self, name: str) -> None:
        """Delay each attempt at it by 200 ms, and abort 30 % of them."""

    def calm(self) -> None:
        """End all disturbances."""

    def kill_registry(self) -> None:
        """End the registry with SIGKILL."""

    def start_registry(self) -> None:
        """Start it again, with what it has kept."""


def _nothing(_: Stage) -> None:
    """Leave everything as it is."""


@dataclass(frozen=True)
class Act:
    """One act.

    Attributes:
        title: a few words for the picture. story: a sentence for who watches.
        seconds: how long it lasts. begin: what is done at its beginning. end: and at its end.
    """

    title: str
    story: str
    seconds: float
    begin: Callable[[Stage], None] = _nothing
    end: Callable[[Stage], None] = _nothing


ACTS: tuple[Act, ...] = (
    Act("steady", "three Greeters (gRPC) and two order services (HTTP) share the calls", 6),
    Act(
        "SIGKILL",
        "greeter-1 and orders-1 are killed with SIGKILL",
        6,
        begin=lambda stage: stage.kill("greeter-1", "orders-1"),
    ),
    Act(
        "SIGSTOP",
        "greeter-2 is frozen with SIGSTOP: connections stay open, nothing answers",
        6,
        begin=lambda stage: stage.freeze("greeter-2"),
    ),
    Act("SIGCONT", "greeter-2 thaws with SIGCONT", 4, begin=lambda stage: stage.thaw("greeter-2")),
    Act(
        JOINING,
        "greeter-4 and orders-3 start and register",
        6,
        begin=lambda stage: stage.start("greeter-4", "orders-3"),
    ),
    Act(
        "30 % aborts, 200 ms delays",
        "every attempt at greeter-3 is delayed by 200 ms, and 30 % are aborted",
        7,
        begin=lambda stage: stage.disturb("greeter-3"),
        end=lambda stage: stage.calm(),
    ),
)
"""What `svcmesh demo` plays. At any time one server of each kind is well, so every call can be answered."""

REGISTRY_DIES = Act(
    "registry killed",
    "the registry is killed with SIGKILL, and starts again at the end of the act; the calls go on",
    5,
    begin=lambda stage: stage.kill_registry(),
    end=lambda stage: stage.start_registry(),
)
"""What happens besides where the registry is the demo's own. Who joins in the act after it, does so by the new one."""


def acts_for(*, own_registry: bool) -> tuple[Act, ...]:
    """Return what is played."""
    before = [act.title for act in ACTS].index(JOINING)
    return (*ACTS[:before], REGISTRY_DIES, *ACTS[before:]) if own_registry else ACTS


def lasting(acts: Sequence[Act], seconds: float) -> tuple[Act, ...]:
    """Return the same acts, stretched or shortened alike so that they last ``seconds`` in all."""
    factor = seconds / sum(act.seconds for act in acts)
    return tuple(replace(act, seconds=act.seconds * factor) for act in acts)
