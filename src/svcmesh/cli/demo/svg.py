"""As much of SVG as a chart needs: shapes and text, written by the standard library's XML, so that all is escaped.

The libraries that draw charts are either heavy (matplotlib) or cannot mark spans of time behind several charts with one
axis (pygal), which is what this picture is about; what is left to do by hand are these few shapes.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as ET

NAMESPACE = "http://www.w3.org/2000/svg"
FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"

Point = tuple[float, float]


class Drawing:
    """A drawing of so many pixels, on white. All lengths are pixels, from the upper left corner."""

    def __init__(self, width: float, height: float, title: str) -> None:
        ET.register_namespace("", NAMESPACE)
        view = f"0 0 {_number(width)} {_number(height)}"
        self._root = ET.Element(
            _tag("svg"),
            {"width": _number(width), "height": _number(height), "viewBox": view, "role": "img", "font-family": FONT},
        )
        ET.SubElement(self._root, _tag("title")).text = title
        self.box(0, 0, width, height, fill="#ffffff")

    def box(self, left: float, top: float, width: float, height: float, *, fill: str, hint: str = "") -> None:
        """Draw a filled rectangle; ``hint`` is shown where a pointer rests on it."""
        self._add("rect", hint, x=left, y=top, width=max(0.0, width), height=max(0.0, height), fill=fill)

    def line(self, start: Point, end: Point, *, stroke: str, width: float = 1.0, hint: str = "") -> None:
        """Draw a straight line."""
        x1, y1, x2, y2 = *start, *end
        self._add("line", hint, x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, stroke_width=width)

    def path(self, points: Iterable[Point], *, stroke: str, width: float = 1.8, hint: str = "") -> None:
        """Draw a line through all points."""
        self._add(
            "polyline",
            hint,
            points=_points(points),
            fill="none",
            stroke=stroke,
            stroke_width=width,
            stroke_linejoin="round",
            stroke_linecap="round",
        )

    def shape(self, points: Iterable[Point], *, fill: str, hint: str = "") -> None:
        """Draw a filled polygon."""
        self._add("polygon", hint, points=_points(points), fill=fill)

    def text(
        self,
        at: Point,
        words: str,
        *,
        size: float = 11,
        fill: str = "#333333",
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        """Write a line; ``at`` is where its base line starts, or with another ``anchor`` its ``middle`` or ``end``."""
        weight = "600" if bold else "400"
        element = self._add(
            "text", "", x=at[0], y=at[1], font_size=size, fill=fill, text_anchor=anchor, font_weight=weight
        )
        element.text = words

    def encoded(self) -> bytes:
        """Return the file's content."""
        ET.indent(self._root, " ")
        found: bytes = ET.tostring(self._root, encoding="utf-8", xml_declaration=True)
        return found + b"\n"

    def _add(self, name: str, hint: str, **attributes: float | str) -> ET.Element:
        given = {key.replace("_", "-"): _text(value) for key, value in attributes.items()}
        element = ET.SubElement(self._root, _tag(name), given)
        if hint:
            ET.SubElement(element, _tag("title")).text = hint
        return element


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _points(points: Iterable[Point]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
