"""What the rules measure in a text: phrases, content words, numbers, and how alike two are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from medslm.quality import lexicon
from medslm.quality.meaning import denies
from medslm.quality.text import fold, grams, jaccard, words

SAME_QUESTION_GRAM = 3  # runs of three words: order counts, one exchanged word costs three runs

_STEM = 5  # letters; enough to match reduce, reduced and reduction
_CONTENT_WORD = 4  # letters; shorter words are mostly grammar


def near_identical(one: tuple[str, ...], other: tuple[str, ...], bound: float) -> bool:
    """Tell whether two texts have the same words, or share ``bound`` of their three-word runs."""
    if one == other:
        return True
    overlap = jaccard(grams(one, SAME_QUESTION_GRAM), grams(other, SAME_QUESTION_GRAM))
    return overlap >= bound


def has_phrase(text: str, phrases: tuple[str, ...]) -> bool:
    """Tell whether one of the phrases stands in the text, whatever the case and punctuation."""
    folded = f" {fold(text)} "
    return any(f" {phrase} " in folded for phrase in phrases)


@lru_cache(maxsize=2048)
def stems(text: str) -> frozenset[str]:
    """Return the beginnings of the words that carry content."""
    return frozenset(
        word[:_STEM] for word in words(text) if len(word) >= _CONTENT_WORD or word.isdigit()
    )


def same_content(one: str, other: str, bound: float) -> bool:
    """Tell whether two texts share ``bound`` of their content words, all numbers, and denial.

    Order does not count: "Does X reduce Y?" and "Is Y reduced by X?" ask the same.
    """
    a, b = stems(one), stems(other)
    return (
        len(a & b) >= bound * len(a | b)
        and numbers(one) == numbers(other)
        and denies(one) == denies(other)
    )


@lru_cache(maxsize=2048)
def numbers(text: str) -> frozenset[str]:
    """Return every number of the text in one form, whether in digits or in words."""
    return _in_digits(text) | _said(text, lexicon.NUMBER_WORDS)


@lru_cache(maxsize=2048)
def cardinals(text: str) -> frozenset[str]:
    """Return the numbers of the text that count: in digits, or "two", "twice"."""
    return _in_digits(text) | _said(text, lexicon.CARDINALS)


def ordinals(text: str) -> frozenset[str]:
    """Return the numbers of the text that rank, in words: "second" is 2."""
    return _said(text, lexicon.ORDINALS)


def exchanged(one: frozenset[str], other: frozenset[str]) -> bool:
    """Tell whether each has something that the other lacks, so that one thing stands for another."""
    return bool(one - other and other - one)


def plain_number(number: str) -> str:
    """Return a number without thousands commas and trailing zeros: 1,200 is 1200, 4.10 is 4.1."""
    head, comma, tail = number.rpartition(",")
    text = number.replace(",", "") if len(tail) == 3 or not comma else f"{head}.{tail}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _in_digits(text: str) -> frozenset[str]:
    return frozenset(plain_number(found) for found in lexicon.NUMBER.findall(text))


def _said(text: str, values: Mapping[str, str]) -> frozenset[str]:
    return frozenset(values[word] for word in words(text) if word in values)
