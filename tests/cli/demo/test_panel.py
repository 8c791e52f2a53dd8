"""Where things are in a chart."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from svcmesh.cli.demo.panel import Panel
from svcmesh.cli.demo.svg import NAMESPACE, Drawing


def panel(**changes: float) -> Panel:
    """Return a chart of ten seconds, 100 by 100 pixels at (10, 20)."""
    place = {"left": 10.0, "top": 20.0, "width": 100.0, "height": 100.0, "length": 10.0, "highest": 4.0}
    return Panel(Drawing(200, 200, ""), "title", **{**place, **changes})


def points(chart: Panel, name: str) -> list[list[tuple[float, float]]]:
    """Return the points of the chart's shapes of that name."""
    found = ET.fromstring(chart.drawing.encoded()).iter(f"{{{NAMESPACE}}}{name}")
    return [
        [tuple(float(number) for number in pair.split(",")) for pair in (element.get("points") or "").split()]
        for element in found
    ]


def test_a_linear_scale() -> None:
    """Time runs to the right, values upwards; what is beyond stays at the edge."""
    chart = panel()

    assert [chart.x(seconds) for seconds in (0, 5, 10, 11, -1)] == [10, 60, 110, 110, 10]
    assert [chart.y(value) for value in (0, 2, 4, 9)] == [120, 70, 20, 20]


def test_a_logarithmic_scale() -> None:
    """Equal factors are equal steps, and what is below the lowest value, 0 included, is at the bottom."""
    chart = panel(highest=1.0, lowest=0.01)

    assert [chart.y(value) for value in (0, 0.01, 0.1, 1)] == pytest.approx([120, 120, 70, 20])


def test_a_curve_is_interrupted_where_nothing_was_measured() -> None:
    """None parts a curve; a value that stands alone is a short dash."""
    chart = panel()
    chart.curve([1.0, 2.0, None, 4.0, None], stroke="red", hint="p50")

    assert points(chart, "polyline") == [[(20, 95), (40, 70)], [(78, 20), (82, 20)]]


def test_layers_stand_on_each_other() -> None:
    """The second layer begins where the first ends, and what has no height is not drawn."""
    chart = panel(length=2.0)
    chart.layers({"one": [1.0, 1.0], "two": [3.0, 0.0]}, {"one": "red", "two": "blue"})

    one, two = points(chart, "polygon")
    assert one == [(10, 95), (60, 95), (60, 95), (110, 95), (110, 120), (60, 120), (60, 120), (10, 120)]
    assert two == [(10, 20), (60, 20), (60, 95), (10, 95)]


def test_frame_axis_and_legend_are_written() -> None:
    """Title, value labels, seconds and names can be read."""
    chart = panel()
    chart.frame({0.0: "none", 4.0: "all"})
    chart.time_axis()
    chart.legend({"greeter-1": "red"})
    words = [element.text for element in ET.fromstring(chart.drawing.encoded()).iter(f"{{{NAMESPACE}}}text")]

    assert words == ["title", "none", "all", "0 s", "2 s", "4 s", "6 s", "8 s", "10 s", "greeter-1"]
