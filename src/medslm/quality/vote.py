"""Ask a verifier blind, several times: it sees abstract and question, never what the teacher claims."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from medslm.data.records import ANSWERS, Answer, Ballot, Pair, Question
from medslm.errors import DataError, Diverged
from medslm.quality.agreement import DIGITS, Vote, agreement, share

# The orders in which a prompt names the answers, one per vote. Models lean towards what stands first
# or last; in the first three each answer stands once in every place, so such a lean shows as votes
# that differ. Sampling one prompt again would only repeat the same opinion.
ORDERS: tuple[tuple[Answer, ...], ...] = (
    ("yes", "no", "maybe"),
    ("no", "maybe", "yes"),
    ("maybe", "yes", "no"),
    ("maybe", "no", "yes"),
    ("no", "yes", "maybe"),
    ("yes", "maybe", "no"),
)
_SUM_TOLERANCE = 1e-3


class Item(NamedTuple):
    """What one vote is about, and the order in which the answers are offered."""

    context: str
    question: str
    options: tuple[Answer, ...]


# Items in, one probability per answer out, in the same order.
Score = Callable[[Sequence[Item]], Sequence[Mapping[Answer, float]]]


class Poll(NamedTuple):
    """The votes on one question, their mean probabilities, and the answer that most of them gave.

    ``consistency`` is the share of the votes that gave the most frequent answer.
    """

    probabilities: dict[Answer, float]
    votes: tuple[Answer | None, ...]
    answer: Answer | None
    consistency: float


def poll(
    asked: Sequence[tuple[str, str]], *, score: Score, votes: int, abstain_below: float
) -> list[Poll]:
    """Let a verifier vote ``votes`` times on each (context, question), in order.

    A vote is an abstention if its best answer has less than ``abstain_below`` or shares its place.
    Raises Diverged for a probability that is none.
    """
    items = [
        Item(context, question, order) for context, question in asked for order in ORDERS[:votes]
    ]
    scores = _checked(score(items), len(items))
    return [
        _counted(scores[start : start + votes], abstain_below)
        for start in range(0, len(scores), votes)
    ]


def choose(probabilities: Mapping[Answer, float], *, abstain_below: float) -> Answer | None:
    """Return the most probable answer; None if it is below the bound or not alone at the top."""
    best = max(ANSWERS, key=lambda answer: probabilities[answer])
    alone = sum(probabilities[answer] == probabilities[best] for answer in ANSWERS) == 1
    return best if alone and probabilities[best] >= abstain_below else None


def elected(votes: Sequence[Answer | None]) -> Answer | None:
    """Return the answer with more votes than any other; None on a tie or without a vote."""
    ranked = Counter(vote for vote in votes if vote is not None).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def asked_about(pairs: Sequence[Pair], questions: Sequence[Question]) -> list[tuple[str, str]]:
    """Return (context, question) of every pair, in order; DataError for a pair without its source."""
    sources = {question.pmid: question for question in questions}
    orphans = [pair.id for pair in pairs if pair.pmid not in sources]
    if orphans:
        raise DataError(
            f"{len(orphans)} pair(s) have no source in the parts to vote on, for example "
            f"{', '.join(orphans[:5])}; parse again with the present split"
        )
    return [(pair.abstract(sources[pair.pmid]), pair.question) for pair in pairs]


def ballots(
    pairs: Sequence[Pair], polls: Sequence[Poll], *, verifier: str, weight: float
) -> list[Ballot]:
    """Return one ballot per pair, in order."""
    return [
        Ballot(pair.id, verifier, *found, weight=weight)
        for pair, found in zip(pairs, polls, strict=True)
    ]


def support(ballot: Ballot, claimed: Answer) -> float:
    """Return how far the votes let a claim stand, 0 to 1: one less the weighted share against it.

    Abstentions speak against nothing, and a verifier of weight 0 cannot speak against anything.
    """
    against = sum(vote not in (None, claimed) for vote in ballot.votes)
    return 1 - ballot.weight * against / len(ballot.votes)


def real_sample(questions: Sequence[Question], size: int) -> list[Question]:
    """Return the labelled questions whose PMIDs have the smallest SHA-256.

    Adding a question then changes at most one of them.
    """
    labelled = [question for question in questions if question.answer is not None]
    ranked = sorted(labelled, key=lambda question: hashlib.sha256(question.pmid.encode()).digest())
    return ranked[:size]


def measure(labelled: Sequence[Question], polls: Sequence[Poll]) -> dict[str, Any]:
    """Return how well a verifier answers real questions, beside always saying the same.

    Shares are None where nothing was answered.
    """
    found = [
        Vote(question.answer, made.answer)
        for question, made in zip(labelled, polls, strict=True)
        if question.answer is not None
    ]
    gold = Counter(vote.claimed for vote in found)
    return {
        **agreement(found),
        "majority_share": share(max(gold.values(), default=0), len(found)),
        "consistency": consistency(polls),
    }


def on_claims(pairs: Sequence[Pair], votes: Sequence[Ballot]) -> dict[str, Any]:
    """Return how far the verifier agrees with what was claimed."""
    claims = [Vote(pair.answer, ballot.answer) for pair, ballot in zip(pairs, votes, strict=True)]
    return {**agreement(claims), "consistency": consistency(votes)}


def by_teacher_and_strategy(pairs: Sequence[Pair], votes: Sequence[Ballot]) -> dict[str, Any]:
    """Return the same per ``teacher/strategy``."""
    groups: dict[str, tuple[list[Pair], list[Ballot]]] = {}
    for pair, ballot in zip(pairs, votes, strict=True):
        own = groups.setdefault(f"{pair.teacher}/{pair.strategy}", ([], []))
        own[0].append(pair)
        own[1].append(ballot)
    return {name: on_claims(*own) for name, own in sorted(groups.items())}


def consistency(polls: Sequence[Poll | Ballot]) -> float | None:
    """Return the mean consistency; None without polls. At 1 more votes than one tell nothing new."""
    total = math.fsum(made.consistency for made in polls)
    return round(total / len(polls), DIGITS) if polls else None


def _counted(scores: Sequence[Mapping[Answer, float]], abstain_below: float) -> Poll:
    votes = tuple(choose(row, abstain_below=abstain_below) for row in scores)
    cast = Counter(vote for vote in votes if vote is not None)
    mean = {a: round(math.fsum(row[a] for row in scores) / len(scores), DIGITS) for a in ANSWERS}
    most = max(cast.values(), default=0)
    return Poll(mean, votes, elected(votes), round(most / len(votes), DIGITS))


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
