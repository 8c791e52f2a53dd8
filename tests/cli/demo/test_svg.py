"""The few shapes, as XML."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from svcmesh.cli.demo.svg import NAMESPACE, Drawing


def elements(drawing: Drawing, name: str) -> list[ET.Element]:
    """Return the drawing's elements of that name."""
    return list(ET.fromstring(drawing.encoded()).iter(f"{{{NAMESPACE}}}{name}"))


def test_a_drawing_is_a_document_of_its_own() -> None:
    """It is well-formed, in SVG's namespace, with size, view box and title, on white."""
    drawing = Drawing(100, 50.25, "A & B")
    root = ET.fromstring(drawing.encoded())

    assert drawing.encoded().startswith(b"<?xml")
    assert root.tag == f"{{{NAMESPACE}}}svg"
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("100", "50.2", "0 0 100 50.2")
    assert root[0].text == "A & B"
    assert elements(drawing, "rect")[0].get("fill") == "#ffffff"


def test_text_is_escaped() -> None:
    """What looks like markup stays text."""
    drawing = Drawing(10, 10, "")
    drawing.text((1, 2), "<script>alert('&')</script>", anchor="end", bold=True)

    assert b"<script" not in drawing.encoded()
    (found,) = elements(drawing, "text")
    assert found.text == "<script>alert('&')</script>"
    assert (found.get("x"), found.get("y"), found.get("text-anchor"), found.get("font-weight")) == (
        "1",
        "2",
        "end",
        "600",
    )


def test_shapes_have_places_colours_and_hints() -> None:
    """Lines, paths and polygons carry their points; a hint becomes a title."""
    drawing = Drawing(10, 10, "")
    drawing.line((0, 1), (2, 3), stroke="red", hint="why")
    drawing.path([(0, 0), (1.25, 2)], stroke="blue")
    drawing.shape([(0, 0), (1, 0), (1, 1)], fill="green")

    (line,), (path,), (shape,) = (elements(drawing, name) for name in ("line", "polyline", "polygon"))
    assert [line.get(key) for key in ("x1", "y1", "x2", "y2", "stroke")] == ["0", "1", "2", "3", "red"]
    assert line[0].text == "why"
    assert (path.get("points"), path.get("fill"), path.get("stroke")) == ("0,0 1.2,2", "none", "blue")
    assert (shape.get("points"), shape.get("fill")) == ("0,0 1,0 1,1", "green")


def test_a_box_has_no_negative_size() -> None:
    """Rounding may make an empty span slightly negative; SVG refuses that."""
    drawing = Drawing(10, 10, "")
    drawing.box(1, 1, -0.5, 2, fill="red")

    assert elements(drawing, "rect")[1].get("width") == "0"
