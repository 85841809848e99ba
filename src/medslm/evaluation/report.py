"""The report: everything a reader needs to judge the comparison, on one page that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from medslm.data.records import ANSWERS
from medslm.errors import DataError
from medslm.evaluation import svg
from medslm.evaluation.background import Background, Table
from medslm.evaluation.differences import Difference, Split, p_text, points
from medslm.evaluation.pictures import MAJORITY, Plot, Plots
from medslm.evaluation.rows import Comparison
from medslm.evaluation.sheet import Part, Reliability, Sheet
from medslm.evaluation.table import (
    DASH,
    NOT_COMPARABLE,
    caption,
    cells,
    columns,
    number,
    published_elsewhere,
    sensitivity,
    tested,
    with_interval,
)
from medslm.evaluation.testset import TITLES


def page(
    comparison: Comparison,
    sheets: Mapping[str, Sheet],
    pictures: Plots,
    background: Background,
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
        tested=tested(comparison),
        sensitivity=sensitivity(comparison),
        differences=differences_table(comparison.differences),
        elsewhere=published_elsewhere(comparison),
        not_comparable=NOT_COMPARABLE,
        test_set=TITLES[comparison.test_set],
        details=[details(comparison, sheets, split) for split in ("dev", "test")],
        calibrated=calibration_table(comparison, sheets),
        background=background,
        warnings=comparison.warnings,
        caveats=caveats(comparison, sheets),
        number=number,
    )


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
    if len({cell.seed for cell in best.cells}) == 1:
        told.append(
            "One seed: this run does not say how far the numbers move with another, and a difference may "
            "be one of these two students, not of their training sets."
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


def differences_table(found: Sequence[Difference]) -> Table:
    """Return a row per tested pair: accuracy and macro-F1 in points, and what stands behind p."""
    return [
        {
            "pair": f"{one.one} - {one.other}",
            "accuracy": _gap(one.accuracy, one.accuracy_low, one.accuracy_high),
            "macro-F1": _gap(one.macro_f1, one.macro_f1_low, one.macro_f1_high),
            "only first / only second right": f"{one.only_one} / {one.only_other}",
            "p": p_text(one.p),
            "p (Holm)": p_text(one.p_holm),
            "sd over seeds": DASH if one.sd is None else points(one.sd),
            "could be found": points(one.detectable) if one.detectable else DASH,
        }
        for one in found
    ]


def calibration_table(comparison: Comparison, sheets: Mapping[str, Sheet]) -> Table:
    """Return a row per model with a fit: what scaling and prior adjustment make of it, on test."""
    rows = []
    for name in (row.name for row in comparison.rows if row.kind != "cited"):
        if found := sheets[name].calibrated:
            rows.append(
                {
                    "model": name,
                    "temperature": f"{found.temperature:.2f}",
                    "tau": f"{found.tau:.1f}",
                    **_before_after(found.raw_test, found.test),
                }
            )
    return rows


def _before_after(raw: Reliability, scaled: Reliability) -> dict[str, str]:
    titles = {"accuracy": "accuracy", "macro_f1": "macro-F1", "nll": "NLL", "ece": "ECE"}
    return {
        title: f"{getattr(raw, key):.3f} to {getattr(scaled, key):.3f}"
        for key, title in titles.items()
    }


def _gap(value: float, low: float, high: float) -> str:
    return f"{points(value)} ({points(low)} to {points(high)})"


def details(comparison: Comparison, sheets: Mapping[str, Sheet], split: Split) -> Table:
    """Return a row per model: more of it on dev, or likelihood, calibration and spread on test."""
    names = [row.name for row in comparison.rows if row.kind != "cited"]
    more = _on_dev if split == "dev" else _on_test
    return [{"variant": name, **more(sheets[name])} for name in names]


def _on_dev(sheet: Sheet) -> dict[str, str]:
    return {
        "dev n": str(sheet.dev.n),
        "dev accuracy (95 %)": _of(sheet.dev, "accuracy"),
        "dev macro-F1 (95 %)": _of(sheet.dev, "macro_f1"),
        "dev NLL (95 %)": _of(sheet.dev, "nll"),
    }


def _on_test(sheet: Sheet) -> dict[str, str]:
    spread = sheet.spread
    return {
        "test NLL (95 %)": _of(sheet.test, "nll"),
        "test Brier (95 %)": _of(sheet.test, "brier"),
        "test ECE": number(sheet.test.ece),
        "unanswered": str(sheet.test.unanswered),
        "students": str(spread.cells),
        "test accuracy, mean ± sd": _with_sd(spread.test_accuracy_mean, spread.test_accuracy_sd),
        "test macro-F1, mean ± sd": _with_sd(spread.test_macro_f1_mean, spread.test_macro_f1_sd),
    }


def _of(part: Part, name: str) -> str:
    return with_interval(*(getattr(part, name + end) for end in ("", "_low", "_high")))


def _with_sd(mean: float, sd: float | None) -> str:
    return number(mean) if sd is None else f"{mean:.3f} ± {sd:.3f}"


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
        grid=[(plot.title, markup(plot)) for plot in pictures.grid],
        reliability=[(plot.title, markup(plot)) for plot in pictures.reliability],
        confusions=[(plot.title, markup(plot)) for plot in pictures.confusions],
        curves=[(plot.title, markup(plot)) for plot in pictures.curves],
        style=Markup(svg.style_sheet()),
        **fields,
    )
