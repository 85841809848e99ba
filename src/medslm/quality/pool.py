"""The kept pairs of all asks as one pool: no question twice, no two answers to one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from medslm.data.records import ANSWERS, Dropped, Pair
from medslm.errors import DataError
from medslm.quality.rules import Drop
from medslm.quality.siblings import contradicting, repeating


class Pooled(NamedTuple):
    """Every pair once: kept ones by ask in their order, dropped ones by id."""

    kept: dict[str, list[Pair]]
    dropped: list[Dropped]


def pool(
    checked: Mapping[str, Sequence[Pair]],
    *,
    near_identical: float,
    near_duplicate: float,
    doubted: AbstractSet[str],
) -> Pooled:
    """Drop what repeats or contradicts a pair of any ask, whoever the teacher was.

    ``doubted`` are ids whose label something else found wrong; they go first, so that a doubted pair
    neither contradicts a good one nor takes its place. Where pairs contradict each other all go: it
    is not known which is right. Of twins the one with the smaller hash of its id stays: the order of
    asks and pairs changes nothing, and no ask wins by its name. Pooling what was kept keeps it all.
    """
    pairs = [pair for ask in sorted(checked) for pair in checked[ask]]
    _require_unique(pairs)
    why = {pair.id: Drop.DOUBTED_LABEL for pair in pairs if pair.id in doubted}
    trusted = [pair for pair in pairs if pair.id not in why]
    why |= dict.fromkeys(contradicting(trusted, near_identical), Drop.CONTRADICTION)
    agreed = [pair for pair in pairs if pair.id not in why]
    why |= repeating(agreed, near_duplicate, _rank)
    kept = {ask: [pair for pair in of_ask if pair.id not in why] for ask, of_ask in checked.items()}
    gone = sorted((pair for pair in pairs if pair.id in why), key=lambda pair: pair.id)
    return Pooled(kept, [Dropped(pair, (why[pair.id].value,)) for pair in gone])


def counts_of(checked: Mapping[str, Sequence[Pair]], pooled: Pooled) -> dict[str, Any]:
    """Return the numbers that go to git, per ask and over all: checked = kept + dropped."""
    gone: dict[str, Counter[str]] = {ask: Counter() for ask in checked}
    ask_of = {pair.id: ask for ask, pairs in checked.items() for pair in pairs}
    for row in pooled.dropped:
        gone[ask_of[row.pair.id]].update(row.reasons)
    asks = {
        ask: {
            "checked": len(checked[ask]),
            "kept": len(pooled.kept[ask]),
            "dropped": len(checked[ask]) - len(pooled.kept[ask]),
            "reasons": dict(sorted(gone[ask].items())),
            "answers": _answers(pooled.kept[ask]),
        }
        for ask in sorted(checked)
    }
    return {
        "checked": sum(len(pairs) for pairs in checked.values()),
        "kept": sum(len(pairs) for pairs in pooled.kept.values()),
        "dropped": len(pooled.dropped),
        "asks": asks,
    }


def _rank(pair: Pair) -> tuple[object, ...]:
    return hashlib.sha256(pair.id.encode()).digest(), pair.id


def _require_unique(pairs: Sequence[Pair]) -> None:
    repeated = sorted(i for i, n in Counter(pair.id for pair in pairs).items() if n > 1)
    if repeated:
        raise DataError(
            f"{len(repeated)} pair id(s) occur in more than one ask, for example "
            f"{', '.join(repeated[:5])}; parse again"
        )


def _answers(pairs: Sequence[Pair]) -> dict[str, int]:
    counts = Counter(pair.answer for pair in pairs)
    return {answer: counts[answer] for answer in ANSWERS}
