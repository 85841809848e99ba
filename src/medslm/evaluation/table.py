"""The comparison as text: Markdown for reports/compare.md, aligned columns for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from medslm.evaluation.compare import Comparison, Row

DASH = "-"


class Column(NamedTuple):
    """A column's heading and whether its cells are numbers, which stand to the right."""

    title: str
    is_number: bool


def columns(metric: str) -> tuple[Column, ...]:
    """Return the table's columns, the choosing metric among them by its name."""
    return (
        Column("variant", False),
        Column("n", True),
        Column("accuracy", True),
        Column("95 % interval", True),
        Column("macro-F1", True),
        Column("F1 yes", True),
        Column("F1 no", True),
        Column("F1 maybe", True),
        Column(metric, True),
        Column("", False),
    )


def cells(row: Row, *, chosen: str) -> tuple[str, ...]:
    """Return a row's cells as text, three decimals, in the order of `columns`."""
    interval = DASH
    if row.accuracy_low is not None and row.accuracy_high is not None:
        interval = f"{row.accuracy_low:.3f} to {row.accuracy_high:.3f}"
    return (
        row.name,
        str(row.n),
        number(row.accuracy),
        interval,
        number(row.macro_f1),
        number(row.f1_yes),
        number(row.f1_no),
        number(row.f1_maybe),
        number(row.dev),
        "chosen" if row.name == chosen and row.kind == "variant" else mark(row),
    )


def mark(row: Row) -> str:
    """Return what kind of line this is, nothing for a trained variant."""
    return "" if row.kind == "variant" else row.kind


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
    return "\n".join(lines) + "\n"


def table_text(comparison: Comparison) -> str:
    """Return the table with its caption and warnings, aligned for a fixed-width font."""
    head = columns(comparison.metric)
    grid = [[column.title for column in head], *_body(comparison)]
    widths = [max(len(line[i]) for line in grid) for i in range(len(head))]
    rule = ["-" * width for width in widths]
    lines = [_aligned(line, widths, head) for line in (grid[0], rule, *grid[1:])]
    notes = [textwrap.fill(note, 100) for note in (caption(comparison), *comparison.warnings)]
    return "\n".join([*lines, "", *notes])


def caption(comparison: Comparison) -> str:
    """Return the sentence under the table that says how the choice was made."""
    best = "lowest" if comparison.metric == "dev.nll" else "highest"
    return (
        f"Chosen: {comparison.chosen}, which has the {best} {comparison.metric} of the trained "
        f"variants (n = {comparison.dev_n} dev questions). The other columns are on test, which "
        "has no part in the choice."
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
