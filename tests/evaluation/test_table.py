"""The table as Markdown and as text for a terminal."""

from __future__ import annotations

import dataclasses

import pytest

from medslm.evaluation.compare import compare
from medslm.evaluation.table import escape_markdown, markdown, sensitivity, table_text
from tests.evaluation.test_differences import FOUND
from tests.evaluation.worlds import sheet

SHEETS = {
    name: sheet(name, dev=dev, test=0.5)
    for name, dev in {"majority": 0.1, "none": 0.3, "combined": 0.9}.items()
}
PAIRS = [
    dataclasses.replace(FOUND, one="combined", other="none"),
    dataclasses.replace(FOUND, one="combined", other="majority", p_holm=0.001, p=0.001),
]
COMPARISON = compare(
    SHEETS,
    variants=["none", "combined"],
    baselines=["majority"],
    metric="dev.macro_f1",
    differences=PAIRS,
)


def test_the_markdown_table_marks_the_chosen_variant_and_no_other():
    lines = markdown(COMPARISON).splitlines()

    marked = [line for line in lines if line.startswith("|") and "| chosen |" in line]
    assert len(marked) == 1
    assert marked[0].startswith("| combined |")


def test_the_markdown_table_has_as_many_cells_in_every_line():
    lines = [line for line in markdown(COMPARISON).splitlines() if line.startswith("|")]

    assert len(lines) == 2 + 3
    assert {line.count("|") for line in lines} == {9}


def test_warnings_stand_under_both_tables():
    assert COMPARISON.warnings
    for warning in COMPARISON.warnings:
        assert warning in " ".join(table_text(COMPARISON).split())
        assert escape_markdown(warning) in markdown(COMPARISON)


def test_the_sentences_stand_under_both_tables_those_that_are_shown_first():
    for text in (markdown(COMPARISON), " ".join(table_text(COMPARISON).split())):
        first, second = "combined beats majority by", "combined beats none by"
        assert text.index(first) < text.index(second)
        assert "found four times in five" in text
    bare = dataclasses.replace(COMPARISON, differences=())
    assert "beats" not in markdown(bare) + table_text(bare)
    assert sensitivity(bare) == ""
    equal = [dataclasses.replace(d, detectable=0.0) for d in PAIRS]
    assert sensitivity(dataclasses.replace(COMPARISON, differences=tuple(equal))) == ""


def test_the_terminal_table_is_aligned():
    lines = table_text(COMPARISON).split("\n\n")[0].splitlines()

    end = lines[0].index("accuracy (95 %)") + len("accuracy (95 %)")
    for line in lines[2:]:
        assert line[:end].endswith(")"), line
        assert line[end] == " "
        assert "0." in line[:end]


def test_numbers_nobody_gave_are_a_dash_and_a_score_may_stand_without_interval():
    row = dataclasses.replace(COMPARISON.rows[0], f1_maybe=None, accuracy_low=None)
    comparison = dataclasses.replace(COMPARISON, rows=(row,))
    before = markdown(dataclasses.replace(COMPARISON, rows=COMPARISON.rows[:1]))

    assert f"| {row.accuracy:.3f} |" in markdown(comparison)
    assert f"| {row.accuracy:.3f} |" not in before
    assert f"| {row.f1_yes:.3f} / {row.f1_no:.3f} / " in before
    assert markdown(comparison).count(" - |") == before.count(" - |") + 1


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
