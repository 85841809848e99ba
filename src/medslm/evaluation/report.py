"""The report: everything a reader needs to judge the comparison, on one page that loads nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from pydantic import ConfigDict

from medslm.data.records import ANSWERS
from medslm.errors import DataError
from medslm.evaluation import plots, svg
from medslm.evaluation.curves import Point, limits
from medslm.evaluation.rows import Comparison
from medslm.evaluation.sheet import Sheet
from medslm.evaluation.table import DASH, caption, cells, columns, number

MAJORITY = "majority"  # the baseline that always gives the most frequent answer of its train part


@dataclass(frozen=True, slots=True)
class Quality:
    """What `check` counted for one ask, as far as the report shows it."""

    __pydantic_config__ = ConfigDict(extra="ignore", strict=True)
    parsed: int
    unreadable: dict[str, int]
    kept: int
    dropped: int
    reasons: dict[str, int]


class Plot(NamedTuple):
    """A picture with its file name and the heading it stands under."""

    file: str
    title: str
    picture: Element


class Plots(NamedTuple):
    """All pictures of a report, in reading order."""

    intervals: Plot
    confusions: list[Plot]
    curves: list[Plot]

    def all(self) -> list[Plot]:
        """Return every picture once."""
        return [self.intervals, *self.confusions, *self.curves]


def draw(
    comparison: Comparison, sheets: Mapping[str, Sheet], curves: Mapping[str, Sequence[Point]]
) -> Plots:
    """Draw a comparison's pictures: the chosen variant's confusion first, curves on one scale."""
    baselines = [row for row in comparison.rows if row.kind == "baseline"]
    majority = next((row.accuracy for row in baselines if row.name == MAJORITY), None)
    rest = [row.name for row in comparison.rows if row.kind != "cited"]
    first = [comparison.chosen, *(name for name in rest if name != comparison.chosen)]
    lowest, highest = limits(curves.values())
    return Plots(
        intervals=Plot(
            "intervals.svg",
            "Accuracy on test",
            plots.intervals(comparison.rows, chosen=comparison.chosen, majority=majority),
        ),
        confusions=[
            Plot(f"confusion-{n}.svg", n, plots.confusion(sheets[n].test.confusion, name=n))
            for n in first
        ],
        curves=[
            Plot(
                f"curve-{name}.svg",
                name,
                plots.learning_curve(points, name=name, lowest=lowest, highest=highest),
            )
            for name, points in curves.items()
        ],
    )


def page(
    comparison: Comparison,
    sheets: Mapping[str, Sheet],
    pictures: Plots,
    quality: Mapping[str, Quality],
) -> str:
    """Return the report as one HTML page without scripts, fonts or pictures from elsewhere.

    Every text is escaped where it enters the page; only our own pictures, whose texts the tree
    writer escaped, enter as markup.
    """
    best = sheets[comparison.chosen]
    return _render(
        pictures,
        chosen=comparison.chosen,
        best=best,
        caption=caption(comparison),
        head=columns(comparison.metric),
        rows=[(row, cells(row, chosen=comparison.chosen)) for row in comparison.rows],
        has_majority=any(row.name == MAJORITY for row in comparison.rows),
        details=_details(comparison, sheets),
        quality=_quality_rows(quality),
        warnings=comparison.warnings,
        caveats=caveats(comparison, sheets),
        number=number,
    )


def confusion_csv(sheet: Sheet) -> str:
    """Return a line per test question for DVC's ``confusion`` plot: variant, actual, predicted."""
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["variant", "actual", "predicted"])
    for actual, row in zip(ANSWERS, sheet.test.confusion, strict=True):
        for predicted, count in zip((*ANSWERS, "unanswered"), row, strict=True):
            table.writerows([[sheet.variant, actual, predicted]] * count)
    return stream.getvalue()


