"""What the requests of an ask are after: which answer, and which side of a study."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate

from medslm.data.records import ANSWERS, Answer, Question
from medslm.errors import DataError, ParamsError
from medslm.teacher.prompts import FOCI, Aim

# Shares of the answers asked for in new questions: PQA-L's own are .55/.34/.11 (PubMedQA, Jin et
# al. 2019, table 2); moved towards equal because macro-F1 counts the rare classes as much as the
# common one.
ANSWER_SHARES: dict[Answer, float] = {"yes": 0.45, "no": 0.35, "maybe": 0.20}

Shares = Mapping[Answer, Fraction]
Wanted = Callable[[str, int], Answer]

_FOCI = tuple(FOCI)
_SUM_TOLERANCE = 0.011  # so that three times .33 will do
_PRECISION = 10**6


def aims_of(
    questions: Sequence[Question],
    *,
    strategy: str,
    per_question: int,
    seed: int,
    answers: Mapping[Answer, float],
) -> Callable[[Question, int], Aim]:
    """Return what request ``index`` about a question is after.

    A new question has a wanted answer and a focus, a counterfactual an answer that is not the gold
    one; among the questions with one gold answer the others keep the ratio of their shares. Foci
    follow each other from a start of the study's own. Other strategies have neither. Raises
    ParamsError for shares that are none, DataError for a counterfactual without a gold answer.
    """
    if strategy == "new":
        wanted = wanted_answers(
            [q.pmid for q in questions], per_question, seed=seed, shares=_shares(answers)
        )
        return lambda q, index: Aim(index + 1, wanted(q.pmid, index), _focus(seed, q.pmid, index))
    if strategy == "counterfactual":
        turned = _turned(questions, per_question, seed, _shares(answers))
        return lambda q, index: Aim(index + 1, turned[q.answer](q.pmid, index), "")
    plain = [Aim(index + 1, "", "") for index in range(per_question)]
    return lambda _question, index: plain[index]


def wanted_answers(pmids: Sequence[str], per_question: int, *, seed: int, shares: Shares) -> Wanted:
    """Return the answer to aim at, by PMID and index.

    Over the requests of the first indices together, however many, each answer comes as often as
    its share says, to within one. The order of the PMIDs does not matter, and a further index
    changes no earlier one. A further PMID changes the aim of a few others, however many there are:
    PMIDs stand in the order of their hashes, the answers in blocks, and only next to a border
    between two blocks can one move over it. As the blocks' order turns by one from index to index,
    a study's answers differ at first: its second from its first where no share is above a half.
    """
    ranked = sorted(pmids, key=lambda pmid: (_digest(seed, pmid, "answer"), pmid))
    ranks = {pmid: rank for rank, pmid in enumerate(ranked)}
    order = sorted((a for a in ANSWERS if shares.get(a)), key=lambda a: -shares[a])
    blocks = []
    before = dict.fromkeys(order, 0)
    for index in range(per_question):
        total = apportion(len(ranked) * (index + 1), shares)
        turn = index % len(order)
        turned = order[turn:] + order[:turn]
        borders = list(accumulate(total[answer] - before[answer] for answer in turned))
        blocks.append((turned, borders))
        before = total

    def wanted(pmid: str, index: int) -> Answer:
        turned, borders = blocks[index]
        return turned[bisect_right(borders, ranks[pmid])]

    return wanted


def apportion(seats: int, shares: Shares) -> dict[Answer, int]:
    """Share out ``seats`` by Webster's method: whole numbers within one of each share.

    More seats never mean fewer for one of them; for up to three answers the method stays between
    the quotas rounded down and up (Balinski & Young, Fair Representation, 1982), so it is enough
    to place what rounding down leaves over.
    """
    counts = {answer: int(share * seats) for answer, share in shares.items() if share}
    while sum(counts.values()) < seats:
        first = max(counts, key=lambda answer: shares[answer] / (2 * counts[answer] + 1))
        counts[first] += 1
    return counts


def _turned(
    questions: Sequence[Question], per_question: int, seed: int, shares: Shares
) -> dict[Answer | None, Wanted]:
    """Return for each gold answer how its questions are to be answered instead."""
    groups: dict[Answer, list[str]] = {}
    for question in questions:
        if question.answer is None:
            raise DataError(f"PMID {question.pmid}: a counterfactual needs a gold answer to turn")
        groups.setdefault(question.answer, []).append(question.pmid)
    turned: dict[Answer | None, Wanted] = {}
    for gold, pmids in groups.items():
        others = {answer: share for answer, share in shares.items() if answer != gold}
        total = sum(others.values())
        if not total:
            raise ParamsError(f"answers: with {gold} alone, no {gold} can be turned into another")
        kept = {answer: share / total for answer, share in others.items()}
        turned[gold] = wanted_answers(pmids, per_question, seed=seed, shares=kept)
    return turned


def _shares(answers: Mapping[Answer, float]) -> dict[Answer, Fraction]:
    """Return shares as fractions that sum to exactly one; ParamsError if they are no shares."""
    values = [answers.get(answer, 0) for answer in ANSWERS]
    sound = all(math.isfinite(value) and value >= 0 for value in values)
    if set(answers) - set(ANSWERS) or not sound or abs(math.fsum(values) - 1) > _SUM_TOLERANCE:
        raise ParamsError(
            f"answers: expected shares of {', '.join(ANSWERS)} that sum to 1 (got {dict(answers)})"
        )
    shares = {
        a: Fraction(v).limit_denominator(_PRECISION) for a, v in zip(ANSWERS, values, strict=True)
    }
    total = sum(shares.values(), start=Fraction(0))
    return {answer: share / total for answer, share in shares.items()}


def _focus(seed: int, pmid: str, index: int) -> str:
    return _FOCI[(_digest(seed, pmid, "focus") + index) % len(_FOCI)]


def _digest(seed: int, pmid: str, use: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{pmid}:{use}".encode()).digest()[:8], "big")
