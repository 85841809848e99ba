"""One answer per question from the answers of several students."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from medslm.data.records import ANSWERS, Answer, Prediction
from medslm.errors import DataError
from medslm.evaluation.metrics import argmax


class Pooled(NamedTuple):
    """One answer per question, from one student or several; ``probabilities`` may be empty."""

    answer: Answer | None
    probabilities: Mapping[Answer, float]


Rows = Mapping[str, Sequence[Prediction]]  # by PMID


def pool(rows: Rows) -> dict[str, Pooled]:
    """Return one answer per question: a single row as it is, several by their mean probabilities.

    Rows without an answer abstain: they have no say in the mean; if all do, there is no answer.
    Rows without probabilities must all say the same, which is then the answer; else DataError.
    """
    return {pmid: _pool_one(pmid, group) for pmid, group in sorted(rows.items())}


def rows_of(predictions: Iterable[Prediction], split: str) -> dict[str, list[Prediction]]:
    """Return the predictions of a split by PMID."""
    rows: dict[str, list[Prediction]] = defaultdict(list)
    for row in predictions:
        if row.split == split:
            rows[row.pmid].append(row)
    return dict(rows)


def _pool_one(pmid: str, rows: Sequence[Prediction]) -> Pooled:
    if len(rows) == 1:
        return Pooled(rows[0].answer, rows[0].probabilities)
    answered = [row for row in rows if row.answer is not None]
    if not answered:
        return Pooled(None, {})
    if not all(row.probabilities for row in answered):
        if len({row.answer for row in answered}) > 1:
            raise DataError(
                f"PMID {pmid}: {len(answered)} different answers without probabilities cannot be "
                "averaged: score one fold and one seed at a time"
            )
        return Pooled(answered[0].answer, {})  # what all say, any mean of theirs says too
    # fsum is exact, so the order of the rows cannot change a digit
    mean = {
        label: math.fsum(r.probabilities[label] for r in answered) / len(answered)
        for label in ANSWERS
    }
    return Pooled(argmax(mean), mean)
