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
    """An indexed text by its number, how much of the asked one it has, and how many runs that are.

    ``held`` is how much of the indexed text stands in the asked one: all of it, where a short text
    is quoted in a long one, of which it is a small share.
    """

    number: int
    share: float
    held: float
    runs: int


class RunIndex:
    """Finds long runs of words again, wherever in the indexed texts they stand."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Index the eight-word runs of every text."""
        self._holders: defaultdict[str, list[int]] = defaultdict(list)
        self._sizes: list[int] = []
        for number, text in enumerate(texts):
            runs = set(_runs(text))
            self._sizes.append(len(runs))
            for run in runs:
                self._holders[run].append(number)

    def near(self, text: str, bound: float, held: float) -> Iterator[Near]:
        """Yield the indexed texts that have ``bound`` of the text's runs, or ``held`` of theirs in it."""
        runs = set(_runs(text))
        shared = Counter(number for run in runs for number in self._holders.get(run, ()))
        for number, count in shared.items():
            size = self._sizes[number]
            if count >= bound * len(runs) or count >= held * size:
                yield Near(number, count / len(runs), count / size, count)


class WholeIndex:
    """Finds short texts again that stand word for word in another; they have too few runs to count."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Index texts by their words; one without any is nowhere."""
        self._numbers: defaultdict[int, defaultdict[tuple[str, ...], list[int]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for number, text in enumerate(texts):
            if tokens := words(text):
                self._numbers[len(tokens)][tokens].append(number)

    def within(self, text: str) -> Iterator[int]:
        """Yield the numbers of the indexed texts that are consecutive words of this one."""
        tokens = words(text)
        for size, known in self._numbers.items():
            there = {tokens[start : start + size] for start in range(len(tokens) - size + 1)}
            for run in there & known.keys():
                yield from known[run]


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
                yield Near(number, share, both / len(known), both)

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
