"""How texts are cleaned for storage and brought to one form for comparing."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Characters that show nothing and may hide or reorder text: whole categories of Unicode (controls,
# formats, surrogates, private use, unassigned), plus the blanks and selectors that Unicode lists as
# Default_Ignorable_Code_Point outside them, and the marks of an object or a byte that was no text
# (U+FFFC, U+FFFD).
_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn"}
_HIDDEN_RANGES = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2800, 0x2800),  # a blank of Braille: no Default_Ignorable, but as invisible
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xFFFC, 0xFFFD),
    (0xE0100, 0xE01EF),
)
_HIDDEN = {point for low, high in _HIDDEN_RANGES for point in range(low, high + 1)}
_LAYOUT = "\t\n\r"

# Unicode Standard Annex 15, section 13 (stream-safe text): no real text has more marks in a row,
# and normalising longer runs takes time quadratic in their length.
MAX_MARKS_IN_A_ROW = 30

_WORD = re.compile(r"[^\W_]+")


def is_safe(text: str) -> bool:
    """Tell whether every character is one a reader can see, or plain layout."""
    if text.isascii() and text.isprintable():  # most texts, at once
        return True
    marks = 0
    for char in text:
        if char.isascii():
            if not (char.isprintable() or char in _LAYOUT):
                return False
            marks = 0
            continue
        if unicodedata.category(char) in _HIDDEN_CATEGORIES or ord(char) in _HIDDEN:
            return False
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks > MAX_MARKS_IN_A_ROW:
            return False
    return True


def clean(text: str) -> str:
    """Return the form that is stored: Unicode NFC on one line, single spaces, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


@lru_cache(maxsize=4096)  # every rule asks for the words of the same few texts
def words(text: str) -> tuple[str, ...]:
    """Return the words for comparing: NFKC, case folded, without punctuation."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


@lru_cache(maxsize=4096)
def fold(text: str) -> str:
    """Return the form in which two texts count as the same."""
    return " ".join(words(text))


def grams(tokens: tuple[str, ...], size: int) -> frozenset[tuple[str, ...]]:
    """Return the runs of ``size`` words; a shorter text is one run, no words give none."""
    if not tokens:
        return frozenset()
    if len(tokens) < size:
        return frozenset({tokens})
    return frozenset(tokens[start : start + size] for start in range(len(tokens) - size + 1))


def jaccard(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    """Return the share of all runs that both have (Jaccard 1901), 0 for two empty sets."""
    union = len(one | other)
    return len(one & other) / union if union else 0.0
