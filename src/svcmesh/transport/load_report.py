"""Load reports as they come on the wire: in a header of an HTTP answer, in the trailing metadata of a gRPC call.

There are two spellings. gRPC's own, ``endpoint-load-metrics-bin``, holds protobuf's bytes; but grpcio keeps that one to
balancers of its own and shows it to no program (its core publishes no such metadata), so on gRPC it is read only in
case that ever changes. ``endpoint-load-metrics`` is Envoy's: a word for the form, and text, JSON or base64.

A report is a hint. One that cannot be read is passed over, as by Envoy and gRPC: the call that brought it went well.

Source: gRFC A51; Envoy, orca_parser.cc, whose spellings these are.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from svcmesh._proto.svcmesh_orca_pb2 import LoadReport as Message
from svcmesh.balance.load_report import LoadReport

HEADER = "endpoint-load-metrics"
BINARY = "endpoint-load-metrics-bin"

_FIELDS = ("rps_fractional", "eps", "application_utilization", "cpu_utilization", "mem_utilization")
_MAPS = ("named_metrics", "utilization", "request_cost")
_SEPARATOR = re.compile("[=:]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def of_metadata(metadata: Iterable[tuple[str, Any]]) -> LoadReport | None:
    """Return the report in the trailing metadata of a gRPC call; None where there is none that can be read."""
    found = {name: value for name, value in metadata if name in (BINARY, HEADER)}
    return of_bytes(found[BINARY]) if BINARY in found else _of_form(found.get(HEADER, ""))


def of_headers(headers: Mapping[str, str]) -> LoadReport | None:
    """Return the report in the headers of an HTTP answer; None where there is none that can be read.

    The binary header, gRPC's, goes first.
    """
    binary = headers.get(BINARY)
    if binary is not None:
        return _of_base64(binary)
    return _of_form(headers.get(HEADER, ""))


def of_bytes(data: bytes) -> LoadReport | None:
    """Return the report that these bytes are, as protobuf writes it; None where they are none."""
    message = Message()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return None
    return _of_message(message)


def _of_form(value: str) -> LoadReport | None:
    form, _, text = value.partition(" ")
    read = _FORMS.get(form)
    return None if read is None else read(text)


def _of_base64(text: str) -> LoadReport | None:
    try:
        return of_bytes(binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True))
    except ValueError:
        return None


def _of_json(text: str) -> LoadReport | None:
    if not text.lstrip().startswith("{"):
        return None  # the parser takes a text for a message without fields
    message = Message()
    try:
        json_format.Parse(text, message, ignore_unknown_fields=True)
    except (json_format.ParseError, RecursionError):
        return None
    return _of_message(message)


def _of_text(text: str) -> LoadReport | None:
    """Read ``name=number`` or ``name:number``, with commas between; a name that is unknown or comes twice spoils it."""
    fields: dict[str, float] = {}
    metrics: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, *number = _SEPARATOR.split(part, maxsplit=1)
        kind, _, key = name.partition(".")
        found = fields if name in _FIELDS else metrics if kind in _MAPS and key else None
        value = float(number[0]) if number and _NUMBER.fullmatch(number[0].strip()) else float("nan")
        if found is None or name in found or not isfinite(value):
            return None
        found[name] = value
    return LoadReport(**fields, metrics=metrics)


def _of_message(message: Message) -> LoadReport:
    fields = {name: getattr(message, name) for name in _FIELDS}
    maps = {f"{name}.{key}": value for name in _MAPS for key, value in getattr(message, name).items()}
    return LoadReport(**fields, metrics=maps)


_FORMS: Mapping[str, Callable[[str], LoadReport | None]] = {"BIN": _of_base64, "JSON": _of_json, "TEXT": _of_text}
