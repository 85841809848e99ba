"""What stands beside accuracy and macro-F1: per-class scores, intervals, likelihood, PMID checks.

Functions take two sequences of equal length in the same order: the gold answers and what was
answered, where None means that no answer was given: wrong, never "maybe", and always counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from medslm.data.records import ANSWERS, Answer
from medslm.data.scores import f1
from medslm.errors import DataError, Diverged

SMALLEST_PROBABILITY = 2.220446049250313e-16  # machine epsilon, where scikit-learn's log_loss clips
NAMED_AT_MOST = 5


class ClassScore(NamedTuple):
    """Precision, recall and F1 of one answer; ``support`` is how many questions have it as gold."""

    precision: float
    recall: float
    f1: float
    support: int


def class_scores(
    gold: Sequence[Answer], answers: Sequence[Answer | None]
) -> dict[Answer, ClassScore]:
    """Return precision, recall and F1 per answer; 0 where undefined (``zero_division=0``)."""
    require_some(gold, answers)
    pairs = Counter(zip(gold, answers, strict=True))
    scores: dict[Answer, ClassScore] = {}
    for label in ANSWERS:
        hits = pairs[label, label]
        support = sum(count for (g, _), count in pairs.items() if g == label)
        given = sum(count for (_, a), count in pairs.items() if a == label)
        scores[label] = ClassScore(
            precision=_ratio(hits, given),
            recall=_ratio(hits, support),
            f1=f1(gold, answers, label),
            support=support,
        )
    return scores


def confusion(
    gold: Sequence[Answer], answers: Sequence[Answer | None]
) -> tuple[tuple[int, ...], ...]:
    """Count gold (rows: yes, no, maybe) against answered (columns: yes, no, maybe, unanswered)."""
    pairs = Counter(zip(gold, answers, strict=True))
    return tuple(tuple(pairs[g, a] for a in (*ANSWERS, None)) for g in ANSWERS)


def nll(gold: Sequence[Answer], probabilities: Sequence[Mapping[Answer, float]]) -> float | None:
    """Return the mean negative log-likelihood of the gold answers in nats.

    None if a row has no probabilities. They are scaled to sum to one and clipped at machine
    epsilon, as scikit-learn's ``log_loss`` does: a certain wrong answer costs 36.04, not infinity.
    """
    require_some(gold, probabilities)
    if not all(probabilities):
        return None
    terms = []
    for label, row in zip(gold, probabilities, strict=True):
        share = row[label] / math.fsum(row.values())
        terms.append(-math.log(max(share, SMALLEST_PROBABILITY)))
    return math.fsum(terms) / len(terms)


def argmax(probabilities: Mapping[Answer, float]) -> Answer:
    """Return the most probable answer; of equal ones the first in the order yes, no, maybe."""
    return max(ANSWERS, key=lambda label: probabilities[label])


def require_distribution(probabilities: Mapping[Answer, float], what: str) -> None:
    """Raise unless ``probabilities`` is empty (a model that gives none) or one share per answer.

    Diverged when one is not finite; DataError when one is negative or missing, or when the sum is
    more than 0.001 away from one.
    """
    if not probabilities:
        return
    if not all(math.isfinite(p) for p in probabilities.values()):
        raise Diverged(f"{what}: probabilities are {dict(probabilities)}: train this student again")
    total = math.fsum(probabilities.values())
    # 0.001 lets three numbers rounded to four digits pass
    if (
        set(probabilities) != set(ANSWERS)
        or min(probabilities.values()) < 0
        or abs(total - 1) > 1e-3
    ):
        raise DataError(
            f"{what}: probabilities are {dict(probabilities)}, not one share each for "
            f"{', '.join(ANSWERS)} that sum to 1: write the predictions again"
        )


def require_exactly(expected: Iterable[str], found: Sequence[str], what: str) -> None:
    """Raise DataError naming up to five PMIDs a fault unless ``found`` is ``expected``, once."""
    wanted, counts = set(expected), Counter(found)
    faults = {
        "missing": sorted(wanted - counts.keys()),
        "not in the split": sorted(counts.keys() - wanted),
        "repeated": sorted(pmid for pmid, count in counts.items() if count > 1),
    }
    told = [f"{len(pmids)} {fault} ({_some(pmids)})" for fault, pmids in faults.items() if pmids]
    if told:
        raise DataError(
            f"{what}: the PMIDs are not all and only the {len(wanted)} expected: {', '.join(told)}"
        )


def require_some(gold: Sequence[object], other: Sequence[object]) -> None:
    """Raise DataError unless there is at least one question and a prediction for each."""
    if not gold:
        raise DataError("there is no question to score: the split is empty")
    if len(gold) != len(other):
        raise DataError(f"{len(gold)} gold answers but {len(other)} predictions: they must pair up")


def _some(pmids: Sequence[str]) -> str:
    more = ", ..." if len(pmids) > NAMED_AT_MOST else ""
    return ", ".join(pmids[:NAMED_AT_MOST]) + more


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
