"""Worked examples for a teacher that answers questions: drawn from train by seed, never held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import zip_longest

from medslm.data.records import ANSWERS, Question
from medslm.errors import LeakageError, ParamsError


def showable(
    train: Sequence[Question], dev: Sequence[Question], test: Sequence[Question]
) -> list[Question]:
    """Return the train questions that no fold holds out; LeakageError if one is a test question.

    With several folds, one's train questions are another's dev ones. Every held-out question is
    asked once, after the same examples, so only what all folds train on can be shown.
    """
    _require_apart(train, test, "test")
    held_out = {question.pmid for question in dev}
    return [question for question in train if question.pmid not in held_out]


def draw_shots(
    train: Sequence[Question], *, asked: Sequence[Question], count: int, seed: int
) -> list[Question]:
    """Return ``count`` worked examples with the answers as even as train allows.

    Yes, no and maybe take turns, so three or more show all of them. A question's rank depends on
    ``seed`` and its PMID alone: one more example only adds itself, and the order, by rank, shows
    the answers mixed. Raises LeakageError if a train question is also ``asked``, ParamsError if
    there are too few.
    """
    _require_apart(train, asked, "held-out")
    ranked = sorted(train, key=lambda question: _rank(seed, question.pmid))
    by_answer = [[q for q in ranked if q.answer == answer] for answer in ANSWERS]
    in_turns = [q for turn in zip_longest(*by_answer) for q in turn if q is not None]
    if count > len(in_turns):
        raise ParamsError(
            f"{count} worked examples are asked for and {len(in_turns)} questions can be shown, "
            "those that every fold of split.folds trains on: lower shots or use fewer folds"
        )
    drawn = {question.pmid for question in in_turns[:count]}
    return [question for question in ranked if question.pmid in drawn]


def _rank(seed: int, pmid: str) -> bytes:
    return hashlib.sha256(f"{seed}:{pmid}:shot".encode()).digest()


def _require_apart(train: Sequence[Question], other: Sequence[Question], what: str) -> None:
    shared = sorted({q.pmid for q in train} & {q.pmid for q in other})
    if shared:
        raise LeakageError(
            f"{len(shared)} {what} question(s) are among those to show as worked examples, for "
            f"example {', '.join(shared[:5])}: split again"
        )
