"""The training set of a variant: every real question, then the kept pairs of its asks."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from medslm.data.records import ANSWERS, REAL, Answer, Example, Pair, Question
from medslm.errors import DataError, LeakageError

DUPLICATE = "duplicate"
CONTRADICTION = "contradiction"
OVER_QUOTA = "over_quota"

# What makes two examples the same but for their answers: PMID, question, abstract.
_Asked = tuple[str, str, str]


class Mix(NamedTuple):
    """The examples of a variant, and how many pairs were left out of it by reason."""

    examples: list[Example]
    left_out: dict[str, int]


def mix(
    train: Sequence[Question],
    unlabelled: Sequence[Question],
    kept: Mapping[str, Sequence[Pair]],
) -> Mix:
    """Return the examples of a variant in a fixed order: real ones in file order, then ask by ask.

    Every real question stays: the last tenth of human data is the most expensive to lose (Ashok &
    May 2025, arXiv 2410.13098). No question is trained on twice: a pair that asks what stands in
    the mix already, about the same abstract, is left out as a duplicate, and where asks answer the
    same question differently all their pairs are left out as contradictions, or those that
    differ from the expert. Raises DataError if there is nothing to train on, LeakageError for a
    pair whose abstract is neither a training nor an unlabelled one.
    """
    if not train:
        raise DataError("the training split is empty: nothing to train on")
    sources = {q.pmid: q for q in [*train, *unlabelled]}
    examples = [_real(q) for q in train]
    offered = [_generated(pair, sources, ask) for ask, pairs in kept.items() for pair in pairs]
    added, left_out = _sift(offered, {_asked(e): e.answer for e in examples})
    return Mix([*examples, *added], left_out)


def repeated(examples: Sequence[Example], rows: int, *, seed: str) -> list[Example]:
    """Return ``rows`` examples: whole passes over all, then a remainder drawn by ``seed``, in file order.

    DataError if there are more than ``rows`` already: nothing is left out of a training set.
    """
    if len(examples) > rows:
        raise DataError(f"{len(examples)} examples cannot be repeated up to {rows}: there are more")
    passes, rest = divmod(rows, len(examples))
    chosen = sorted(random.Random(f"as-many-as:{seed}").sample(range(len(examples)), rest))
    return [*list(examples) * passes, *(examples[i] for i in chosen)]


def counts_of(mixed: Mix, asks: Sequence[str]) -> dict[str, Any]:
    """Return rows by source and answer and what was left out by reason, for the metrics.

    What there is none of is 0, so that two commits can be compared key by key.
    """
    rows = Counter((example.source, example.answer) for example in mixed.examples)
    return {
        "rows": len(mixed.examples),
        "by_source": {
            source: {answer: rows[source, answer] for answer in ANSWERS} for source in (REAL, *asks)
        },
        "left_out": {
            reason: mixed.left_out.get(reason, 0)
            for reason in (CONTRADICTION, DUPLICATE, OVER_QUOTA)
        },
    }


def _sift(offered: Sequence[Example], gold: Mapping[_Asked, Answer]) -> Mix:
    """Return those of the generated examples that ask something new and that none contradicts."""
    claims: defaultdict[_Asked, set[Answer]] = defaultdict(set)
    for example in offered:
        claims[_asked(example)].add(example.answer)
    taken = set(gold)
    added: list[Example] = []
    left_out: Counter[str] = Counter()
    for example in offered:
        asked = _asked(example)
        right = {gold[asked]} if asked in gold else claims[asked]
        if right != {example.answer}:
            left_out[CONTRADICTION] += 1
        elif asked in taken:
            left_out[DUPLICATE] += 1
        else:
            taken.add(asked)
            added.append(example)
    return Mix(added, dict(sorted(left_out.items())))


def _real(q: Question) -> Example:
    if q.answer is None:
        raise DataError(f"PMID {q.pmid}: a training question without an answer")
    return Example(q.pmid, q.question, q.context, q.answer, REAL, None)


def _generated(pair: Pair, sources: Mapping[str, Question], ask: str) -> Example:
    source = sources.get(pair.pmid)
    if source is None:
        raise LeakageError(
            f"pair {pair.id} of {ask} belongs to PMID {pair.pmid}, which is not a training one"
        )
    return Example(
        pmid=pair.pmid,
        question=pair.question,
        context=pair.abstract(source),
        answer=pair.answer,
        source=ask,
        pair_id=pair.id,
    )


def _asked(example: Example) -> _Asked:
    """Return what an example asks, whatever the case of its letters and its blanks."""
    return example.pmid, _plain(example.question), _plain(example.context)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
