"""Texts are cleaned and compared the same way everywhere."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.quality.text import clean, fold, grams, is_safe, jaccard, words


@pytest.mark.parametrize(
    "hidden",
    [
        "\x00",
        "\x1b",
        "\x0b",
        "\x85",
        "\u00ad",
        "\u200b",
        "\u200d",
        "\u202e",
        "\u2066",
        "\u2060",
        "\ufeff",
        "\U000e0041",
        "\ue000",
        "\ufffd",
        "\ufe0f",
        "\u3164",
        "\U000e0101",
    ],
)
def test_a_character_that_shows_nothing_is_not_safe(hidden):
    assert not is_safe(f"Is it{hidden} safe?")


@pytest.mark.parametrize(
    "text",
    [
        "Is IL-6 high?",
        "a\tb\r\nc",
        "d\u00e9j\u00e0 e\u0301",
        "5\u2009mg\u00a0\u00b5",
        "p\u202f<\u2029x",
        "\u03b1\u2265\u4e2d",
    ],
)
def test_text_that_real_abstracts_hold_is_safe(text):
    assert is_safe(text)


def test_a_lone_surrogate_is_not_safe():
    assert not is_safe("Is it\ud800 safe?")


def test_a_long_run_of_marks_is_not_safe_but_an_accent_is():
    assert not is_safe("a" + "\u0301" * 31)
    assert is_safe("a" + "\u0301" * 30)


def test_runs_of_marks_are_refused_before_they_cost_time():
    started = time.monotonic()

    assert not is_safe("a" + "\u0301\u0323" * 25_000)
    assert time.monotonic() - started < 1


@given(st.text())
def test_cleaning_twice_is_cleaning_once(text):
    once = clean(text)

    assert clean(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert "\n" not in once
    assert "  " not in once


def test_texts_compare_equal_whatever_their_case_width_and_punctuation():
    assert fold("Is  Vitamin-D\u00a0useful?") == fold("is vitamin d USEFUL")
    assert fold("\uff21spirin") == fold("aspirin")
    assert fold("Is vitamin C useful?") != fold("Is vitamin D useful?")


def test_runs_of_words_overlap_as_far_as_texts_do():
    one, other = words("a b c d"), words("a b c e")

    assert grams(one, 3) == {("a", "b", "c"), ("b", "c", "d")}
    assert jaccard(grams(one, 3), grams(other, 3)) == pytest.approx(1 / 3)
    assert jaccard(grams(one, 3), grams(one, 3)) == 1
    assert grams(("a",), 3) == {("a",)}
    assert jaccard(grams((), 3), grams((), 3)) == 0
