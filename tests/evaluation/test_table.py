"""The table as Markdown and as text for a terminal."""

from __future__ import annotations

import dataclasses

import pytest

from medslm.evaluation.compare import compare
from medslm.evaluation.table import escape_markdown, markdown, table_text
from tests.evaluation.worlds import sheet

SHEETS = {
    name: sheet(name, dev=dev, test=0.5)
    for name, dev in {"majority": 0.1, "none": 0.3, "combined": 0.9}.items()
}
COMPARISON = compare(
    SHEETS, variants=["none", "combined"], baselines=["majority"], metric="dev.macro_f1"
)


def test_the_markdown_table_marks_the_chosen_variant_and_no_other():
    lines = markdown(COMPARISON).splitlines()

    marked = [line for line in lines if line.startswith("|") and "| chosen |" in line]
    assert len(marked) == 1
    assert marked[0].startswith("| combined |")


def test_the_markdown_table_has_as_many_cells_in_every_line():
    lines = [line for line in markdown(COMPARISON).splitlines() if line.startswith("|")]

    assert len(lines) == 2 + 3
    assert {line.count("|") for line in lines} == {13}


def test_warnings_stand_under_both_tables():
    assert COMPARISON.warnings
    for warning in COMPARISON.warnings:
        assert warning in " ".join(table_text(COMPARISON).split())
        assert escape_markdown(warning) in markdown(COMPARISON)


def test_the_terminal_table_is_aligned():
    lines = table_text(COMPARISON).split("\n\n")[0].splitlines()

    column = lines[0].index("accuracy") + len("accuracy")
    for line in lines[2:]:
        assert line[column - 5 : column].startswith("0."), line
        assert line[column] == " "


def test_numbers_nobody_gave_are_a_dash():
    row = dataclasses.replace(COMPARISON.rows[0], f1_maybe=None, accuracy_low=None)
    comparison = dataclasses.replace(COMPARISON, rows=(row,))

    without = markdown(dataclasses.replace(COMPARISON, rows=COMPARISON.rows[:1]))

    # the row, its interval, and no control; the pattern takes every other dash of neighbours
    assert markdown(comparison).count(" - |") == without.count(" - |") + 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("<script>x</script>", "&lt;script&gt;x&lt;/script&gt;"),
        ("[x](javascript:y)", "\\[x\\](javascript:y)"),
        ("![x](y)", "!\\[x\\](y)"),
        ("two\nlines", "two lines"),
        ("plain-name", "plain-name"),
    ],
)
def test_markdown_shows_a_text_as_it_stands(text, shown):
    assert escape_markdown(text) == shown
