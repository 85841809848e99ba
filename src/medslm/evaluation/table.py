"""The comparison as text: Markdown for reports/compare.md, aligned columns for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from medslm.evaluation.differences import points, sentence
from medslm.evaluation.rows import Comparison, Row
from medslm.evaluation.testset import TITLES

DASH = "-"
NOT_COMPARABLE = "Other questions: no number above may be compared with these."


class Column(NamedTuple):
    """A column's heading and whether its cells are numbers, which stand to the right."""

    title: str
    is_number: bool


def columns(metric: str) -> tuple[Column, ...]:
    """Return the table's columns, the choosing metric among them by its name."""
    return (
        Column("variant", False),
        Column("n", True),
        Column("accuracy (95 %)", True),
        Column("macro-F1 (95 %)", True),
        Column("F1 yes / no / maybe", True),
        Column(f"{metric} (95 %)", True),
        Column("over its control", True),
        Column("", False),
    )


def cells(row: Row, *, chosen: str) -> tuple[str, ...]:
    """Return a row's cells as text, three decimals, in the order of `columns`."""
    return (
        row.name,
        str(row.n),
        with_interval(row.accuracy, row.accuracy_low, row.accuracy_high),
        with_interval(row.macro_f1, row.macro_f1_low, row.macro_f1_high),
        by_answer(row),
        with_interval(row.dev, row.dev_low, row.dev_high),
        gain(row),
        "chosen" if row.name == chosen and row.kind == "variant" else mark(row),
    )


def mark(row: Row) -> str:
    """Return what kind of line this is, nothing for a trained variant."""
    return "" if row.kind == "variant" else row.kind


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return a score and its interval, or the score alone if nobody gave one."""
    if low is None or high is None:
        return number(value)
    return f"{number(value)} ({number(low)} to {number(high)})"


def by_answer(row: Row) -> str:
    """Return the F1 of yes, no and maybe, or a dash where nobody gave them."""
    scores = (row.f1_yes, row.f1_no, row.f1_maybe)
    return DASH if None in scores else " / ".join(number(score) for score in scores)


def gain(row: Row) -> str:
    """Return the points of accuracy over the variant of as many steps, or a dash without one."""
    if row.gain is None or row.gain_low is None or row.gain_high is None:
        return DASH
    return f"{points(row.gain)} ({points(row.gain_low)} to {points(row.gain_high)})"


def tested(comparison: Comparison) -> list[str]:
    """Return a sentence per tested difference, those that are shown first."""
    ordered = sorted(
        comparison.differences, key=lambda d: (not d.is_shown_over_seeds, not d.is_shown)
    )
    return [f"{sentence(found)}." for found in ordered]


def sensitivity(comparison: Comparison) -> str:
    """Return what this test set can show at all; empty when nothing was tested."""
    found = [d.detectable for d in comparison.differences if d.detectable]
    if not found:
        return ""
    low, high = points(min(found)), points(max(found))
    span = low if low == high else f"{low} to {high}"
    several = max(d.students for d in comparison.differences) > 1
    pooled = " Means over students; the table pools their answers first." if several else ""
    return (
        f"Accuracy on test; p by the exact sign-flip test (McNemar's with one student), corrected for "
        f"{len(comparison.differences)} tests by Holm's method. Shown: below .05, and over several seeds "
        "more than these spread (Student's t). With n = "
        f"{comparison.differences[0].n} and answers that differ as these do, a true difference of {span} "
        f"points would be found four times in five, that correction counted.{pooled}"
    )


def published_elsewhere(comparison: Comparison) -> list[str]:
    """Return a line per published result of another test set."""
    return [
        f"{row.name}: accuracy {number(row.accuracy)}, macro-F1 {number(row.macro_f1)} "
        f"on {TITLES[row.test_set]}"
        for row in comparison.elsewhere
    ]


def number(value: float | None) -> str:
    """Return three decimals, or a dash for a number that nobody gave."""
    return DASH if value is None else f"{value:.3f}"


def markdown(comparison: Comparison) -> str:
    """Return the table with its caption and warnings as a Markdown page; every field is escaped."""
    head = columns(comparison.metric)
    body = [[escape_markdown(cell) for cell in line] for line in _body(comparison)]
    lines = [
        "# Comparison",
        "",
        _pipes([escape_markdown(column.title) for column in head]),
        _pipes(["---:" if column.is_number else "---" for column in head]),
        *(_pipes(line) for line in body),
        "",
        escape_markdown(caption(comparison)),
    ]
    for warning in comparison.warnings:
        lines += ["", f"Warning: {escape_markdown(warning)}"]
    if told := tested(comparison):
        lines += ["", "## Differences", "", *(f"- {escape_markdown(one)}" for one in told)]
        lines += ["", escape_markdown(sensitivity(comparison))]
    if others := published_elsewhere(comparison):
        lines += ["", "## Published on another test set", "", NOT_COMPARABLE, ""]
        lines += [f"- {escape_markdown(one)}" for one in others]
    return "\n".join(lines) + "\n"


def table_text(comparison: Comparison) -> str:
    """Return the table with its caption and warnings, aligned for a fixed-width font."""
    head = columns(comparison.metric)
    grid = [[column.title for column in head], *_body(comparison)]
    widths = [max(len(line[i]) for line in grid) for i in range(len(head))]
    rule = ["-" * width for width in widths]
    lines = [_aligned(line, widths, head) for line in (grid[0], rule, *grid[1:])]
    notes = [caption(comparison), *comparison.warnings]
    blocks = [notes, [*tested(comparison), sensitivity(comparison)]]
    if others := published_elsewhere(comparison):
        blocks.append([NOT_COMPARABLE, *others])
    for block in blocks:
        lines += ["", *(textwrap.fill(note, 100) for note in block if note)]
    return "\n".join(lines).rstrip()


def caption(comparison: Comparison) -> str:
    """Return the sentence under the table that says how the choice was made."""
    best = "lowest" if comparison.metric == "dev.nll" else "highest"
    return (
        f"Chosen: {comparison.chosen}, which has the {best} {comparison.metric} of the trained "
        f"variants (n = {comparison.dev_n} dev questions). The other columns are on test "
        f"({TITLES[comparison.test_set]}), which has no part in the choice."
    )


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it stands: no markup, link, HTML or table cell."""
    flat = " ".join(text.split())
    escaped = "".join("\\" + char if char in "\\`*_[]|~#" else char for char in flat)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _body(comparison: Comparison) -> list[list[str]]:
    return [list(cells(row, chosen=comparison.chosen)) for row in comparison.rows]


def _pipes(line: Sequence[str]) -> str:
    return f"| {' | '.join(line)} |"


def _aligned(line: Sequence[str], widths: Sequence[int], head: Sequence[Column]) -> str:
    padded = [
        cell.rjust(width) if column.is_number else cell.ljust(width)
        for cell, width, column in zip(line, widths, head, strict=True)
    ]
    return "  ".join(padded).rstrip()
