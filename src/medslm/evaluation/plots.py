"""The report's pictures: intervals, confusion and learning curves, drawn from records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from medslm.data.records import ANSWERS
from medslm.evaluation import svg
from medslm.evaluation.curves import Point
from medslm.evaluation.rows import Row

LABEL_LENGTH = 20  # characters that fit beside a plot; the table has the whole name


class Scale(NamedTuple):
    """Maps values from low..high to coordinates start..end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def intervals(rows: Sequence[Row], *, chosen: str, majority: float | None) -> Element:
    """Draw test accuracy as dot and 95 % whisker per row; the dashed line is ``majority``."""
    step, top, width = 30, 26, 460
    bottom = top + step * len(rows)
    picture = svg.figure(width, bottom + 42, label="Test accuracy with 95 % interval")
    ends = [v for r in rows for v in (r.accuracy, r.accuracy_low, r.accuracy_high) if v is not None]
    ticks = nice_ticks(min(ends), max(ends), at_most=5)
    x = Scale(ticks[0], ticks[-1], 158, 408)
    for tick in ticks:
        svg.line(picture, (x(tick), top - 6), (x(tick), bottom), look="rule")
        svg.words(picture, x(tick), bottom + 17, f"{tick:g}", look="muted small", anchor="middle")
    svg.words(picture, x.start, bottom + 36, "accuracy on test", look="muted small")
    if majority is not None and ticks[0] <= majority <= ticks[-1]:
        svg.line(picture, (x(majority), top - 6), (x(majority), bottom), look="dashed")
        svg.words(picture, x(majority), top - 12, "majority", look="warm small", anchor="middle")
    for place, row in enumerate(rows):
        _interval(picture, row, x, top + step * (place + 0.5), is_chosen=row.name == chosen)
    return picture


def confusion(counts: Sequence[Sequence[int]], *, name: str) -> Element:
    """Draw gold answers (rows) against given ones (columns), shaded by the share of the row.

    The column "unanswered" is there only when a question was left unanswered.
    """
    answered = [*ANSWERS, *(["unanswered"] if any(row[-1] for row in counts) else [])]
    left, top, tile = 64, 48, 54
    wide = left + tile * 4 + 30  # the last heading is wider than its column
    picture = svg.figure(wide, top + tile * len(ANSWERS) + 6, label=f"Confusion of {name} on test")
    svg.words(picture, left, 16, "answered", look="muted small")
    svg.words(picture, 0, top - 10, "gold", look="muted small")
    for column, title in enumerate(ANSWERS):
        middle = left + tile * (column + 0.5)
        svg.words(picture, middle, top - 10, title, look="ink", anchor="middle")
    for heading in answered[len(ANSWERS) :]:
        svg.words(picture, left + tile * len(ANSWERS) + 4, top - 10, heading, look="ink small")
    for place, (gold, row) in enumerate(zip(ANSWERS, counts, strict=True)):
        y = top + tile * place
        svg.words(picture, 0, y + tile / 2 + 4, gold, look="ink")
        for column, count in enumerate(row[: len(answered)]):
            share = count / sum(row) if sum(row) else 0
            corner = (left + tile * column + 1.0, y + 1.0)
            # up to half strength, text in ink keeps a contrast of 4.5 to 1 in light and dark
            svg.box(picture, corner, (tile - 2, tile - 2), depth=0.05 + 0.45 * share)
            look = "strong" if answered[column] == gold else "ink"
            spot = (corner[0] + tile / 2 - 1, corner[1] + tile / 2 + 4)
            svg.words(picture, *spot, str(count), look=look, anchor="middle")
    return picture


