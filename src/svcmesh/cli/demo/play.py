"""The run: servers up, calls on, one act after the other, and everything gone at the end, whatever the end."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from svcmesh.cli.demo.acts import GREETERS, ORDERS, Act
from svcmesh.cli.demo.fleet import Fleet, server_command
from svcmesh.cli.demo.interruption import Interruptible
from svcmesh.cli.demo.load import CALLERS, Load
from svcmesh.cli.demo.picture import Picture
from svcmesh.cli.demo.problem import DemoError
from svcmesh.cli.demo.record import EVENTS, Record, name_of
from svcmesh.cli.demo.registry import Source
from svcmesh.cli.demo.registry_process import RegistryProcess
from svcmesh.cli.demo.screen import Screen, screen_for
from svcmesh.cli.demo.stage import POLICY, SERVICES, ProcessStage
from svcmesh.cli.demo.summary import summary, verdict
from svcmesh.mesh import Mesh

READY = 90.0
"""Seconds that servers get to start and register, as long as all are alive: five interpreters that load gRPC
take a second on an idle machine, and half a minute on one where others do the same."""

PATIENCE = 10.0
"""Seconds after which whoever watches is told, again and again, who is still awaited."""

TICK = 0.2
"""Seconds between two looks at the run."""


@dataclass(frozen=True)
class Settings:
    """What one run is made of.

    Attributes:
        acts: what happens. picture: where the picture goes, or None for none. output: where the rest is shown.
        registry: the one that is used.
    """

    acts: Sequence[Act]
    picture: Path | None
    output: TextIO
    registry: Source = field(default_factory=Source)


def play(settings: Settings, signals: Interruptible) -> int:
    """Play the demo; return its exit status: 0, or 1 when a call failed or nothing could be called.

    Raises:
        DemoError: the servers could not be started, or the picture could not be written.
        Interrupted: it was told to end, and has cleaned up.
        OSError: the output could not be written.
    """
    with tempfile.TemporaryDirectory(prefix="svcmesh-demo-") as home:
        try:
            record = _perform(settings, Path(home), signals)
        finally:
            signals.hush()  # all that follows is cleaning up and writing down
        return _conclude(settings, record)


def _perform(settings: Settings, home: Path, signals: Interruptible) -> Record:
    say = settings.output
    with ExitStack() as stack:
        source, registry = settings.registry, None
        if source.program:
            registry = stack.enter_context(RegistryProcess(source, home))
            print(f"starting {source.program}, a registry for this demo alone", file=say, flush=True)
        uri = source.uri(home) if registry is None else registry.uri
        fleet = stack.enter_context(Fleet(home, server_command(uri, home)))
        mesh = stack.enter_context(Mesh(uri, policy=POLICY))
        stage = stack.enter_context(ProcessStage(fleet, mesh, registry))
        print(f"starting {', '.join((*GREETERS, *ORDERS))}, each in its own process", file=say, flush=True)
        stage.start(*GREETERS, *ORDERS)
        _wait_until_ready(stage, signals, say)
        record = Record(time.monotonic)
        _know_first(mesh, record)
        stack.enter_context(mesh.events.subscribe(record.hear, *EVENTS))
        load = Load(mesh, record)
        stack.callback(load.stop)
        stack.callback(signals.hush)  # run first: what the stack undoes must not be interrupted half-way
        load.start()
        with screen_for(say, record, sum(act.seconds for act in settings.acts)) as screen:
            for act in settings.acts:
                _play_act(act, stage, screen, mesh, record, signals)
        record.mark("end", "")
    return record


def _play_act(
    act: Act, stage: ProcessStage, screen: Screen, mesh: Mesh, record: Record, signals: Interruptible
) -> None:
    """Play one act, for its time; one in which servers start, until they are there, on a machine that is slow."""
    record.mark("act", act.title)
    screen.act(act)
    until = time.monotonic() + act.seconds
    act.begin(stage)
    while (left := until - time.monotonic()) > 0 or (stage.missing() and left > -READY):
        signals.heed()
        screen.refresh(status_of(mesh))
        time.sleep(min(TICK, left) if left > 0 else TICK)
    act.end(stage)


def _wait_until_ready(stage: ProcessStage, signals: Interruptible, say: TextIO) -> None:
    began = time.monotonic()
    told = PATIENCE
    while missing := stage.missing():
        signals.heed()
        waited, names = time.monotonic() - began, ", ".join(sorted(missing))
        if waited >= READY:
            raise DemoError(f"{names} did not register within {READY:g} s")
        if waited >= told:
            told += PATIENCE
            print(f"still waiting for {names} to register, since {waited:.0f} s", file=say, flush=True)
        time.sleep(0.05)


def _know_first(mesh: Mesh, record: Record) -> None:
    """Let the record know the servers that were there before it listened."""
    for service in SERVICES:
        for endpoint in mesh.service(service).endpoints:
            record.addresses[name_of(endpoint)] = (service, endpoint.address)


def status_of(mesh: Mesh) -> dict[str, str]:
    """Return how each server is that discovery offers: ``up``, or why it takes no calls."""
    found: dict[str, str] = {}
    state = mesh.state()["services"]
    for service in SERVICES:
        known = {endpoint["address"]: endpoint for endpoint in state[service]["endpoints"]}
        for endpoint in mesh.service(service).endpoints:
            now = known.get(endpoint.address, {})
            word = "up"
            if now.get("ejected"):
                word = "ejected"
            elif "open" in now.get("breakers", ()):
                word = "breaker open"
            found[name_of(endpoint)] = word
    return found


def _conclude(settings: Settings, record: Record) -> int:
    say = settings.output
    length = next((mark.at for mark in record.marks if mark.kind == "end"), record.elapsed())
    print(file=say)
    for line in summary(record):
        print(line, file=say)
    if settings.picture is not None:
        _draw(settings.picture, Picture(record, length))
        print(f"picture of the run: {settings.picture}", file=say)
    problems = verdict(record, CALLERS)
    for line in problems or [f"all {len(record.calls):,} calls succeeded"]:
        print(line, file=say)
    say.flush()
    return 1 if problems else 0


def _draw(path: Path, picture: Picture) -> None:
    try:
        path.write_bytes(picture.encoded())
    except OSError as error:
        raise DemoError(f"--picture {path}: it cannot be written: {error.strerror}") from error
