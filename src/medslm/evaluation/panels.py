"""Two more pictures: the grid of training sets, and how sure answers are against how often right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple
from xml.etree.ElementTree import Element

from medslm.evaluation import svg
from medslm.evaluation.plots import Scale, nice_ticks
from medslm.evaluation.rows import Row
from medslm.evaluation.sheet import Cell

Measure = Literal["accuracy", "macro_f1"]
Bins = Sequence[tuple[int, float, float]]
TITLES: dict[Measure, str] = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
NAME_LENGTH = 16  # characters of a slanted label


class Mark(NamedTuple):
    """A training set in the grid: its score, its interval, and each of its students' own score."""

    name: str
    value: float
    low: float | None
    high: float | None
    students: Sequence[float]


def marks(rows: Sequence[Row], cells: Mapping[str, Sequence[Cell]], measure: Measure) -> list[Mark]:
    """Return the marks of the trained variants, as ordered."""
    return [
        Mark(
            row.name,
            getattr(row, measure),
            getattr(row, f"{measure}_low"),
            getattr(row, f"{measure}_high"),
            [getattr(cell, f"test_{measure}") for cell in cells[row.name]],
        )
        for row in rows
        if row.kind == "variant"
    ]


def grid(
    found: Sequence[Mark], *, measure: Measure, chosen: str, lines: Sequence[tuple[str, float]]
) -> Element:
    """Draw a score against the training set: dot and 95 % whisker, small rings for single students.

    ``lines`` are drawn across, dashed: what a model that learned nothing of it scores.
    """
    left, right, top, bottom = 40, 296, 26, 186
    title = f"Test {TITLES[measure]} by training set"
    picture = svg.figure(306, bottom + 84, label=title)
    ends = [v for m in found for v in (m.value, m.low, m.high, *m.students) if v is not None]
    ticks = nice_ticks(
        min([*ends, *(v for _, v in lines)]), max([*ends, *(v for _, v in lines)]), at_most=5
    )
    y = Scale(ticks[0], ticks[-1], bottom, top)
    for tick in ticks:
        svg.line(picture, (left, y(tick)), (right, y(tick)), look="rule")
        svg.words(picture, left - 6, y(tick) + 4, f"{tick:g}", look="muted small", anchor="end")
    for name, value in lines:
        svg.line(picture, (left, y(value)), (right, y(value)), look="dashed")
        svg.words(picture, right, y(value) - 5, name, look="warm small", anchor="end")
    step = (right - left) / len(found)
    for place, mark in enumerate(found):
        _mark(picture, mark, left + step * (place + 0.5), y, is_chosen=mark.name == chosen)
    return picture


def reliability(raw: Bins, calibrated: Bins, *, name: str) -> Element:
    """Draw how often answers are right against how sure the model was: ideally on the diagonal.

    A dot is a tenth of the scale, the larger the more questions it holds.
    """
    left, right, top, bottom = 44, 250, 14, 220
    picture = svg.figure(306, bottom + 42, label=f"Reliability of {name} on test")
    x, y = Scale(0, 1, left, right), Scale(0, 1, bottom, top)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        svg.line(picture, (left, y(tick)), (right, y(tick)), look="rule")
        svg.words(picture, left - 6, y(tick) + 4, f"{tick:g}", look="muted small", anchor="end")
        svg.words(picture, x(tick), bottom + 17, f"{tick:g}", look="muted small", anchor="middle")
    svg.words(
        picture, (left + right) / 2, bottom + 36, "how sure", look="muted small", anchor="middle"
    )
    svg.words(picture, left + 4, top + 12, "right", look="muted small")
    svg.line(picture, (x(0), y(0)), (x(1), y(1)), look="dashed")
    for place, (points, look, dot, title, ink) in enumerate(
        (
            (raw, "curve", "point", "as scored", "muted"),
            (calibrated, "curve-dev", "point-chosen", "scaled", "accent"),
        )
    ):
        if not points:
            continue
        total = sum(n for n, _, _ in points)
        svg.path(picture, [(x(sure), y(share)) for _, sure, share in points], look=look)
        for n, sure, share in points:
            svg.dot(picture, x(sure), y(share), look=dot, radius=2 + 7 * (n / total) ** 0.5)
        spot = (right - 4, bottom - 24 + 16 * place)
        svg.words(picture, *spot, title, look=f"{ink} small", anchor="end")
    return picture


def _mark(picture: Element, mark: Mark, x: float, y: Scale, *, is_chosen: bool) -> None:
    end = "-chosen" if is_chosen else ""
    if mark.low is not None and mark.high is not None:
        svg.line(picture, (x, y(mark.low)), (x, y(mark.high)), look=f"whisker{end}")
    if len(mark.students) > 1:
        for value in mark.students:
            svg.dot(picture, x + 9, y(value), look="hollow", radius=2.5)
    svg.dot(picture, x, y(mark.value), look=f"point{end}")
    name = mark.name if len(mark.name) <= NAME_LENGTH else mark.name[: NAME_LENGTH - 1] + "…"
    look = "strong small" if is_chosen else "ink small"
    svg.slanted(picture, x + 5, y.start + 14, name, look=look)
