"""Indexes of many texts that answer which of them another text repeats, and how much of it."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from medslm.quality.text import fold, words

RUN = 8  # words; see leakage.GRAM
LETTERS = 5  # long enough to be rare, short enough to live through another ending of a word

# MinHash only proposes, the letters themselves decide: so 64 values do, and bands are cut so that
# a text right at the bound is passed over once in a thousand times.
_PERMUTATIONS = 64
_MISSED = 0.001
_SEED = 1


class Near(NamedTuple):
    """An indexed text by its number, how much is shared (0 to 1), and how many runs that are."""

    number: int
    share: float
    runs: int


class RunIndex:
    """Finds long runs of words again, wherever in the indexed texts they stand."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Index the eight-word runs of every text."""
        self._holders: defaultdict[str, list[int]] = defaultdict(list)
        for number, text in enumerate(texts):
            for run in set(_runs(text)):
                self._holders[run].append(number)

    def near(self, text: str, bound: float) -> Iterator[Near]:
        """Yield the indexed texts that hold at least ``bound`` of the text's eight-word runs."""
        runs = set(_runs(text))
        shared = Counter(number for run in runs for number in self._holders.get(run, ()))
        for number, count in shared.items():
            if count >= bound * len(runs):
                yield Near(number, count / len(runs), count)


class LetterIndex:
    """Finds texts that say the same with a word exchanged, by MinHash and then letter by letter."""

    def __init__(self, texts: Sequence[str], bound: float) -> None:
        """Index texts; those with a Jaccard index of ``bound`` or more are to be found."""
        from datasketch import MinHashLSH

        self._bound = bound
        self._letters = [letters(text) for text in texts]
        self._empty = _empty_sketch()
        self._proposals = MinHashLSH(num_perm=_PERMUTATIONS, params=bands(bound))
        for number, found in enumerate(self._letters):
            if found:
                self._proposals.insert(number, self._sketch(found))

    def near(self, text: str) -> Iterator[Near]:
        """Yield the indexed texts whose letters overlap with the text's by the bound or more."""
        asked = letters(text)
        if not asked:
            return
        for number in self._proposals.query(self._sketch(asked)):
            known = self._letters[number]
            both = len(asked & known)
            share = both / (len(asked) + len(known) - both)
            if share >= self._bound:
                yield Near(number, share, both)

    def _sketch(self, found: frozenset[str]) -> Any:
        sketch = self._empty.copy()  # a new one would draw its permutations anew
        sketch.update_batch([run.encode("utf-8", "surrogatepass") for run in found])
        return sketch


def bands(bound: float) -> tuple[int, int]:
    """Return into how many bands of how many values a sketch is cut: the longest that miss little."""
    good = [
        (_PERMUTATIONS // rows, rows)
        for rows in range(1, _PERMUTATIONS // 2 + 1)
        if (1 - bound**rows) ** (_PERMUTATIONS // rows) <= _MISSED
    ]
    return good[-1] if good else (_PERMUTATIONS, 1)


def letters(text: str) -> frozenset[str]:
    """Return the runs of five letters of a text in its form for comparing, blanks included."""
    folded = f" {fold(text)} "
    if len(folded) <= 2:
        return frozenset()
    return frozenset(
        folded[start : start + LETTERS] for start in range(max(1, len(folded) - LETTERS + 1))
    )


def _runs(text: str) -> list[str]:
    """Return the runs of eight words; a shorter text has none, since it may be common speech."""
    tokens = words(text)
    return [" ".join(tokens[start : start + RUN]) for start in range(len(tokens) - RUN + 1)]


def _empty_sketch() -> Any:
    """Return a MinHash of nothing. CRC-32 spreads well enough: datasketch mixes its values again."""
    from datasketch import MinHash

    return MinHash(num_perm=_PERMUTATIONS, seed=_SEED, hashfunc=zlib.crc32)