def learning_curve(points: Sequence[Point], *, name: str, highest: float, lowest: float) -> Element:
    """Draw train and dev loss over epochs on a scale from ``lowest`` to ``highest``.

    A dot marks the epoch with the lowest dev loss.
    """
    left, right, top, bottom = 44, 250, 14, 150
    picture = svg.figure(306, bottom + 40, label=f"Loss of {name} by epoch")
    levels = nice_ticks(lowest, highest, at_most=4)
    y = Scale(levels[0], levels[-1], bottom, top)
    epochs = [point.epoch for point in points]
    x = Scale(min(epochs), max(max(epochs), min(epochs) + 1), left + 6, right - 6)
    for level in levels:
        svg.line(picture, (left, y(level)), (right, y(level)), look="rule")
        svg.words(picture, left - 8, y(level) + 4, f"{level:g}", look="muted small", anchor="end")
    for epoch in _whole(epochs):
        svg.words(picture, x(epoch), bottom + 17, f"{epoch:g}", look="muted small", anchor="middle")
    svg.words(
        picture, (left + right) / 2, bottom + 35, "epoch", look="muted small", anchor="middle"
    )
    train = [(x(p.epoch), y(p.train_loss)) for p in points if p.train_loss is not None]
    dev = [(x(p.epoch), y(p.dev_loss)) for p in points if p.dev_loss is not None]
    label_y = _apart([line[-1][1] for line in (train, dev) if line])
    for line, look, title, ink in (
        (train, "curve", "train", "muted"),
        (dev, "curve-dev", "dev", "accent"),
    ):
        if line:
            svg.path(picture, line, look=look)
            svg.words(picture, right + 2, label_y.pop(0) + 4, title, look=f"{ink} small")
    if dev:
        svg.dot(picture, *max(dev, key=lambda spot: spot[1]), look="point-chosen", radius=4)
    return picture


def nice_ticks(low: float, high: float, *, at_most: int) -> list[float]:
    """Return ticks that enclose low..high, the multiples of 1, 2 or 5 times a power of ten.

    ``at_most`` (two or more, since zero may lie within) counts the gaps between them.
    """
    span = max(high - low, 1e-3)
    exponent = math.floor(math.log10(span / at_most)) - 1
    while True:
        for multiple in (1, 2, 5):
            step = multiple * 10.0**exponent
            first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
            if last - first <= at_most:
                last = max(last, first + 1)
                return [round(i * step, 10) for i in range(first, last + 1)]
        exponent += 1


def _interval(picture: Element, row: Row, x: Scale, y: float, *, is_chosen: bool) -> None:
    look = "strong" if is_chosen else "ink"
    svg.words(picture, 0, y + 4, _short(row.name), look=look)
    if row.accuracy_low is not None and row.accuracy_high is not None:
        whisker = "whisker-chosen" if is_chosen else "whisker"
        svg.line(picture, (x(row.accuracy_low), y), (x(row.accuracy_high), y), look=whisker)
    kinds = {"variant": "point", "baseline": "point", "cited": "hollow"}
    svg.dot(picture, x(row.accuracy), y, look="point-chosen" if is_chosen else kinds[row.kind])
    svg.words(picture, 456, y + 4, f"{row.accuracy:.3f}", look=look, anchor="end")


def _short(name: str) -> str:
    return name if len(name) <= LABEL_LENGTH else name[: LABEL_LENGTH - 1].rstrip() + "…"


def _whole(epochs: Sequence[float]) -> list[float]:
    """Return at most six whole epochs to label, the first and a regular step."""
    whole = sorted({epoch for epoch in epochs if epoch == int(epoch)})
    return whole[:: max(1, math.ceil(len(whole) / 6))]


def _apart(heights: Sequence[float], gap: float = 14) -> list[float]:
    """Return label heights in the same order, moved apart so that two labels do not overlap."""
    if len(heights) < 2 or abs(heights[0] - heights[1]) >= gap:
        return list(heights)
    middle, up = sum(heights) / 2, heights[0] <= heights[1]
    return [middle - gap / 2, middle + gap / 2] if up else [middle + gap / 2, middle - gap / 2]
