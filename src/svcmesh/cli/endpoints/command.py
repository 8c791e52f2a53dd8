"""The options of `svcmesh resolve` and `svcmesh watch`; what they do is loaded when it is done."""

from __future__ import annotations

import argparse
import math

RESOLVE = """\
Asks a registry once for the endpoints of a service, and shows them as it lists them, unhealthy ones included:
svcmesh resolve dns:///orders.example.org:8080, svcmesh resolve consul://127.0.0.1:8500 orders.

The exit status is 0 when there are endpoints, 1 when there are none, 2 when the command line is wrong, 3 when the
registry cannot be asked.
"""
WATCH = """\
Follows a service as a program would, and prints its endpoints and then each change as it comes, until interrupted:
added (+), removed (-), changed (~), that the registry fails (!) and that it answers again (=). An empty answer after a
good one is shown when it is believed.
"""
URI = "where to ask, as in svcmesh.Mesh(discovery=…): consul://, dns:///name:port, file:///path, local://, …"
TIMEOUT = 5.0


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both subcommands to a parser."""
    formatted = argparse.RawDescriptionHelpFormatter
    resolve = commands.add_parser(
        "resolve", help="show the endpoints of a service", description=RESOLVE, formatter_class=formatted
    )
    watch = commands.add_parser(
        "watch", help="show the endpoints of a service as they change", description=WATCH, formatter_class=formatted
    )
    for parser, run in ((resolve, _resolve), (watch, _watch)):
        parser.add_argument("uri", metavar="URI", help=URI)
        parser.add_argument("service", metavar="SERVICE", nargs="?", help="its name, where the URI does not say it")
        parser.add_argument("--json", action="store_true", help="a line of JSON for each endpoint, or change")
        parser.set_defaults(run=run)
    resolve.add_argument(
        "--timeout", type=_seconds, default=TIMEOUT, metavar="N", help="seconds to wait (default: %(default)g)"
    )


def _resolve(options: argparse.Namespace) -> int:
    from svcmesh.cli.endpoints import resolve

    return resolve.run(options)


def _watch(options: argparse.Namespace) -> int:
    from svcmesh.cli.endpoints import watch

    return watch.run(options)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value <= 3600.0:
        raise argparse.ArgumentTypeError(f"must be a number of seconds up to 3600, not {text!r}")
    return value
