"""Scalable pictures as elements: a tree writer escapes every text; equal pictures, equal bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from xml.etree import ElementTree

Anchor = Literal["start", "middle", "end"]

# Light and dark carry the same names; text on paper keeps a contrast of at least 4.5 to 1 in both.
LIGHT = {
    "ink": "#1f2933",
    "muted": "#566270",
    "rule": "#d7dde3",
    "accent": "#0a6a94",
    "warm": "#a8480f",
}
DARK = {
    "ink": "#e7eaed",
    "muted": "#a7b1bb",
    "rule": "#3a444e",
    "accent": "#6cc0e5",
    "warm": "#f2a66f",
}


_SHAPES = (
    ".plot { font: 13px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; }",
    ".plot text { font-variant-numeric: tabular-nums; }",
    ".plot .strong { font-weight: 650; }",
    ".plot .small { font-size: 12px; }",
    ".plot .rule { stroke-width: 1; }",
    ".plot .dashed { stroke-width: 1.5; stroke-dasharray: 4 4; }",
    ".plot .whisker, .plot .whisker-chosen { stroke-width: 2; }",
    ".plot polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }",
    ".plot .curve { stroke-dasharray: 5 3; }",
    ".plot .hollow { fill-opacity: 0; stroke-width: 2; }",
)


def figure(width: int, height: int, *, label: str) -> ElementTree.Element:
    """Return an empty picture of that many user units; ``label`` is what a screen reader says."""
    svg = ElementTree.Element(
        "svg",
        {"class": "plot", "viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": label},
    )
    ElementTree.SubElement(svg, "title").text = label
    return svg


def words(
    parent: ElementTree.Element,
    x: float,
    y: float,
    text: str,
    *,
    look: str,
    anchor: Anchor = "start",
) -> None:
    """Write ``text`` with its baseline at (x, y)."""
    attributes = {"class": look, "x": _at(x), "y": _at(y), "text-anchor": anchor}
    ElementTree.SubElement(parent, "text", attributes).text = text


def slanted(parent: ElementTree.Element, x: float, y: float, text: str, *, look: str) -> None:
    """Write ``text`` so that it rises to its end at (x, y): room for many names under an axis."""
    turn = f"rotate(-40 {_at(x)} {_at(y)})"
    attributes = {"class": look, "x": _at(x), "y": _at(y), "text-anchor": "end", "transform": turn}
    ElementTree.SubElement(parent, "text", attributes).text = text


def line(
    parent: ElementTree.Element, start: tuple[float, float], end: tuple[float, float], *, look: str
) -> None:
    """Draw a straight line."""
    (x1, y1), (x2, y2) = start, end
    attributes = {"class": look, "x1": _at(x1), "y1": _at(y1), "x2": _at(x2), "y2": _at(y2)}
    ElementTree.SubElement(parent, "line", attributes)


def path(parent: ElementTree.Element, points: Sequence[tuple[float, float]], *, look: str) -> None:
    """Draw a line through ``points`` in their order."""
    joined = " ".join(f"{_at(x)},{_at(y)}" for x, y in points)
    ElementTree.SubElement(parent, "polyline", {"class": look, "points": joined})


def dot(parent: ElementTree.Element, x: float, y: float, *, look: str, radius: float = 4.5) -> None:
    """Draw a circle."""
    ElementTree.SubElement(
        parent, "circle", {"class": look, "cx": _at(x), "cy": _at(y), "r": _at(radius)}
    )


def box(
    parent: ElementTree.Element,
    corner: tuple[float, float],
    size: tuple[float, float],
    *,
    depth: float,
) -> None:
    """Fill a rectangle with the accent colour, ``depth`` (0 to 1) being how strongly."""
    attributes = {
        "class": "tile",
        "x": _at(corner[0]),
        "y": _at(corner[1]),
        "width": _at(size[0]),
        "height": _at(size[1]),
        "rx": "3",
        "fill-opacity": f"{depth:.2f}",
    }
    ElementTree.SubElement(parent, "rect", attributes)


def inline(svg: ElementTree.Element) -> str:
    """Return the picture for an HTML page that holds `style_sheet`."""
    return ElementTree.tostring(svg, encoding="unicode")


def standalone(svg: ElementTree.Element) -> str:
    """Return the picture as a file of its own, always light: viewers show it on white."""
    whole = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **svg.attrib})
    ElementTree.SubElement(whole, "style").text = "\n".join([*_SHAPES, *_colours(LIGHT)])
    paper = {"width": "100%", "height": "100%", "fill": "#ffffff"}
    ElementTree.SubElement(whole, "rect", paper)
    whole.extend(list(svg))
    return ElementTree.tostring(whole, encoding="unicode") + "\n"


def style_sheet() -> str:
    """Return the style of inline pictures: light, and dark on screens that ask for it."""
    dark = [f"  {rule}" for rule in _colours(DARK)]
    ask = "@media screen and (prefers-color-scheme: dark) {"
    return "\n".join([*_SHAPES, *_colours(LIGHT), ask, *dark, "}"])


def _colours(palette: dict[str, str]) -> list[str]:
    uses = {
        "fill": {
            "ink": ".ink, .plot .strong",
            "muted": ".muted, .plot .point",
            "accent": ".point-chosen, .plot .tile, .plot .accent",
            "warm": ".warm",
        },
        "stroke": {
            "rule": ".rule",
            "muted": ".whisker, .plot .hollow, .plot .curve",
            "accent": ".whisker-chosen, .plot .curve-dev",
            "warm": ".dashed",
        },
    }
    return [
        f".plot {selector} {{ {kind}: {palette[name]}; }}"
        for kind, names in uses.items()
        for name, selector in names.items()
    ]


def _at(value: float) -> str:
    """Return a coordinate with one decimal, enough at any size a report is read at."""
    return f"{value:.1f}"
