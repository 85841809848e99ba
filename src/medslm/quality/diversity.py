"""How varied texts are: distinct-n, self-BLEU, word edits to the source, lengths, spread of vectors.

Every number is exact and costs time in proportion to the words. All of them but edits and lengths
change with the number of texts: compare groups of the same size, which a sample gives.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np

Tokens = tuple[str, ...]
_Gram = tuple[str, ...]
T = TypeVar("T")

DIGITS = 6
BLEU_ORDER = 4


def sampled(texts: Mapping[str, T], size: int | None) -> dict[str, T]:
    """Return the ``size`` texts whose id has the smallest SHA-256, all without a size; sorted by id."""
    ranked = sorted(texts, key=lambda name: hashlib.sha256(name.encode()).digest())
    return {name: texts[name] for name in sorted(ranked[:size])}


def distinct(texts: Sequence[Tokens], n: int) -> float | None:
    """Return the share of distinct n-grams among all (Li et al. 2016, arXiv 1510.03055).

    None if there is no n-gram at all.
    """
    found = Counter(gram for text in texts for gram in _grams(text, n))
    return _rounded(len(found) / found.total()) if found else None


def self_bleu(texts: Sequence[Tokens]) -> float | None:
    """Return the mean BLEU-4 of every text against all others (Zhu et al. 2018, arXiv 1802.01886).

    0: no two texts share a word; 1: each is said elsewhere. Above single words one is added to
    matches and to n-grams (Lin & Och 2004), since short texts often share no run of four; a text
    without any run of some length is judged by the shorter ones. None for fewer than two texts and
    for texts without words.

    A text is compared with all others without comparing pairs: of every n-gram the two highest
    counts in one text are enough to know the highest in another one.
    """
    spoken = [text for text in texts if text]
    if len(spoken) < 2:
        return None
    highest = [_highest(spoken, n) for n in range(1, BLEU_ORDER + 1)]
    lengths = Counter(len(text) for text in spoken)
    scores = [_bleu(number, text, highest, lengths) for number, text in enumerate(spoken)]
    return _rounded(math.fsum(scores) / len(scores))


def edit_distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Return how many insertions, deletions and exchanges turn one sequence into the other.

    Bits of one integer are a column of the table (Myers 1999, doi 10.1145/316542.316550, in the
    form of Hyyrö 2003), which makes abstracts as cheap as questions.
    """
    if not one:
        return len(other)
    places: defaultdict[Hashable, int] = defaultdict(int)
    for place, item in enumerate(one):
        places[item] |= 1 << place
    whole, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    up, down, score = whole, 0, len(one)
    for item in other:
        match = places.get(item, 0)
        same = match | down
        across = (((match & up) + up) ^ up) | match
        higher, lower = down | (~(across | up) & whole), up & across
        score += bool(higher & last) - bool(lower & last)
        higher, lower = ((higher << 1) | 1) & whole, (lower << 1) & whole
        up, down = lower | (~(same | higher) & whole), higher & same
    return score


def edit_share(one: Tokens, other: Tokens) -> float:
    """Return the edit distance as a share of the longer one; 0 for two empty ones."""
    longer = max(len(one), len(other))
    return edit_distance(one, other) / longer if longer else 0.0


def histogram(values: Iterable[int], width: int) -> dict[int, int]:
    """Return how many values fall into each bin by its lower bound, empty bins in between included."""
    found = Counter(value // width * width for value in values)
    if not found:
        return {}
    return {low: found[low] for low in range(min(found), max(found) + 1, width)}


def quartiles(values: Sequence[float]) -> dict[str, Any]:
    """Return n, mean, and the values at 25, 50 and 75 % (the lower of two); None without values."""
    ranked = sorted(values)
    at = {"q25": 0.25, "median": 0.5, "q75": 0.75}
    found = {
        name: _rounded(ranked[math.ceil(share * len(ranked)) - 1]) if ranked else None
        for name, share in at.items()
    }
    mean = _rounded(math.fsum(ranked) / len(ranked)) if ranked else None
    return {"n": len(ranked), "mean": mean, **found}


def spread(vectors: np.ndarray[Any, np.dtype[np.float32]]) -> float | None:
    """Return the mean cosine distance between two of these unit vectors; None for fewer than two.

    The sum over all pairs follows from the length of the sum of the vectors.
    """
    count = len(vectors)
    if count < 2:
        return None
    total = vectors.astype("float64").sum(axis=0)
    similarity = (float(total @ total) - count) / (count * (count - 1))
    return _rounded(1 - similarity)


def _highest(texts: Sequence[Tokens], n: int) -> dict[_Gram, tuple[int, int, int]]:
    """Return of every n-gram its highest count in one text, which text that is, and the second highest."""
    found: dict[_Gram, tuple[int, int, int]] = {}
    for number, text in enumerate(texts):
        for gram, count in Counter(_grams(text, n)).items():
            first, holder, second = found.get(gram, (0, -1, 0))
            if count > first:
                found[gram] = (count, number, first)
            elif count > second:
                found[gram] = (first, holder, count)
    return found


def _bleu(
    number: int,
    text: Tokens,
    highest: Sequence[Mapping[_Gram, tuple[int, int, int]]],
    lengths: Counter[int],
) -> float:
    logs = []
    for order, counts in enumerate(highest, start=1):
        own = Counter(_grams(text, order))
        if not own:
            break
        matched = 0
        for gram, count in own.items():
            first, holder, second = counts[gram]
            matched += min(count, second if holder == number else first)
        added = int(order > 1)
        if matched + added == 0:
            return 0.0
        logs.append(math.log((matched + added) / (own.total() + added)))
    return _brevity(len(text), lengths) * math.exp(math.fsum(logs) / len(logs))


def _brevity(length: int, lengths: Counter[int]) -> float:
    """Return the penalty for a text shorter than the other whose length is closest; of two, the shorter."""
    if lengths[length] > 1:
        return 1.0
    ranked = sorted(lengths)
    place = bisect_left(ranked, length)
    below = ranked[place - 1] if place else None
    above = ranked[place + 1] if place + 1 < len(ranked) else None
    if above is None or (below is not None and length - below <= above - length):
        return 1.0
    return math.exp(1 - above / length)


def _grams(tokens: Tokens, n: int) -> list[_Gram]:
    return [tokens[start : start + n] for start in range(len(tokens) - n + 1)]


def _rounded(value: float) -> float:
    return round(value, DIGITS)
