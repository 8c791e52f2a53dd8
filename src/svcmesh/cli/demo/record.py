"""What happened during the demo, as plain lists: every view of it is computed from these, now or at the end.

A few hundred calls a second for half a minute are some ten thousand entries, so nothing is thrown away or summed up
beforehand, and the table, the summary and the picture cannot contradict each other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

from svcmesh.core.endpoint import Endpoint
from svcmesh.core.info import CallInfo, info
from svcmesh.observe.events import (
    AttemptFinished,
    EndpointEjected,
    EndpointRestored,
    EndpointsChanged,
    Event,
    FaultInjectedEvent,
    RetryScheduled,
)

INSTANCE = "instance"
"""The key of an endpoint's metadata under which a server of the demo says its name."""

EVENTS = ("attempt.finished", "endpoint.*", "endpoints.changed", "retry.scheduled", "fault.injected")
"""What `Record.hear` wants to hear."""


@dataclass(frozen=True, slots=True)
class CallDone:
    """One logical call as its caller saw it: ended at ``at``, after ``seconds``; ``error`` is None for a success."""

    at: float
    protocol: str
    seconds: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptDone:
    """One physical try, at the instance of that name."""

    at: float
    service: str
    instance: str
    seconds: float
    ok: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """Something worth a mark in the picture: an act that began, an ejection, a server that joined."""

    at: float
    kind: str
    text: str


Timed = TypeVar("Timed", CallDone, AttemptDone, Mark)


class Record:
    """What happened since ``began``. All instants are seconds after that.

    Threads: any may add, since all that is done is to append to lists, which is atomic; readers copy. Entries are in
    the order of their ends, to within microseconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.began = now()
        self.calls: list[CallDone] = []
        self.attempts: list[AttemptDone] = []
        self.marks: list[Mark] = []
        self._retries: list[float] = []
        self._faults: list[float] = []
        self.addresses: dict[str, tuple[str, str]] = {}

    def elapsed(self) -> float:
        """Return the seconds since it began."""
        return self._now() - self.began

    def succeeded(self, protocol: str, seconds: float) -> None:
        """Remember a call that ended well just now."""
        self.calls.append(CallDone(self.elapsed(), protocol, seconds))

    def failed(self, protocol: str, seconds: float, error: BaseException) -> None:
        """Remember a call that failed just now, and what is known of it."""
        self.calls.append(CallDone(self.elapsed(), protocol, seconds, describe_failure(error)))

    def mark(self, kind: str, text: str) -> None:
        """Remember that something began or happened just now."""
        self.marks.append(Mark(self.elapsed(), kind, text))

    def hear(self, event: Event) -> None:
        """Take an event of the mesh: a listener for `Events.subscribe`."""
        at = event.time - self.began
        match event:
            case AttemptFinished():
                ok = event.outcome == "success"
                self.attempts.append(AttemptDone(at, event.service, name_of(event.endpoint), event.seconds, ok))
            case RetryScheduled():
                self._retries.append(at)
            case FaultInjectedEvent():
                self._faults.append(at)
            case EndpointEjected():
                self.marks.append(Mark(at, "ejected", name_of(event.endpoint)))
            case EndpointRestored():
                self.marks.append(Mark(at, "restored", name_of(event.endpoint)))
            case EndpointsChanged():
                self._changed(at, event)
            case _:
                pass  # subscribed to by a wider pattern than is shown

    def _changed(self, at: float, event: EndpointsChanged) -> None:
        for endpoint in event.added:
            self.addresses[name_of(endpoint)] = (event.service, endpoint.address)
            self.marks.append(Mark(at, "joined", name_of(endpoint)))
        self.marks += [Mark(at, "left", name_of(endpoint)) for endpoint in event.removed]

    @property
    def retries(self) -> int:
        """How many attempts were followed by another one."""
        return len(self._retries)

    @property
    def faults(self) -> int:
        """How many faults were injected, delays and aborts."""
        return len(self._faults)

    @property
    def ejections(self) -> Counter[str]:
        """How often each server was ejected."""
        return Counter(mark.text for mark in list(self.marks) if mark.kind == "ejected")

    @property
    def failures(self) -> list[CallDone]:
        """The calls that failed."""
        return [call for call in list(self.calls) if call.error is not None]


def name_of(endpoint: Endpoint) -> str:
    """Return what a server calls itself; its address where it does not say."""
    return str(endpoint.metadata.get(INSTANCE, endpoint.address))


def since(entries: Sequence[Timed], instant: float) -> list[Timed]:
    """Return the entries from ``instant`` on, without looking at all those before."""
    return list(entries[bisect_left(entries, instant, key=attrgetter("at")) :])


def describe_failure(error: BaseException) -> str:
    """Return an error in one line, with what svcmesh knows of its call."""
    text = " ".join(str(error).split()) or "no message"
    found = info(error)
    return f"{type(error).__name__}: {text}{'' if found is None else f' [{_story(found)}]'}"


def _story(found: CallInfo) -> str:
    tried = ", ".join(name_of(endpoint) for endpoint in found.endpoints) or "nobody"
    why = f", {found.reason}" if found.reason else ""
    return f"{found.attempts} attempts in {found.elapsed:.2f} s, asked {tried}{why}"
