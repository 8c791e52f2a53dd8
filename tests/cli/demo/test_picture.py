"""The picture of a run."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from svcmesh.cli.demo.picture import COLOURS, RED, Picture, wrapped
from svcmesh.cli.demo.record import Record
from svcmesh.cli.demo.svg import NAMESPACE
from tests.cli.demo.samples import LENGTH, Now, sample


def drawn(record: Record, length: float = LENGTH) -> ET.Element:
    """Return the picture, parsed."""
    encoded = Picture(record, length).encoded()
    assert b"nan" not in encoded
    assert b"inf" not in encoded
    return ET.fromstring(encoded)


def words(root: ET.Element) -> list[str]:
    """Return all texts that can be read."""
    return [element.text or "" for element in root.iter(f"{{{NAMESPACE}}}text")]


def hints(root: ET.Element, shape: str) -> list[str]:
    """Return what the shapes of that kind say of themselves."""
    return [title.text or "" for element in root.iter(f"{{{NAMESPACE}}}{shape}") for title in element]


def test_it_shows_calls_latency_and_shares_with_the_acts() -> None:
    """Every act, every panel, every protocol and every server is named; ejections are marked."""
    root = drawn(sample())
    found = words(root)

    for text in ("steady", "SIGKILL", "gRPC", "HTTP", "p50", "p99", "greeter-1", "greeter-2", "orders-1"):
        assert text in found
    for title in ("Calls per second", "Share of the attempts: greeter", "Share of the attempts: orders"):
        assert title in found
    assert "5.2 s: greeter-1 ejected" in hints(root, "polygon")
    assert "200 calls, 0 failed; p50 2.0 ms, p99 4.0 ms; 0 retries, 1 ejections, 0 faults injected" in found


def test_acts_are_bands_from_their_beginning_to_the_next() -> None:
    """The first band begins at 0, the second where the first ends, and the last one ends with the run."""
    shaded = [box for box in drawn(sample()).iter(f"{{{NAMESPACE}}}rect") if float(box.get("height", "0")) > 200][1:]
    (one, other) = [(float(box.get("x", "")), float(box.get("width", ""))) for box in shaded]

    assert one[0] + one[1] == pytest.approx(other[0], abs=0.2)
    assert one[1] == pytest.approx(other[1], abs=0.2)


def test_a_server_that_stops_loses_its_layer() -> None:
    """greeter-1 has a share in the first half and none in the second, where greeter-2 has it all."""
    shapes = [shape for shape in drawn(sample()).iter(f"{{{NAMESPACE}}}polygon") if shape.get("fill") == COLOURS[0]]
    right = max(float(pair.split(",")[0]) for pair in (shapes[-1].get("points") or "").split())
    middle = (74 + 1080 - 176) / 2

    assert right == pytest.approx(middle, abs=20)


def test_failures_are_seen() -> None:
    """Each failed call is a red line that tells its error."""
    root = drawn(sample(failures=2))

    assert [hint for hint in hints(root, "line") if "broken" in hint] == [
        "RpcError: <broken> & 0",
        "RpcError: <broken> & 1",
    ]
    assert any(element.get("fill") == RED and "2 failed" in (element.text or "") for element in root.iter())


def test_a_run_in_which_nothing_happened_can_be_drawn() -> None:
    """An empty record is an empty picture, not an error."""
    assert "Calls per second" in words(drawn(Record(Now()), 0.0))


def test_titles_are_wrapped_at_blanks() -> None:
    """At most two lines, of whole words."""
    assert wrapped("30 % aborts, 200 ms delays", 20) == ["30 % aborts, 200 ms", "delays"]
    assert wrapped("SIGKILL", 3) == ["SIGKILL"]
    assert wrapped("a b c", 1) == ["a", "b"]
