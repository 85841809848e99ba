"""The training set of a variant: every real question, then the kept pairs of its asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medslm.data.records import Example, Pair, Question
from medslm.errors import DataError, LeakageError


def mix(train: Sequence[Question], kept: Mapping[str, Sequence[Pair]]) -> list[Example]:
    """Return the examples of a variant in a fixed order: real ones in file order, then ask by ask.

    Every real question stays: the last tenth of human data is the most expensive to lose (Ashok &
    May 2025, arXiv 2410.13098). Raises DataError if there is nothing to train on, LeakageError for a
    pair whose abstract is not a training one.
    """
    if not train:
        raise DataError("the training split is empty: nothing to train on")
    by_pmid = {q.pmid: q for q in train}
    examples = [_real(q) for q in train]
    for ask, pairs in kept.items():
        for pair in pairs:
            if pair.pmid not in by_pmid:
                raise LeakageError(
                    f"pair {pair.id} of {ask} belongs to PMID {pair.pmid}, which is not a training one"
                )
            examples.append(
                Example(
                    pmid=pair.pmid,
                    question=pair.question,
                    context=by_pmid[pair.pmid].context,
                    answer=pair.answer,
                    source=ask,
                    pair_id=pair.id,
                )
            )
    return examples


def _real(q: Question) -> Example:
    if q.answer is None:
        raise DataError(f"PMID {q.pmid}: a training question without an answer")
    return Example(q.pmid, q.question, q.context, q.answer, "real", None)
