"""How accuracy and macro-F1 hang on one knob of a tuning method: the robustness figure of Guo et al. 2023."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from medslm.data.intervals import Interval
from medslm.evaluation import svg
from medslm.evaluation.plots import Scale, nice_ticks
from medslm.evaluation.sheet import Part

COLUMNS = (
    "method,knob,value,n,accuracy,accuracy_low,accuracy_high,macro_f1,macro_f1_low,macro_f1_high"
)

# Guo et al. 2023 (arXiv 2305.07804), notebook Results.ipynb at commit de0d66f: BioGPT-Large on PubMedQA
# without added data, accuracy and macro-F1 by LoRA alpha (r = 4) and by virtual tokens (that the prefix runs'
# knob is their number is our reading of its axis). Their last-500 split, one seed.
CITED: dict[str, dict[float, tuple[float, float]]] = {
    "lora": {
        16: (0.406, 0.282),
        32: (0.510, 0.334),
        64: (0.550, 0.332),
        128: (0.552, 0.291),
        256: (0.638, 0.391),
        512: (0.608, 0.393),
    },
    "prefix": {
        16: (0.310, 0.210),
        32: (0.248, 0.200),
        64: (0.256, 0.193),
        128: (0.430, 0.388),
        256: (0.286, 0.242),
        512: (0.326, 0.291),
    },
}


class Point(NamedTuple):
    """A finished experiment: method, the knob's value, and its test scores with 95 % intervals."""

    method: str
    knob: str
    value: float
    n: int
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval


class Spot(NamedTuple):
    """A value with its interval at its place on a panel's x axis."""

    x: float
    value: float
    interval: Interval


def point(method: str, knob: str, value: float, test: Part) -> Point:
    """Return what the figure shows of an experiment's test scores."""
    return Point(
        method,
        knob,
        value,
        test.n,
        test.accuracy,
        Interval(test.accuracy_low, test.accuracy_high),
        test.macro_f1,
        Interval(test.macro_f1_low, test.macro_f1_high),
    )


def csv(points: Sequence[Point]) -> str:
    """Return the figure's numbers, one line per experiment, as text."""
    lines = [COLUMNS]
    for p in points:
        values = [p.accuracy, *p.accuracy_interval, p.macro_f1, *p.macro_f1_interval]
        lines.append(",".join(str(v) for v in [p.method, p.knob, f"{p.value:g}", p.n, *values]))
    return "\n".join(lines) + "\n"


def figure(points: Sequence[Point], *, variant: str, cite: bool) -> Element:
    """Draw accuracy (above) and macro-F1 (below) against each method's knob, one column per method.

    Whiskers are 95 % intervals; hollow dots, if ``cite``, are the paper's values at the same knobs.
    """
    methods = list(dict.fromkeys(p.method for p in points))
    width, height = 54 + 250 * len(methods), 446
    picture = svg.figure(
        width, height, label=f"Test accuracy and macro-F1 of {variant} by tuning knob"
    )
    ends = [end for p in points for end in (*p.accuracy_interval, *p.macro_f1_interval)]
    if cite:
        ends += [v for p in points for v in CITED.get(p.method, {}).get(p.value, ())]
    ticks = nice_ticks(min(ends), max(ends), at_most=6)
    for (row, title), (column, method) in itertools.product(
        enumerate(("accuracy", "macro-F1")), enumerate(methods)
    ):
        own = [p for p in points if p.method == method]
        left, top = 54 + 250 * column, 30 + 196 * row
        y = Scale(ticks[0], ticks[-1], top + 140, top)
        x = Scale(0, max(len(own) - 1, 1), left + 16, left + 204)
        _axes(picture, own, x, y, ticks, labelled=column == 0)
        svg.words(picture, left, top - 12, f"{title}, {method}", look="strong small")
        _curve(picture, list(_spots(own, title, x)), y)
        if cite:
            _cited(picture, own, row, x, y)
    svg.words(picture, 8, height - 22, _caption(points), look="muted small")
    if cite:
        note = "Hollow: Guo et al. 2023, BioGPT-Large, another split"
        svg.words(picture, 8, height - 6, note, look="muted small")
    return picture


def _axes(
    picture: Element,
    own: Sequence[Point],
    x: Scale,
    y: Scale,
    ticks: Sequence[float],
    *,
    labelled: bool,
) -> None:
    for tick in ticks:
        svg.line(picture, (x.start - 12, y(tick)), (x.end + 12, y(tick)), look="rule")
        if labelled:
            spot = (x.start - 22, y(tick) + 4)
            svg.words(picture, *spot, f"{tick:g}", look="muted small", anchor="end")
    for place, p in enumerate(own):
        svg.words(
            picture, x(place), y.start + 16, f"{p.value:g}", look="muted small", anchor="middle"
        )
    name = own[0].knob.replace("_", " ")
    svg.words(picture, x.end + 12, y.start + 30, name, look="muted small", anchor="end")


def _spots(own: Sequence[Point], title: str, x: Scale) -> Iterator[Spot]:
    for place, p in enumerate(own):
        if title == "accuracy":
            yield Spot(x(place), p.accuracy, p.accuracy_interval)
        else:
            yield Spot(x(place), p.macro_f1, p.macro_f1_interval)


def _curve(picture: Element, spots: Sequence[Spot], y: Scale) -> None:
    svg.path(picture, [(s.x, y(s.value)) for s in spots], look="curve-dev")
    for s in spots:
        ends = ((s.x, y(s.interval.low)), (s.x, y(s.interval.high)))
        svg.line(picture, *ends, look="whisker-chosen")
        svg.dot(picture, s.x, y(s.value), look="point-chosen", radius=4)


def _cited(picture: Element, own: Sequence[Point], row: int, x: Scale, y: Scale) -> None:
    for place, p in enumerate(own):
        values = CITED.get(p.method, {}).get(p.value)
        if values is not None:
            svg.dot(picture, x(place) + 7, y(values[row]), look="hollow", radius=3.5)


def _caption(points: Sequence[Point]) -> str:
    sizes = sorted({p.n for p in points})
    said = " or ".join(str(n) for n in sizes)
    return f"Test, n = {said} questions each; bars: 95 % intervals"
