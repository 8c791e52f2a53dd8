"""`svcmesh demo` on the command line: its options, and what its exit status means."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path

from svcmesh.cli.demo.interruption import Interrupted, Interruptible

NAME = "demo"
HELP = "play real servers being killed, frozen and disturbed while a client calls them"
DESCRIPTION = """\
Starts three Greeter servers (gRPC) and two order services (HTTP), each in a process of its own. They register
themselves in an embedded registry made for the demo, and a client finds them there by name and calls them some three
hundred times a second: by gRPC and by HTTP, blocking and asyncio, and by a decorated function. Meanwhile servers are
killed (SIGKILL), frozen (SIGSTOP), thawed, joined by new ones, and disturbed by injected aborts and delays. With
--registry consul or etcd they find each other there; one that the demo has started is killed as well.

All calls are idempotent, so none of them has to fail. The exit status is 0 when none did, 1 when one did, 2 when the
demo could not be played, 128 and its number when a signal ended it, 70 after a traceback. It leaves no process, and no
file but the picture of the run; when it is killed itself, its servers notice, and are gone within 10 s.
"""

SECONDS = 35.0
SHORTEST, LONGEST = 5.0, 600.0


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to a parser."""
    parser = commands.add_parser(
        NAME, help=HELP, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=SECONDS,
        metavar="N",
        help=f"how long all acts take together, from {SHORTEST:g} to {LONGEST:g} (default: %(default)g)",
    )
    parser.add_argument(
        "--picture",
        type=_picture,
        default=Path("svcmesh-demo.svg"),
        metavar="PATH",
        help="where the picture of the run goes, an SVG file (default: %(default)s)",
    )
    parser.add_argument(
        "--registry",
        default="local",
        metavar="WHICH",
        help="local: an embedded one; consul or etcd: the one that CONSUL_HTTP_ADDR or ETCDCTL_ENDPOINTS names, else "
        "one that the demo starts, and kills in an act; or the URI of one that runs (default: %(default)s)",
    )
    parser.add_argument(
        "--registry-binary",
        metavar="PROGRAM",
        help="the Consul or etcd to start (default: what PATH has)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Play the demo as the options say; return the exit status."""
    problem = _unwritable(options.picture)
    if problem is not None:
        print(f"svcmesh demo: --picture {options.picture}: {problem}", file=sys.stderr)
        return 2
    try:
        with Interruptible() as signals:
            return _play(options, signals)
    except Interrupted as interrupted:
        print("svcmesh demo: interrupted; all servers have been ended", file=sys.stderr)
        return interrupted.status
    except ModuleNotFoundError as error:
        print(f"svcmesh demo: it needs {error.name}, which is not installed here", file=sys.stderr)
        return 2


def _play(options: argparse.Namespace, signals: Interruptible) -> int:
    from svcmesh.cli.demo.acts import acts_for, lasting
    from svcmesh.cli.demo.play import Settings, play
    from svcmesh.cli.demo.problem import DemoError
    from svcmesh.cli.demo.registry import source_for

    signals.heed()  # the imports take seconds on a busy machine, and some of what they run loses exceptions
    try:
        registry = source_for(options.registry, options.registry_binary, os.environ)
        acts = lasting(acts_for(own_registry=bool(registry.program)), options.seconds)
        return play(Settings(acts, options.picture, sys.stdout, registry), signals)
    except (DemoError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"svcmesh demo: {error}", file=sys.stderr)
        return 2


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not SHORTEST <= value <= LONGEST:
        raise argparse.ArgumentTypeError(f"must be a number from {SHORTEST:g} to {LONGEST:g}, not {text!r}")
    return value


def _picture(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("must name a file, not ''")
    return Path(text)


def _unwritable(path: Path) -> str | None:
    """Say why a picture could not be written there, before the play is spent on it; what permits say is no proof."""
    directory = path.parent
    try:
        if path.is_dir():
            return "this is a directory; name a file in it"
        if not directory.is_dir():
            return f"there is no directory {directory}"
        existed = path.exists()
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666))
        if not existed:
            path.resolve().unlink()
    except OSError as error:
        return f"it cannot be written: {error.strerror}"
    return None
