"""Keep or drop: every generated pair lands on one side, a dropped one with all its reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from medslm.data.records import Ballot, Dropped, Pair, Question
from medslm.errors import DataError
from medslm.quality.decisions import Decision, overruled, verdicts
from medslm.quality.leakage import (
    HeldOut,
    held_out_abstract,
    held_out_question,
    require_disjoint,
    require_no_test_source,
)
from medslm.quality.rules import Case, Drop, Limits, reasons
from medslm.quality.siblings import contradicting, repeating
from medslm.quality.vote import support

_ORDER = {reason: number for number, reason in enumerate(Drop)}


class Checked(NamedTuple):
    """Every pair once, both sides in the order the pairs came in."""

    kept: list[Pair]
    dropped: list[Dropped]


def check(
    pairs: Sequence[Pair],
    ballots: Sequence[Ballot],
    *,
    train: Sequence[Question],
    unlabelled: Sequence[Question],
    dev: Sequence[Question],
    test: Sequence[Question],
    limits: Limits,
    leaking: Collection[str] = (),
    decisions: Sequence[Decision] = (),
) -> Checked:
    """Apply every rule to every pair, then what people decided; the order of the pairs changes no verdict.

    ``leaking`` are ids that the guard found close to a held-out text. A pair that a person dropped
    contradicts no other any more. Checking what was kept keeps it all. Raises LeakageError if a pair
    comes from a test question or the parts overlap, DataError if ids repeat or the ballots are not
    those of these pairs.
    """
    require_disjoint(train, unlabelled, dev, test)
    require_no_test_source(pairs, test)
    require_matching(pairs, ballots)
    held_out = [*dev, *test]
    why = _single(pairs, ballots, sources=[*train, *unlabelled], held_out=held_out, limits=limits)
    for pair_id in _about_held_out(pairs, unlabelled, held_out, limits.leak_overlap):
        why[pair_id].add(Drop.LEAKS_HELD_OUT)
    for pair_id in set(leaking):
        why[pair_id].add(Drop.LEAKS_HELD_OUT)
    said = verdicts(pairs, decisions)
    standing = [pair for pair in pairs if said.get(pair.id) != "drop"]
    for pair_id in contradicting(standing, limits.near_identical):
        why[pair_id].add(Drop.CONTRADICTION)
    why = {pair_id: overruled(found, said.get(pair_id)) for pair_id, found in why.items()}
    # a pair with another reason ranks last, so that a bad twin drops no good one
    good_first = {pair.id: (bool(why[pair.id]), pair.id) for pair in pairs}
    repeats = repeating(pairs, limits.near_duplicate, lambda pair: good_first[pair.id])
    for pair_id, reason in repeats.items():
        why[pair_id].add(reason)
    kept = [pair for pair in pairs if not why[pair.id]]
    dropped = [Dropped(pair, _sorted(why[pair.id])) for pair in pairs if why[pair.id]]
    return Checked(kept, dropped)


def require_matching(pairs: Sequence[Pair], ballots: Sequence[Ballot]) -> None:
    """Raise DataError unless pair ids are unique and each pair has exactly one ballot."""
    repeated = sorted(i for i, n in Counter(pair.id for pair in pairs).items() if n > 1)
    if repeated:
        raise DataError(f"{len(repeated)} pair id(s) repeat, for example {', '.join(repeated[:5])}")
    times = Counter(ballot.pair_id for ballot in ballots)
    ids = {pair.id for pair in pairs}
    odd = sorted(i for i in ids | set(times) if times[i] != 1 or i not in ids)
    if odd:
        raise DataError(
            f"pairs and ballots do not match: {len(odd)} id(s) lack a counterpart or repeat, "
            f"for example {', '.join(odd[:5])}; vote again on the present pairs"
        )


def _single(
    pairs: Sequence[Pair],
    ballots: Sequence[Ballot],
    *,
    sources: Sequence[Question],
    held_out: Sequence[Question],
    limits: Limits,
) -> dict[str, set[Drop]]:
    """Return the reasons that need no other pair; without a source there is just one."""
    by_pmid = {question.pmid: question for question in sources}
    votes = {ballot.pair_id: ballot for ballot in ballots}
    index = HeldOut(held_out, text=held_out_question, overlap=limits.leak_overlap)
    why: dict[str, set[Drop]] = {}
    for pair in pairs:
        source = by_pmid.get(pair.pmid)
        if source is None:
            why[pair.id] = {Drop.LEAKS_HELD_OUT}
            continue
        supported = support(votes[pair.id], pair.answer)
        why[pair.id] = reasons(Case(pair, source, supported, limits))
        if index.has(pair.question, beside=pair.pmid):
            why[pair.id].add(Drop.LEAKS_HELD_OUT)
    return why


def _about_held_out(
    pairs: Iterable[Pair],
    unlabelled: Sequence[Question],
    held_out: Sequence[Question],
    overlap: float,
) -> set[str]:
    """Return the ids of pairs about an unlabelled abstract that is a held-out one in other clothes.

    A PMID tells the parts of one file apart, but not a second publication of the same study.
    """
    sources = {question.pmid: question for question in unlabelled}
    asked = {pair.pmid for pair in pairs} & set(sources)
    if not asked:
        return set()
    index = HeldOut(held_out, text=held_out_abstract, overlap=overlap)
    again = {pmid for pmid in asked if index.has(sources[pmid].context, beside=pmid)}
    return {pair.id for pair in pairs if pair.pmid in again}


def _sorted(why: set[Drop]) -> tuple[str, ...]:
    return tuple(reason.value for reason in sorted(why, key=_ORDER.__getitem__))
