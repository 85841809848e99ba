"""Ask a verifier blind: it sees abstract and question, never what the teacher claims."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from medslm.data.records import ANSWERS, Answer, Ballot, Pair, Question
from medslm.errors import DataError, Diverged

# (context, question) pairs in, one probability per answer out, in the same order.
Score = Callable[[Sequence[tuple[str, str]]], Sequence[Mapping[Answer, float]]]

DIGITS = 6  # more than bf16 carries, few enough that a last bit does not change the file
_SUM_TOLERANCE = 1e-3


class Vote(NamedTuple):
    """What was claimed (a teacher's answer, or the gold one) and what the verifier says."""

    claimed: Answer
    voted: Answer | None


def ballots(
    pairs: Sequence[Pair],
    questions: Sequence[Question],
    *,
    score: Score,
    verifier: str,
    abstain_below: float,
) -> list[Ballot]:
    """Return one ballot per pair, in order.

    The verifier abstains if its best answer has less than ``abstain_below`` or shares its place.
    Raises DataError for a pair without its source, Diverged for a probability that is none.
    """
    sources = {question.pmid: question for question in questions}
    orphans = [pair.id for pair in pairs if pair.pmid not in sources]
    if orphans:
        raise DataError(
            f"{len(orphans)} pair(s) have no source in the parts to vote on, for example "
            f"{', '.join(orphans[:5])}; parse again with the present split"
        )
    scores = score([(pair.abstract(sources[pair.pmid]), pair.question) for pair in pairs])
    return [
        Ballot(pair.id, verifier, probabilities, choose(probabilities, abstain_below=abstain_below))
        for pair, probabilities in zip(pairs, _checked(scores, len(pairs)), strict=True)
    ]


def choose(probabilities: Mapping[Answer, float], *, abstain_below: float) -> Answer | None:
    """Return the most probable answer; None if it is below the bound or not alone at the top."""
    best = max(ANSWERS, key=lambda answer: probabilities[answer])
    alone = sum(probabilities[answer] == probabilities[best] for answer in ANSWERS) == 1
    return best if alone and probabilities[best] >= abstain_below else None


def measure(
    questions: Sequence[Question], *, score: Score, sample: int, abstain_below: float
) -> dict[str, Any]:
    """Return how well the verifier answers real labelled questions, beside always saying the same.

    The ``sample`` questions are those whose PMID has the smallest SHA-256, so that adding a
    question changes at most one of them. Shares are None where nothing was answered.
    """
    labelled = [question for question in questions if question.answer is not None]
    chosen = sorted(labelled, key=lambda question: hashlib.sha256(question.pmid.encode()).digest())
    chosen = chosen[:sample]
    scores = score([(question.context, question.question) for question in chosen])
    votes = [
        Vote(question.answer, choose(probabilities, abstain_below=abstain_below))
        for question, probabilities in zip(chosen, _checked(scores, len(chosen)), strict=True)
        if question.answer is not None
    ]
    gold = Counter(vote.claimed for vote in votes)
    return {
        **agreement(votes),
        "majority_share": _share(max(gold.values(), default=0), len(votes)),
    }


def agreement(votes: Iterable[Vote]) -> dict[str, Any]:
    """Count claimed against voted: n, answered, agreed, their share, Cohen's kappa, the table.

    Shares and kappa leave abstentions out and are None when nothing is left.
    """
    counts = Counter(votes)
    table = {c: {v: counts[Vote(c, v)] for v in ANSWERS} for c in ANSWERS}
    answered = sum(sum(row.values()) for row in table.values())
    abstained = sum(count for vote, count in counts.items() if vote.voted is None)
    agreed = sum(table[answer][answer] for answer in ANSWERS)
    return {
        "n": answered + abstained,
        "answered": answered,
        "abstained": abstained,
        "agreed": agreed,
        "agreement": _share(agreed, answered),
        "kappa": kappa(table),
        "table": table,
    }


def kappa(table: Mapping[Answer, Mapping[Answer, int]]) -> float | None:
    """Return Cohen's kappa of a square table (Cohen 1960): agreement beyond what chance gives.

    None when it is undefined: an empty table, or both sides always giving the same one answer.
    """
    total = sum(sum(row.values()) for row in table.values())
    if total == 0:
        return None
    rows = {answer: sum(table[answer].values()) for answer in ANSWERS}
    columns = {answer: sum(row[answer] for row in table.values()) for answer in ANSWERS}
    by_chance = sum(rows[answer] * columns[answer] for answer in ANSWERS)  # times total squared
    if by_chance == total * total:
        return None
    observed = sum(table[answer][answer] for answer in ANSWERS)
    return round((observed * total - by_chance) / (total * total - by_chance), DIGITS)


def _checked(scores: Sequence[Mapping[Answer, float]], expected: int) -> list[dict[Answer, float]]:
    if len(scores) != expected:
        raise DataError(f"the verifier gave {len(scores)} scores for {expected} questions")
    checked = []
    for number, row in enumerate(scores):
        values = [row[answer] for answer in ANSWERS]
        sound = all(math.isfinite(value) and value >= 0 for value in values)
        if not sound or abs(math.fsum(values) - 1) > _SUM_TOLERANCE:
            raise Diverged(
                f"the verifier's scores of question {number} are no probabilities: {values}; "
                "its weights are damaged or the model does not fit"
            )
        checked.append({answer: round(row[answer], DIGITS) for answer in ANSWERS})
    return checked


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, DIGITS) if whole else None
