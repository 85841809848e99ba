"""A model card says what the run says, fits MLflow's page, and carries no markup of others."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from medslm.tracking.adapters import Student
from medslm.tracking.card import MAX_DESCRIPTION, card_text, description
from medslm.tracking.record import Input, Record

STUDENT = Student("base", None, "b" * 64, "float32", "prompt-v1", ("yes", "no", "maybe"), 64, 4)
RECORD = Record(
    name="new",
    kind="variant",
    fingerprint="f" * 64,
    params={"tune.lr": "0.001"},
    metrics={"dev.macro_f1": 0.5, "test.macro_f1": 0.4, "test.n": 500.0},
    curve=(),
    inputs=(Input("mix-new", "data/mix/new.jsonl", "0" * 32, "train"),),
    texts={},
)
ODD = "<script>alert(1)</script> [x](javascript:alert(1)) `</code>` | <img src=x onerror=y>"


def test_scores_of_both_splits_stand_side_by_side_and_what_is_missing_stays_empty():
    card = card_text(RECORD, STUDENT, 1, [])

    assert "| macro_f1 | 0.5 | 0.4 |" in card
    assert "| n |  | 500 |" in card
    assert "one adapter." in card
    assert card == card_text(RECORD, STUDENT, 1, [])


def test_text_of_others_is_shown_and_makes_no_element():
    odd = dataclasses.replace(RECORD, name=ODD, params={ODD: ODD})

    page = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .render(
            card_text(odd, dataclasses.replace(STUDENT, base_model=ODD, quantize=None), 1, [ODD])
        )
    )

    assert "<script" not in page
    assert "<img" not in page
    assert "href" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5
    assert "<table>" in page  # control: what is ours is markup


@given(st.text(max_size=200))
def test_no_value_ends_its_line_or_its_code_span(value):
    card = card_text(dataclasses.replace(RECORD, params={"a": value}), STUDENT, 1, [])

    [line] = [line for line in card.split("\n") if line.startswith("- `a`: ")]
    assert line.count("`") == 4


@pytest.mark.parametrize("count", [1, 1000])
def test_a_description_is_whole_or_cut_at_a_line_and_says_so(count):
    card = card_text(
        dataclasses.replace(RECORD, params={f"k{i}": "v" for i in range(count)}), STUDENT, 1, []
    )

    text = description(card)

    assert len(text) <= MAX_DESCRIPTION
    assert (text == card) == (count == 1)
    if count > 1:
        kept, end = text.split("\n(cut; ")
        assert card.startswith(kept + "\n")
        assert "README.md" in end
