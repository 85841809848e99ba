"""All pictures of a report, and the same numbers as CSV for DVC's plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from medslm.data.records import ANSWERS
from medslm.evaluation import panels, plots
from medslm.evaluation.curves import Point, limits
from medslm.evaluation.rows import Comparison
from medslm.evaluation.sheet import DIGITS, Sheet

MAJORITY = "majority"  # the baseline that always gives the most frequent answer of its train part
_MEASURES: tuple[panels.Measure, ...] = ("accuracy", "macro_f1")


class Plot(NamedTuple):
    """A picture with its file name and the heading it stands under."""

    file: str
    title: str
    picture: Element


class Plots(NamedTuple):
    """All pictures of a report, in reading order."""

    intervals: Plot
    grid: list[Plot]
    confusions: list[Plot]
    reliability: list[Plot]
    curves: list[Plot]

    def all(self) -> list[Plot]:
        """Return every picture once."""
        return [
            self.intervals,
            *self.grid,
            *self.confusions,
            *self.reliability,
            *self.curves,
        ]


def draw(
    comparison: Comparison, sheets: Mapping[str, Sheet], curves: Mapping[str, Sequence[Point]]
) -> Plots:
    """Draw a comparison's pictures: the chosen variant first among its like, curves on one scale."""
    rest = [row.name for row in comparison.rows if row.kind != "cited"]
    first = [comparison.chosen, *(name for name in rest if name != comparison.chosen)]
    lowest, highest = limits(curves.values())
    return Plots(
        intervals=Plot("intervals.svg", "Accuracy on test", _intervals(comparison)),
        grid=[_grid(comparison, sheets, measure) for measure in _MEASURES],
        confusions=[
            Plot(f"confusion-{n}.svg", n, plots.confusion(sheets[n].test.confusion, name=n))
            for n in first
        ],
        reliability=[_reliability(sheets[name]) for name in first if sheets[name].bins],
        curves=[
            Plot(
                f"curve-{name}.svg",
                name,
                plots.learning_curve(points, name=name, lowest=lowest, highest=highest),
            )
            for name, points in curves.items()
        ],
    )


def confusion_csv(sheet: Sheet) -> str:
    """Return a line per test question for DVC's ``confusion`` plot: variant, actual, predicted."""
    lines = [
        [sheet.variant, actual, predicted]
        for actual, row in zip(ANSWERS, sheet.test.confusion, strict=True)
        for predicted, count in zip((*ANSWERS, "unanswered"), row, strict=True)
        for _ in range(count)
    ]
    return _csv(["variant", "actual", "predicted"], lines)


def scores_csv(comparison: Comparison, measure: panels.Measure) -> str:
    """Return a line per model for DVC's plot template ``intervals``: variant, score, low, high."""
    lines = [
        [
            row.name,
            getattr(row, measure),
            getattr(row, f"{measure}_low"),
            getattr(row, f"{measure}_high"),
        ]
        for row in comparison.rows
        if row.kind != "cited"
    ]
    return _csv(["variant", measure, "low", "high"], lines)


def reliability_csv(sheet: Sheet) -> str:
    """Return a line per bin of the test probabilities for DVC's plot template ``reliability``."""
    return _csv(
        ["confidence", "accuracy", "n"], [[sure, right, n] for n, sure, right in sheet.bins]
    )


def _intervals(comparison: Comparison) -> Element:
    return plots.intervals(
        comparison.rows, chosen=comparison.chosen, majority=_majority(comparison, "accuracy")
    )


def _grid(comparison: Comparison, sheets: Mapping[str, Sheet], measure: panels.Measure) -> Plot:
    cells = {name: sheet.cells for name, sheet in sheets.items()}
    majority = _majority(comparison, measure)
    picture = panels.grid(
        panels.marks(comparison.rows, cells, measure),
        measure=measure,
        chosen=comparison.chosen,
        lines=[] if majority is None else [(MAJORITY, majority)],
    )
    return Plot(f"grid-{measure.replace('_', '-')}.svg", panels.TITLES[measure], picture)


def _reliability(sheet: Sheet) -> Plot:
    scaled = sheet.calibrated.test.bins if sheet.calibrated else ()
    picture = panels.reliability(sheet.bins, scaled, name=sheet.variant)
    return Plot(f"reliability-{sheet.variant}.svg", sheet.variant, picture)


def _majority(comparison: Comparison, measure: panels.Measure) -> float | None:
    found = [
        getattr(row, measure)
        for row in comparison.rows
        if row.kind == "baseline" and row.name == MAJORITY
    ]
    return float(found[0]) if found else None


def _csv(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(head)
    table.writerows(
        [round(cell, DIGITS) if isinstance(cell, float) else cell for cell in line]
        for line in lines
    )
    return stream.getvalue()