def caveats(comparison: Comparison, sheets: Mapping[str, Sheet]) -> list[str]:
    """Return what limits these numbers, as far as the numbers themselves show it."""
    best = sheets[comparison.chosen]
    maybe = sum(best.test.confusion[ANSWERS.index("maybe")])
    told = [
        "The variant was chosen on dev alone. The test numbers of the others are for reading: "
        "choosing by them would make the chosen number too high.",
        f"Only {maybe} of the {best.test.n} test questions have the answer maybe, so its F1, "
        "a third of macro-F1, moves in large steps.",
    ]
    chosen = next(row for row in comparison.rows if row.name == comparison.chosen)
    if chosen.control is None:
        told.append(
            "Variants with more data also take more optimiser steps at equal epochs: a gain may come "
            "from either. An entry {asks: [], as_many_as: …} of variants is the control for it."
        )
    if best.spread.cells == 1:
        told.append(
            "One fold and one seed: this run does not say how far the numbers move with others."
        )
    if comparison.test_set != "official":
        told.append(
            "This is not the official PubMedQA test set of 500 questions: the numbers cannot be "
            "compared with published ones."
        )
    told.append(
        "PubMed abstracts, those of the test questions included, are in the training data of most "
        "language models."
    )
    told.append("A research result, not medical advice.")
    return told


def require_known(
    comparison: Comparison, *, variants: Sequence[str], baselines: Sequence[str]
) -> None:
    """Raise DataError unless the comparison is of exactly these, in this order."""
    compared = [row.name for row in comparison.rows if row.kind != "cited"]
    wanted = [*baselines, *variants]
    if compared != wanted or comparison.chosen not in variants:
        raise DataError(
            f"the comparison is of {', '.join(compared)} but params.yaml lists "
            f"{', '.join(wanted)}: compare again"
        )


def _render(pictures: Plots, **fields: Any) -> str:
    """Fill the template; the pictures and their style are the only values that are markup."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def markup(plot: Plot) -> Markup:
        return Markup(svg.inline(plot.picture))

    source = resources.files("medslm.evaluation").joinpath("report.html").read_text("utf-8")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(source).render(
        intervals=markup(pictures.intervals),
        confusions=[(plot.title, markup(plot)) for plot in pictures.confusions],
        curves=[(plot.title, markup(plot)) for plot in pictures.curves],
        style=Markup(svg.style_sheet()),
        **fields,
    )


def _details(comparison: Comparison, sheets: Mapping[str, Sheet]) -> list[dict[str, str]]:
    names = [row.name for row in comparison.rows if row.kind != "cited"]
    return [{"variant": name, **_detail(sheets[name])} for name in names]


def _detail(sheet: Sheet) -> dict[str, str]:
    spread = sheet.spread
    return {
        "dev n": str(sheet.dev.n),
        "dev accuracy": number(sheet.dev.accuracy),
        "dev macro-F1": number(sheet.dev.macro_f1),
        "dev NLL": number(sheet.dev.nll),
        "test NLL": number(sheet.test.nll),
        "test unanswered": str(sheet.test.unanswered),
        "students": str(spread.cells),
        "test accuracy, mean ± sd": _with_sd(spread.test_accuracy_mean, spread.test_accuracy_sd),
        "test macro-F1, mean ± sd": _with_sd(spread.test_macro_f1_mean, spread.test_macro_f1_sd),
    }


def _with_sd(mean: float, sd: float | None) -> str:
    return number(mean) if sd is None else f"{mean:.3f} ± {sd:.3f}"


def _quality_rows(quality: Mapping[str, Quality]) -> list[dict[str, str]]:
    rows = []
    for ask, counts in quality.items():
        replies = counts.parsed + sum(counts.unreadable.values())
        rows.append(
            {
                "ask": ask,
                "replies": str(replies),
                "parsed": str(counts.parsed),
                "kept": str(counts.kept),
                "kept of replies": f"{100 * counts.kept / replies:.0f} %" if replies else DASH,
                "dropped": str(counts.dropped),
                "unreadable because": _listed(counts.unreadable),
                "dropped because": _listed(counts.reasons),
            }
        )
    return rows


def _listed(reasons: Mapping[str, int]) -> str:
    """Return reasons, the most frequent first, as "name 3, other 1"."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered if count) or DASH
