"""What pairs about one abstract are to each other: the same question twice, or two answers to one."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from medslm.data.records import Pair
from medslm.quality.rules import Drop
from medslm.quality.text import fold, grams, words
from medslm.quality.wording import SAME_QUESTION_GRAM, near_identical, same_content, stems


def contradicting(pairs: Iterable[Pair], bound: float) -> set[str]:
    """Return the ids of near-identical questions of one abstract that claim different answers.

    Near-identical is strict about the order of words: "Is A better than B?" and "Is B better than
    A?" may well have different answers.
    """
    found: set[str] = set()
    for siblings in _by_abstract(pairs).values():
        if len({pair.answer for pair in siblings}) < 2:
            continue
        runs = [grams(words(pair.question), SAME_QUESTION_GRAM) for pair in siblings]
        for i, j in _candidates(runs, bound):
            one, other = siblings[i], siblings[j]
            if one.answer != other.answer and near_identical(
                words(one.question), words(other.question), bound
            ):
                found |= {one.id, other.id}
    return found


def repeating(
    pairs: Iterable[Pair], bound: float, rank: Callable[[Pair], tuple[object, ...]]
) -> dict[str, Drop]:
    """Return why pairs are dropped that ask what another one of their abstract asks.

    Of equal questions, and of those with one answer whose content words overlap by ``bound``, the
    one of the lowest rank stays: pairs are taken by rank, and each that repeats one taken before is
    dropped. The rank belongs to the pair, so the order of the pairs changes nothing; and what was
    kept repeats nothing.
    """
    found: dict[str, Drop] = {}
    for siblings in _by_abstract(pairs).values():
        ranked = sorted(siblings, key=rank)
        close = _same(ranked, bound)
        kept: set[int] = set()
        for number, pair in enumerate(ranked):
            earlier = {other: why for other, why in close[number].items() if other in kept}
            if not earlier:
                kept.add(number)
            elif Drop.DUPLICATE in earlier.values():
                found[pair.id] = Drop.DUPLICATE
            else:
                found[pair.id] = Drop.NEAR_DUPLICATE
    return found


def _same(ranked: Sequence[Pair], bound: float) -> Mapping[int, dict[int, Drop]]:
    """Return for every pair the earlier ones that it repeats, and how."""
    close: defaultdict[int, dict[int, Drop]] = defaultdict(dict)
    for i, j in _candidates([stems(pair.question) for pair in ranked], bound):
        one, other = ranked[i], ranked[j]
        if one.answer == other.answer and same_content(one.question, other.question, bound):
            close[j][i] = Drop.NEAR_DUPLICATE
    first: defaultdict[str, list[int]] = defaultdict(list)
    for number, pair in enumerate(ranked):
        for earlier in first[fold(pair.question)]:
            close[number][earlier] = Drop.DUPLICATE
        first[fold(pair.question)].append(number)
    return close


def _candidates(sets: Sequence[AbstractSet[Hashable]], bound: float) -> Iterator[tuple[int, int]]:
    """Yield the places i < j of sets whose Jaccard index may be ``bound`` or more.

    Two such sets share one of the first n - ceil(bound n) + 1 of their n members, rarest first
    (prefix filter, Chaudhuri et al. 2006), so that most are never compared.
    """
    times = Counter(member for members in sets for member in members)
    holders: defaultdict[Hashable, list[int]] = defaultdict(list)
    for j, members in enumerate(sets):
        rarest = sorted(members, key=lambda member: (times[member], str(member)))
        prefix = rarest[: len(rarest) - math.ceil(bound * len(rarest)) + 1]
        for i in sorted({i for member in prefix for i in holders[member]}):
            yield i, j
        for member in prefix:
            holders[member].append(j)


def _by_abstract(pairs: Iterable[Pair]) -> dict[tuple[str, str | None], list[Pair]]:
    """Group pairs that are about the same text: a source, or the same edit of it."""
    groups: defaultdict[tuple[str, str | None], list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[pair.pmid, pair.context].append(pair)
    return groups
